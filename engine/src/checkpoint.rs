//! Checkpoints on disk: a model directory with a folder `training/` beside the model's files. Of a run that trains adapters
//! it holds these and no other weights: with the base model's in `base/` it is a model all the same.
//!
//! A checkpoint is written under another name, synced, and renamed, so a folder called `step-N` is always whole; its
//! manifest tells whether it still is. The state is copied on the training thread and written by another one, so
//! training goes on meanwhile; what is trained does not depend on when a checkpoint is done.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::{EngineError, Result};
use crate::export::{self, FileHash, ModelFiles};
use crate::fingerprint::Fingerprint;
use crate::observer::Observer;
use crate::optim::AdamW;
use crate::params::{Export, ParamTable, copies};
use crate::tasks::ExampleTable;
use crate::training::{Checkpointer, RunProgress, State};
use crate::weights::{self, Tensors, Weights};
use finetuned::disk::Reserve;
use finetuned::domain::checkpoint::Metrics;
use finetuned::domain::example::columns::CHECKPOINT_FILE;
use finetuned::domain::model::TRAINING_STATE_FOLDER;
use finetuned::domain::run::TrainerMessage;

/// The version of the format below.
const VERSION: u32 = 1;
/// The hashes of all other files of a checkpoint, in its `training/`.
const MANIFEST: &str = "manifest.json";

#[derive(Serialize, Deserialize)]
struct SavedState {
    version: u32,
    /// What the run must have in common with the one that saved.
    fingerprint: String,
    progress: RunProgress,
}

/// Saves checkpoints of one run under `directory`.
pub struct CheckpointWriter<'a> {
    target: Arc<Target>,
    observer: &'a dyn Observer,
    /// The save that is being written.
    writing: Option<Writing>,
}

/// Where checkpoints go, and what all of them hold.
struct Target {
    directory: PathBuf,
    files: ModelFiles,
    fingerprint: Fingerprint,
    reserve: Reserve,
}

struct Writing {
    step: u64,
    metrics: Metrics,
    thread: JoinHandle<Result<PathBuf>>,
}

/// The trained values in float32, in `training/`: where the model's own files hold them by other names, or rounded.
const TRAINED: &str = "adapted.safetensors";
/// The trained values of the best evaluation, in `training/`.
const BEST: &str = "best.safetensors";

/// A copy of everything a checkpoint holds that training changes, on the CPU.
struct Snapshot {
    model: Saved,
    trained: BTreeMap<String, Tensor>,
    /// The trained values of the best evaluation, where the run keeps them.
    best: Option<BTreeMap<String, Tensor>>,
    moments: BTreeMap<String, Tensor>,
    examples: Option<ExampleTable>,
    progress: RunProgress,
}

/// The weights that a checkpoint has as a model.
enum Saved {
    Whole(Export),
    /// What is trained, beside a base model of this type.
    Adapters(Kind),
}

impl Snapshot {
    /// Bytes of its tensors, which are nearly all that a checkpoint takes.
    fn bytes(&self) -> u64 {
        let model = match &self.model {
            Saved::Whole(model) => model.bytes(),
            Saved::Adapters(_) => self.trained.bytes(),
        };
        let trained = Some(&self.trained).filter(|_| self.keeps_trained());
        let maps = [trained, self.best.as_ref(), Some(&self.moments)];
        let examples = self.examples.as_ref().map_or(0, ExampleTable::bytes);
        model + maps.into_iter().flatten().map(Tensors::bytes).sum::<u64>() + examples
    }

    /// Whether the model's own files do not hold what is trained as it is.
    fn keeps_trained(&self) -> bool {
        !matches!(&self.model, Saved::Whole(model) if model.kind() == Kind::Float)
    }
}

impl<'a> CheckpointWriter<'a> {
    /// Of the run with this `fingerprint`. None is saved that would use the `reserve`.
    pub fn new(
        directory: PathBuf,
        files: ModelFiles,
        fingerprint: Fingerprint,
        reserve: Reserve,
        observer: &'a dyn Observer,
    ) -> Self {
        Self { target: Arc::new(Target { directory, files, fingerprint, reserve }), observer, writing: None }
    }
}

impl Checkpointer for CheckpointWriter<'_> {
    fn save(&mut self, state: &State<'_>, progress: &RunProgress) -> Result<()> {
        self.settle(true);
        let State { table, optimizer, best, examples } = state;
        let trained = table.trained()?;
        let snapshot = Snapshot {
            model: if table.has_adapters() {
                Saved::Adapters(table.base_kind())
            } else {
                Saved::Whole(table.export(&trained)?)
            },
            trained,
            // Never changed in place, so it needs no copy.
            best: best.map(|best| best.iter().map(|(name, value)| (name.clone(), value.shallow_clone())).collect()),
            moments: copies(optimizer.named_state(table)?)?,
            examples: examples.cloned(),
            progress: progress.clone(),
        };
        let target = Arc::clone(&self.target);
        let (step, metrics) = (progress.step, progress.metrics.clone());
        self.writing = Some(Writing { step, metrics, thread: std::thread::spawn(move || target.write(snapshot)) });
        Ok(())
    }

    fn settle(&mut self, wait: bool) {
        while wait && self.writing.as_ref().is_some_and(|writing| !writing.thread.is_finished()) {
            self.observer.alive();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let Some(Writing { step, metrics, thread }) = self.writing.take_if(|writing| writing.thread.is_finished())
        else {
            return;
        };
        let written = thread.join().unwrap_or_else(|_| Err(EngineError::native("the writing of a checkpoint failed")));
        self.observer.report(match written {
            Ok(directory) => TrainerMessage::Checkpoint { step, directory, metrics },
            // Training goes on: a later checkpoint may find room.
            Err(error) => {
                let why = error.job_error().message;
                TrainerMessage::Notice {
                    warning: true,
                    message: format!("The checkpoint at step {step} was not saved: {why}"),
                }
            }
        });
        self.observer.pass("trainer.checkpoint", step);
    }
}

