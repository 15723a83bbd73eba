//! A run that trains nothing: what a model is worth on the test data, by itself and beside another.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::data::source::Subset;
use crate::device::{self, ComputeDevice};
use crate::error::{EngineError, Result};
use crate::export;
use crate::grading;
use crate::observer::Observer;
use crate::score::{self, lines};
use crate::started::report_start;
use crate::tasks;
use crate::training::RunProgress;
use finetuned::domain::job::Phase;
use finetuned::domain::metric::LOSS;
use finetuned::domain::run::{BaselineModel, Finished, RunSpec, TrainerMessage};

/// Where the model that another is compared with stands, in summaries, in reports and in lines.
const BASELINE: &str = "baseline";

/// What a model is worth: the scores, the whole report, and the file with a line for each example.
struct Judged {
    summary: Map<String, Value>,
    report: Map<String, Value>,
    lines: PathBuf,
}

/// Scores the model on the test data and writes the report and a line for each example into the output directory.
///
/// # Errors
/// A model or the data cannot be used, libtorch fails, or the disk; [`EngineError::Stopped`] if told to stop on the way.
pub(crate) fn evaluate(spec: &RunSpec, device: ComputeDevice, observer: &dyn Observer) -> Result<()> {
    fs::create_dir_all(&spec.output).map_err(EngineError::io(&spec.output))?;
    let Some(mut judged) = judge(spec, "own", device, observer)? else { return Err(EngineError::Stopped) };
    let predictions = spec.output.join("predictions.jsonl");
    match &spec.baseline {
        None => fs::rename(&judged.lines, &predictions).map_err(EngineError::io(&predictions))?,
        Some(BaselineModel { path, name }) => {
            let other = RunSpec { model: path.clone(), model_name: name.clone(), ..spec.clone() };
            let Some(other) = judge(&other, BASELINE, device, observer)? else { return Err(EngineError::Stopped) };
            joined(&judged.lines, &other.lines, &predictions, Some(BASELINE))?;
            judged.summary.insert(BASELINE.to_owned(), Value::Object(other.summary));
            let mut report = Map::from_iter([("model".to_owned(), json!(name))]);
            report.extend(other.report);
            judged.report.insert(BASELINE.to_owned(), Value::Object(report));
        }
    }
    observer.pass("trainer.evaluated", 0);
    observer.report(TrainerMessage::Phase { phase: Phase::Saving });
    score::write_report(&spec.output.join("report.json"), &judged.report)?;
    export::sync_tree(&spec.output)?;
    let evaluation = json!({"test": judged.summary});
    observer.report(TrainerMessage::Finished(Finished { step: 0, trained_tokens: 0, evaluation }));
    Ok(())
}

/// What the model of `spec` is worth; `name` is that of its file of lines. None if told to stop on the way.
fn judge(spec: &RunSpec, name: &str, device: ComputeDevice, observer: &dyn Observer) -> Result<Option<Judged>> {
    let lines = spec.output.join(format!("{name}.jsonl"));
    let Some(mut judged) = scored(spec, lines, name != BASELINE, device, observer)? else { return Ok(None) };
    let (Some(of), Some(test)) = (&spec.grading, &spec.test) else { return Ok(Some(judged)) };
    let graded = spec.output.join(format!("{name}_graded.jsonl"));
    let Some(grades) = grading::grade(spec, of, test, &graded, device, observer)? else { return Ok(None) };
    judged.summary.extend([grades.summary()]);
    judged.report.extend(grades.report());
    let lines = spec.output.join(format!("{name}_whole.jsonl"));
    joined(&judged.lines, &graded, &lines, None)?;
    Ok(Some(Judged { lines, ..judged }))
}

/// The losses and scores of the method. The first model of a run starts it.
fn scored(
    spec: &RunSpec,
    lines: PathBuf,
    is_first: bool,
    device: ComputeDevice,
    observer: &dyn Observer,
) -> Result<Option<Judged>> {
    let phase = |phase| observer.report(TrainerMessage::Phase { phase });
    phase(Phase::Loading);
    let precision = device.settle(&spec.hyperparameters)?;
    let loaded = tasks::load(spec, device, device::compute_kind(precision), observer)?;
    let missing = &loaded.report.initialised;
    if !missing.is_empty() {
        let lacks = missing.join(", ");
        let message = format!("The model '{}' was not trained for {}: it has no {lacks}", spec.model_name, spec.method);
        return Err(EngineError::model(message));
    }
    if is_first {
        report_start(spec, device, precision, &loaded, 0, &RunProgress::default(), observer);
    }
    phase(Phase::Evaluating);
    let Some(test) = loaded.task.evaluate(Subset::Test, observer)? else { return Ok(None) };
    if test.scores.get(&LOSS).is_some_and(|loss| !loss.is_finite()) {
        return Err(EngineError::model("The model's outputs are not finite: its weights cannot be used"));
    }
    test.write_lines(&lines).map_err(EngineError::io(&lines))?;
    Ok(Some(Judged { summary: test.summary(), report: test.report(), lines }))
}

/// Joins two files of lines to a third, and removes both.
fn joined(left: &Path, right: &Path, to: &Path, field: Option<&str>) -> Result<()> {
    lines::join(left, right, to, field).map_err(EngineError::io(to))?;
    [left, right].into_iter().try_for_each(|path| fs::remove_file(path).map_err(EngineError::io(path)))
}
