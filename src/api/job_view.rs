//! A job as the API shows it: OpenAI's fields, all of them always there, and ours beside them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::list::Item;
use crate::app::jobs::{Evaluations, Report};
use crate::domain::attempt::Attempt;
use crate::domain::checkpoint::{Checkpoint, MetricRow, Metrics};
use crate::domain::estimate::Estimate;
use crate::domain::event::Event;
use crate::domain::hyperparameters::{Hyperparameters, definitions};
use crate::domain::job::{DatasetOptions, Job, JobError, JobSpec};
use crate::domain::report::DataReport;

#[derive(Serialize)]
pub(super) struct JobView {
    id: String,
    object: &'static str,
    created_at: i64,
    error: Option<JobError>,
    fine_tuned_model: Option<String>,
    finished_at: Option<i64>,
    hyperparameters: Map<String, Value>,
    model: String,
    organization_id: String,
    result_files: Vec<String>,
    status: &'static str,
    trained_tokens: Option<u64>,
    training_file: Option<String>,
    validation_file: Option<String>,
    seed: i64,
    integrations: Vec<Value>,
    estimated_finish: Option<i64>,
    method: Value,
    metadata: Option<BTreeMap<String, String>>,
    user_provided_suffix: Option<String>,
    // Ours from here on.
    test_file: Option<String>,
    dataset: DatasetOptions,
    phase: Option<&'static str>,
    progress: Option<ProgressView>,
    validation: Option<DataReport>,
    estimate: Option<Estimate>,
    evaluation: Option<Value>,
    attempts: Vec<AttemptView>,
}

#[derive(Serialize)]
struct ProgressView {
    step: u64,
    total_steps: u64,
}

#[derive(Serialize)]
pub(super) struct AttemptView {
    attempt: u32,
    worker: String,
    device: Option<String>,
    started_at: i64,
    ended_at: Option<i64>,
    outcome: Option<&'static str>,
    cause: Option<String>,
    detail: Option<String>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    peak_memory_bytes: Option<u64>,
    peak_device_memory_bytes: Option<u64>,
    start_step: u64,
    stderr_tail: Option<String>,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            attempt: attempt.number,
            worker: attempt.worker,
            device: attempt.device,
            started_at: attempt.started_at.unix_timestamp(),
            ended_at: attempt.ended_at.map(time::OffsetDateTime::unix_timestamp),
            outcome: attempt.outcome.map(crate::domain::attempt::Outcome::as_str),
            cause: attempt.cause,
            detail: attempt.detail,
            exit_code: attempt.process.exit_code,
            signal: attempt.process.signal,
            peak_memory_bytes: attempt.process.peak_memory,
            peak_device_memory_bytes: attempt.process.peak_device_memory,
            start_step: attempt.start_step,
            stderr_tail: attempt.stderr_tail,
        }
    }
}

/// The names that OpenAI's deprecated top-level `hyperparameters` has.
const TOP_LEVEL: [&str; 3] = ["n_epochs", "batch_size", "learning_rate_multiplier"];

/// The method with its hyperparameters, and those alone: the effective values once there are any, until then what was
/// asked for.
pub(super) fn method_view(spec: &JobSpec, effective: Option<&Hyperparameters>) -> (Value, Map<String, Value>) {
    let defined = || definitions(spec.method).filter(|definition| spec.kind.takes(definition));
    let values = match effective.and_then(|effective| serde_json::to_value(effective).ok()) {
        Some(Value::Object(mut values)) => {
            values.retain(|name, _| defined().any(|definition| definition.name == name));
            values
        }
        _ => defined()
            .map(|definition| (definition.name.to_owned(), spec.hyperparameters.value(definition)))
            .filter(|(_, value)| !value.is_null())
            .collect(),
    };
    let word = spec.method.as_str();
    (json!({"type": word, word: {"hyperparameters": values}}), values)
}