impl Target {
    fn write(&self, snapshot: Snapshot) -> Result<PathBuf> {
        let step = snapshot.progress.step;
        let target = self.directory.join(format!("step-{step}"));
        let scratch = self.directory.join(format!(".step-{step}"));
        for path in [&scratch, &target] {
            if path.exists() {
                fs::remove_dir_all(path).map_err(EngineError::io(path))?;
            }
        }
        self.reserve.check(&scratch, snapshot.bytes()).map_err(EngineError::io(&scratch))?;
        let written = self.fill(&scratch, snapshot).and_then(|()| {
            fs::rename(&scratch, &target).map_err(EngineError::io(&target))?;
            export::sync_directory(&self.directory)
        });
        if written.is_err() {
            // Half a checkpoint is of no use and takes the room that the next one needs.
            let _ = fs::remove_dir_all(&scratch);
        }
        written.map(|()| target)
    }

    fn fill(&self, scratch: &Path, snapshot: Snapshot) -> Result<()> {
        let training = scratch.join(TRAINING_STATE_FOLDER);
        fs::create_dir_all(&training).map_err(EngineError::io(&training))?;
        let keeps_trained = snapshot.keeps_trained();
        let Snapshot { model, trained, best, moments, examples, progress } = snapshot;
        match model {
            Saved::Whole(model) => self.files.write(scratch, model, None)?,
            Saved::Adapters(kind) => self.files.write_adapter(scratch, kind, &trained)?,
        }
        for (name, tensors) in [(TRAINED, Some(&trained).filter(|_| keeps_trained)), (BEST, best.as_ref())] {
            if let Some(tensors) = tensors {
                weights::write(&training.join(name), tensors)?;
            }
        }
        weights::write(&training.join("optimizer.safetensors"), &moments)?;
        if let Some(examples) = examples {
            examples.write(&scratch.join(CHECKPOINT_FILE))?;
        }
        let state = SavedState { version: VERSION, fingerprint: self.fingerprint.as_str().to_owned(), progress };
        export::write_json(&training.join("state.json"), &state)?;
        let manifest = export::hashes_below(scratch)?;
        export::write_json(&training.join(MANIFEST), &manifest)?;
        export::sync_tree(scratch)
    }
}

/// Checks every file of the checkpoint in `directory` against its manifest.
fn verify(directory: &Path) -> Result<()> {
    let path = directory.join(TRAINING_STATE_FOLDER).join(MANIFEST);
    let text = fs::read(&path).map_err(EngineError::io(&path))?;
    let manifest: BTreeMap<String, FileHash> =
        serde_json::from_slice(&text).map_err(|error| EngineError::checkpoint(directory, error.to_string()))?;
    for (file, expected) in manifest {
        if export::hash_file(&directory.join(&file))? != expected {
            return Err(EngineError::checkpoint(directory, format!("{file} has other bytes than were saved")));
        }
    }
    Ok(())
}

/// What a checkpoint gives besides the parameters and moments, which it puts back in place.
pub struct Resumed {
    pub progress: RunProgress,
    /// The trained values of the best evaluation, where the run keeps them.
    pub best: Option<BTreeMap<String, Tensor>>,
    /// Whether it has statistics of the examples; checkpoints of older versions have none.
    pub has_examples: bool,
}

/// Puts a run back to where the checkpoint in `directory` left it, with what it keeps of its `examples`; `prefix` is what
/// the model's backbone is called.
///
/// # Errors
/// The checkpoint is incomplete, damaged, or belongs to another run.
pub fn resume(
    directory: &Path,
    prefix: &str,
    fingerprint: &Fingerprint,
    table: &mut ParamTable,
    optimizer: &mut AdamW,
    examples: Option<&mut ExampleTable>,
) -> Result<Resumed> {
    verify(directory)?;
    let training = directory.join(TRAINING_STATE_FOLDER);
    let path = training.join("state.json");
    let text = fs::read(&path).map_err(EngineError::io(&path))?;
    let state: SavedState =
        serde_json::from_slice(&text).map_err(|error| EngineError::checkpoint(directory, error.to_string()))?;
    if state.version != VERSION {
        return Err(EngineError::checkpoint(directory, format!("has version {}, not {VERSION}", state.version)));
    }
    if !fingerprint.accepts(&state.fingerprint) {
        return Err(EngineError::checkpoint(directory, "was saved by a run with other data or hyperparameters"));
    }
    let trained = training.join(TRAINED);
    let weights = if trained.exists() { Weights::open_file(&trained)? } else { Weights::open(directory, prefix)? };
    table.restore(&weights)?;
    let moments = Weights::open_file(&training.join("optimizer.safetensors"))?;
    optimizer.restore(table, &moments, state.progress.step)?;
    let best = training.join(BEST);
    let best = if best.exists() { Some(table.read(&Weights::open_file(&best)?)?) } else { None };
    let kept = directory.join(CHECKPOINT_FILE);
    let has_examples = kept.exists();
    if let Some(examples) = examples.filter(|_| has_examples) {
        examples.restore(&kept)?;
    }
    Ok(Resumed { progress: state.progress, best, has_examples })
}
