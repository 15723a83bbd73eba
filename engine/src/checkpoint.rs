//! Checkpoints on disk: a model directory with a folder `training/` beside the model's files.
//!
//! A checkpoint is written under another name, synced, and renamed, so a folder called `step-N` is always whole.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};
use crate::export::{self, ModelFiles};
use crate::observer::Observer;
use crate::optim::AdamW;
use crate::params::ParamTable;
use crate::training::{Checkpointer, Progress};
use crate::weights::{self, Weights};
use finetuned::domain::model::TRAINING_STATE_FOLDER;
use finetuned::domain::run::TrainerMessage;

/// The version of the format below.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    /// What the run must have in common with the one that saved.
    fingerprint: String,
    progress: Progress,
}

/// Saves checkpoints of one run under `directory`.
pub struct CheckpointWriter<'a> {
    pub directory: PathBuf,
    pub files: &'a ModelFiles,
    /// Changes whenever another run could not go on from these checkpoints.
    pub fingerprint: String,
    pub observer: &'a dyn Observer,
}

impl Checkpointer for CheckpointWriter<'_> {
    fn save(&self, table: &ParamTable, optimizer: &AdamW, progress: &Progress) -> Result<()> {
        let target = self.directory.join(format!("step-{}", progress.step));
        let scratch = self.directory.join(format!(".step-{}", progress.step));
        for path in [&scratch, &target] {
            if path.exists() {
                std::fs::remove_dir_all(path).map_err(EngineError::io(path))?;
            }
        }
        let training = scratch.join(TRAINING_STATE_FOLDER);
        std::fs::create_dir_all(&training).map_err(EngineError::io(&training))?;
        self.files.write(&scratch, table)?;
        weights::write(&training.join("optimizer.safetensors"), &optimizer.named_state(table)?)?;
        let state = State { version: VERSION, fingerprint: self.fingerprint.clone(), progress: progress.clone() };
        export::write_json(&training.join("state.json"), &state)?;
        export::sync_tree(&scratch)?;
        std::fs::rename(&scratch, &target).map_err(EngineError::io(&target))?;
        export::sync_directory(&self.directory)?;
        let metrics = progress.metrics.clone();
        self.observer.report(TrainerMessage::Checkpoint { step: progress.step, directory: target, metrics });
        Ok(())
    }
}

/// Puts a run back to where the checkpoint in `directory` left it.
///
/// # Errors
/// The checkpoint is incomplete or belongs to another run.
pub fn resume(directory: &Path, fingerprint: &str, table: &mut ParamTable, optimizer: &mut AdamW) -> Result<Progress> {
    let training = directory.join(TRAINING_STATE_FOLDER);
    let path = training.join("state.json");
    let text = std::fs::read(&path).map_err(EngineError::io(&path))?;
    let state: State =
        serde_json::from_slice(&text).map_err(|error| EngineError::checkpoint(directory, error.to_string()))?;
    if state.version != VERSION {
        return Err(EngineError::checkpoint(directory, format!("has version {}, not {VERSION}", state.version)));
    }
    if state.fingerprint != fingerprint {
        return Err(EngineError::checkpoint(directory, "was saved by a run with other data or hyperparameters"));
    }
    table.restore(&Weights::open_file(&directory.join("model.safetensors"))?)?;
    let moments = Weights::open_file(&training.join("optimizer.safetensors"))?;
    optimizer.restore(table, &moments, state.progress.step)?;
    Ok(state.progress)
}