/// Those of the hyperparameters that OpenAI's deprecated field has.
pub(super) fn top_level(mut values: Map<String, Value>) -> Map<String, Value> {
    values.retain(|name, _| TOP_LEVEL.contains(&name.as_str()));
    values
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        let (method, values) = method_view(&job.spec, job.prepared.as_ref().map(|prepared| &prepared.hyperparameters));
        let estimate = job.prepared.as_ref().and_then(|prepared| prepared.estimate.clone());
        let report = job.prepared.map(|prepared| prepared.report).or(job.report).map(DataReport::capped);
        Self {
            id: job.id.to_string(),
            object: "fine_tuning.job",
            created_at: job.created_at.unix_timestamp(),
            error: job.error,
            fine_tuned_model: job.fine_tuned_model,
            finished_at: job.finished_at.map(time::OffsetDateTime::unix_timestamp),
            hyperparameters: top_level(values),
            model: job.spec.model,
            organization_id: format!("org-{}", job.project.0.simple()),
            result_files: job.result_file.iter().map(ToString::to_string).collect(),
            status: job.status.as_str(),
            trained_tokens: job.trained_tokens,
            training_file: job.spec.training_file.map(|id| id.to_string()),
            validation_file: job.spec.validation_file.map(|id| id.to_string()),
            seed: job.spec.seed,
            integrations: Vec::new(),
            estimated_finish: job.progress.and_then(|p| p.estimated_finish).map(time::OffsetDateTime::unix_timestamp),
            method,
            metadata: job.spec.metadata,
            user_provided_suffix: job.spec.suffix,
            test_file: job.spec.test_file.map(|id| id.to_string()),
            dataset: job.spec.dataset,
            phase: job.progress.map(|progress| progress.phase.as_str()),
            progress: job
                .progress
                .map(|progress| ProgressView { step: progress.step, total_steps: progress.total_steps }),
            validation: report,
            estimate,
            evaluation: job.evaluation,
            attempts: job.attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}

impl JobView {
    /// In a list: without the report on its files, which may be as large as a page.
    pub(super) fn listed(job: Job) -> Self {
        Self { validation: None, ..Self::from(job) }
    }
}

impl Item for JobView {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Serialize)]
pub(super) struct EventView {
    id: String,
    object: &'static str,
    created_at: i64,
    level: &'static str,
    message: String,
    r#type: &'static str,
    data: Option<Value>,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self {
            id: event.id.to_string(),
            object: "fine_tuning.job.event",
            created_at: event.created_at.unix_timestamp(),
            level: event.level.as_str(),
            message: event.message,
            r#type: event.kind.openai_type(),
            data: event.data,
        }
    }
}

impl Item for EventView {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Serialize)]
pub(super) struct CheckpointView {
    id: String,
    object: &'static str,
    created_at: i64,
    fine_tuned_model_checkpoint: String,
    fine_tuning_job_id: String,
    step_number: u64,
    metrics: Metrics,
}

impl From<Checkpoint> for CheckpointView {
    fn from(checkpoint: Checkpoint) -> Self {
        let mut metrics = checkpoint.metrics;
        metrics.insert("step".to_owned(), checkpoint.step as f64);
        Self {
            id: checkpoint.id.to_string(),
            object: "fine_tuning.job.checkpoint",
            created_at: checkpoint.created_at.unix_timestamp(),
            fine_tuned_model_checkpoint: checkpoint.model,
            fine_tuning_job_id: checkpoint.job.to_string(),
            step_number: checkpoint.step,
            metrics,
        }
    }
}

impl Item for CheckpointView {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Everything measured at one step; the id is the step.
#[derive(Serialize)]
pub(super) struct MetricsView {
    id: String,
    object: &'static str,
    step: u64,
    metrics: Metrics,
}

impl From<MetricRow> for MetricsView {
    fn from(row: MetricRow) -> Self {
        Self { id: row.step.to_string(), object: "fine_tuning.job.metrics", step: row.step, metrics: row.values }
    }
}

impl Item for MetricsView {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The evaluations of a job.
#[derive(Serialize)]
pub(super) struct EvaluationsView {
    object: &'static str,
    job: String,
    model: String,
    validation: Option<PartView>,
    test: Option<PartView>,
}

#[derive(Serialize)]
struct PartView {
    #[serde(flatten)]
    report: Value,
    /// Where each example's prediction can be downloaded.
    predictions: String,
}

impl From<Evaluations> for EvaluationsView {
    fn from(evaluations: Evaluations) -> Self {
        let Evaluations { job, model, validation, test } = evaluations;
        let name = model.replace('/', "%2F");
        let part = |part: Report| PartView {
            report: part.report,
            predictions: format!("/v1/models/{name}/files/{}", part.predictions),
        };
        let (validation, test) = (validation.map(part), test.map(part));
        Self { object: "fine_tuning.job.evaluation", job, model, validation, test }
    }
}
