//! One run from its spec to the finished model, or to the scores of a model that is only evaluated.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::checkpoint::{self, CheckpointWriter};
use crate::data::source::Subset;
use crate::device::{self, ComputeDevice};
use crate::error::{EngineError, Result};
use crate::evaluation;
use crate::export;
use crate::fingerprint::Fingerprint;
use crate::observer::Observer;
use crate::optim::{AdamW, AdamWConfig};
use crate::started::report_start;
use crate::tasks::{self, ExampleTable, Loaded};
use crate::training::{End, Plan, RunProgress, Training};
use finetuned::disk::Reserve;
use finetuned::domain::example::columns::MODEL_FILE;
use finetuned::domain::job::Phase;
use finetuned::domain::run::{Finished, OLDEST_VERSION, RunSpec, TrainerMessage, VERSION};

/// Runs `spec` on `device`, reporting to `observer`; the last report is `Finished` or `Stopped`.
///
/// # Errors
/// Anything that ends the run early; nothing is reported for it.
pub fn run(spec: &RunSpec, device: ComputeDevice, observer: &dyn Observer) -> Result<()> {
    if !(OLDEST_VERSION..=VERSION).contains(&spec.version) {
        return Err(EngineError::native(format!("the spec has version {}, this trainer {VERSION}", spec.version)));
    }
    let ran = if spec.training.is_some() {
        train(spec, device, observer)
    } else {
        evaluation::evaluate(spec, device, observer)
    };
    match ran {
        Err(EngineError::Stopped) => {
            observer.report(TrainerMessage::Stopped { step: 0 });
            Ok(())
        }
        ran => ran,
    }
}

fn train(spec: &RunSpec, device: ComputeDevice, observer: &dyn Observer) -> Result<()> {
    observer.report(TrainerMessage::Phase { phase: Phase::Loading });
    let precision = device.settle(&spec.hyperparameters)?;
    let mut loaded = tasks::load(spec, device, device::compute_kind(precision), observer)?;
    let plan = Plan::new(&spec.hyperparameters, loaded.task.size(Subset::Training), spec.seed);
    let fingerprint = Fingerprint::new(spec, precision, loaded.task.size(Subset::Training));
    let h = &spec.hyperparameters;
    let mut optimizer = AdamW::new(&loaded.table, AdamWConfig::of(&h.optimizer))?;
    let (mut progress, mut best) = (RunProgress::default(), None);
    let keeps_examples = (spec.method.card().without_examples)(&h.own).is_none();
    let mut examples = loaded.task.examples().filter(|_| keeps_examples);
    let mut has_examples = true;
    if let Some(directory) = &spec.resume {
        let (prefix, table) = (loaded.policy.backbone(), &mut loaded.table);
        let resumed = checkpoint::resume(directory, prefix, &fingerprint, table, &mut optimizer, examples.as_mut())?;
        (progress, best, has_examples) = (resumed.progress, resumed.best, resumed.has_examples);
    }
    report_start(spec, device, precision, &loaded, plan.total_steps(), &progress, observer);
    if examples.is_some() && !has_examples {
        let message =
            format!("The checkpoint has no statistics of examples: they count from step {}", progress.step + 1);
        observer.report(TrainerMessage::Notice { warning: false, message });
    }

    fs::create_dir_all(&spec.checkpoints).map_err(EngineError::io(&spec.checkpoints))?;
    let (checkpoints, reserve) = (spec.checkpoints.clone(), Reserve(spec.min_free_bytes));
    let mut checkpointer = CheckpointWriter::new(checkpoints, loaded.files.clone(), fingerprint, reserve, observer);
    let end = Training {
        task: loaded.task.as_mut(),
        plan,
        patience: h.course.early_stopping.patience().cloned(),
        table: &mut loaded.table,
        optimizer: &mut optimizer,
        best: best.take(),
        examples: examples.as_mut(),
        checkpointer: &mut checkpointer,
        observer,
        device,
    }
    .run(&mut progress)?;
    if let (End::Complete | End::Early, Some(best)) = (end, progress.best) {
        let early = if end == End::Early { "Stopped early: " } else { "" };
        let message = format!("{early}the model is the one of step {}, whose evaluation was the best", best.step);
        observer.report(TrainerMessage::Notice { warning: false, message });
    }
    let finished = match end {
        End::Complete | End::Early => finish(spec, &loaded, examples.as_ref(), &progress, observer)?,
        End::Stopped => None,
    };
    observer.report(finished.map_or(TrainerMessage::Stopped { step: progress.step }, TrainerMessage::Finished));
    Ok(())
}

/// Evaluates the finished model and writes it; None if told to stop on the way.
fn finish(
    spec: &RunSpec,
    loaded: &Loaded,
    examples: Option<&ExampleTable>,
    progress: &RunProgress,
    observer: &dyn Observer,
) -> Result<Option<Finished>> {
    let output = &spec.output;
    if output.exists() {
        fs::remove_dir_all(output).map_err(EngineError::io(output))?;
    }
    let folder = output.join("evaluation");
    fs::create_dir_all(&folder).map_err(EngineError::io(&folder))?;
    observer.report(TrainerMessage::Phase { phase: Phase::Evaluating });
    let mut evaluation = Map::new();
    for (subset, name, prefix) in [(Subset::Validation, "validation", "validation_"), (Subset::Test, "test", "")] {
        if let Some(found) = loaded.task.evaluate(subset, observer)? {
            found.write(&folder, prefix)?;
            evaluation.insert(name.to_owned(), Value::Object(found.summary()));
        }
    }
    if observer.stop().is_some() {
        return Ok(None);
    }
    observer.report(TrainerMessage::Phase { phase: Phase::Saving });
    let evaluation = Value::Object(evaluation);
    let trained = loaded.table.state()?;
    let model = loaded.table.export(&trained)?;
    let bytes = loaded.files.finished_bytes(&model) + examples.map_or(0, ExampleTable::bytes);
    Reserve(spec.min_free_bytes).check(output, bytes).map_err(EngineError::io(output))?;
    if let Some(examples) = examples {
        examples.write(&output.join(MODEL_FILE))?;
    }
    let name = format!("{}, fine-tuned", spec.model_name);
    loaded.files.write_finished(output, &name, model, Some(&trained).filter(|_| loaded.table.has_adapters()))?;
    export::write_card_and_manifest(output, spec, &evaluation)?;
    Ok(Some(Finished { step: progress.step, trained_tokens: progress.trained_tokens, evaluation }))
}

/// Reads a spec file. Relative paths in it are taken from the file's own folder.
///
/// # Errors
/// The file is missing or malformed.
pub fn read_spec(path: &Path) -> Result<RunSpec> {
    let text = fs::read(path).map_err(EngineError::io(path))?;
    let mut spec: RunSpec = serde_json::from_slice(&text)
        .map_err(|error| EngineError::native(format!("the run spec is malformed: {error}")))?;
    let base = path.parent().unwrap_or(Path::new("."));
    let data = [spec.training.as_mut(), spec.validation.as_mut(), spec.test.as_mut()];
    for file in data.into_iter().flatten() {
        file.path = base.join(&file.path);
    }
    let baseline = spec.baseline.as_mut().map(|baseline| &mut baseline.path);
    for path in [&mut spec.model, &mut spec.checkpoints, &mut spec.output].into_iter().chain(baseline) {
        *path = base.join(&path);
    }
    spec.resume = spec.resume.map(|path| base.join(path));
    Ok(spec)
}
