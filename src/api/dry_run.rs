//! What a job would be, as the API shows it.

use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};

use super::job_view::{method_view, top_level};
use super::problem::Answer;
use super::stream;
use crate::app::jobs::DryRun;
use crate::app::preparation::Refusal;
use crate::domain::estimate::Estimate;
use crate::domain::job::{JobError, JobSpec, Prepared};
use crate::domain::report::DataReport;

#[derive(Serialize)]
pub(super) struct DryRunView {
    object: &'static str,
    /// Whether the job would be queued.
    ready: bool,
    error: Option<JobError>,
    model: String,
    method: Value,
    hyperparameters: Map<String, Value>,
    seed: i64,
    labels: Option<Vec<String>>,
    validation: Option<DataReport>,
    estimate: Option<Estimate>,
}

impl DryRunView {
    fn of(spec: &JobSpec, outcome: Result<Prepared, Refusal>) -> Self {
        let (prepared, error, report) = match outcome {
            Ok(prepared) => (Some(prepared), None, None),
            Err(refusal) => (refusal.prepared.map(|prepared| *prepared), Some(refusal.error), refusal.report),
        };
        let (method, values) = method_view(spec, prepared.as_ref().map(|prepared| &prepared.hyperparameters));
        let (labels, validation, estimate) = match prepared {
            Some(prepared) => (Some(prepared.labels), Some(prepared.report), prepared.estimate),
            None => (None, report.map(|report| *report), None),
        };
        Self {
            object: "fine_tuning.job.dry_run",
            ready: error.is_none(),
            error,
            model: spec.model.clone(),
            method,
            hyperparameters: top_level(values),
            seed: spec.seed,
            labels,
            validation,
            estimate,
        }
    }
}

/// The answer with a dry run, which counts as under way until it is taken: it may have megabytes of labels.
///
/// # Errors
/// It cannot be written as JSON.
pub(super) fn answer(DryRun { spec, outcome, counted }: DryRun) -> Answer<Response> {
    Ok(stream::send_json(&DryRunView::of(&spec, outcome), counted)?)
}
