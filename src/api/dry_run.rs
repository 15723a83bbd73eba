//! What a job would be, as the API shows it.

use serde::Serialize;
use serde_json::{Map, Value};

use super::job_view::{method_view, top_level};
use crate::app::jobs::DryRun;
use crate::domain::estimate::Estimate;
use crate::domain::job::JobError;
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

impl From<DryRun> for DryRunView {
    fn from(DryRun { spec, outcome }: DryRun) -> Self {
        let (prepared, error, report) = match outcome {
            Ok(prepared) => (Some(prepared), None, None),
            Err(refusal) => (refusal.prepared.map(|prepared| *prepared), Some(refusal.error), refusal.report),
        };
        let (method, values) = method_view(&spec, prepared.as_ref().map(|prepared| &prepared.hyperparameters));
        let (labels, validation, estimate) = match prepared {
            Some(prepared) => (Some(prepared.labels), Some(prepared.report), prepared.estimate),
            None => (None, report.map(|report| *report), None),
        };
        Self {
            object: "fine_tuning.job.dry_run",
            ready: error.is_none(),
            error,
            model: spec.model,
            method,
            hyperparameters: top_level(values),
            seed: spec.seed,
            labels,
            validation,
            estimate,
        }
    }
}
