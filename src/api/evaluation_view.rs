//! An evaluation as the API shows it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::job_view::{AttemptView, method_view};
use super::list::Item;
use crate::domain::estimate::Estimate;
use crate::domain::grading::{Grader, SamplingParams};
use crate::domain::job::{DatasetOptions, Job, JobError, JobKind};
use crate::domain::report::{DataReport, ExamplesReport};

#[derive(Serialize)]
pub(super) struct EvaluationView {
    id: String,
    object: &'static str,
    created_at: i64,
    finished_at: Option<i64>,
    status: &'static str,
    error: Option<JobError>,
    model: String,
    test_file: Option<String>,
    /// What it is compared with.
    baseline: Option<String>,
    graders: Vec<Grader>,
    sampling_params: Option<SamplingParams>,
    method: Value,
    dataset: DatasetOptions,
    seed: i64,
    metadata: Option<BTreeMap<String, String>>,
    phase: Option<&'static str>,
    /// What the test file holds.
    validation: Option<ExamplesReport>,
    estimate: Option<Estimate>,
    /// The number of examples, the loss and the scores of the task.
    scores: Option<Value>,
    /// Scores per class, the confusion matrix and intervals as well; of a single evaluation alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Value>,
    /// What was predicted of each example, and the report.
    result_files: Vec<String>,
    attempts: Vec<AttemptView>,
}

impl From<Job> for EvaluationView {
    fn from(job: Job) -> Self {
        let (method, _) = method_view(&job.spec, job.prepared.as_ref().map(|prepared| &prepared.hyperparameters));
        let estimate = job.prepared.as_ref().and_then(|prepared| prepared.estimate.clone());
        let report = job.prepared.map(|prepared| prepared.report).or(job.report).map(DataReport::capped);
        let files = [job.result_file, job.report_file];
        let (graders, sampling_params) =
            job.spec.grading.map(|grading| (grading.graders, grading.sampling_params)).unzip();
        Self {
            id: JobKind::Evaluation.public_id(job.id),
            object: "evaluation",
            created_at: job.created_at.unix_timestamp(),
            finished_at: job.finished_at.map(time::OffsetDateTime::unix_timestamp),
            status: job.status.as_str(),
            error: job.error,
            model: job.spec.model,
            test_file: job.spec.test_file.map(|id| id.to_string()),
            baseline: job.spec.baseline.map(|baseline| baseline.name),
            graders: graders.unwrap_or_default(),
            sampling_params,
            method,
            dataset: job.spec.dataset,
            seed: job.spec.seed,
            metadata: job.spec.metadata,
            phase: job.progress.map(|progress| progress.phase.as_str()),
            validation: report.and_then(|report| report.test),
            estimate,
            scores: job.evaluation.and_then(|mut evaluation| evaluation.get_mut("test").map(Value::take)),
            report: None,
            result_files: files.iter().flatten().map(ToString::to_string).collect(),
            attempts: job.attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}

impl EvaluationView {
    /// In a list: without the report on its file, which may be as large as a page.
    pub(super) fn listed(job: Job) -> Self {
        Self { validation: None, ..Self::from(job) }
    }

    /// With the whole report, where there is one.
    pub(super) fn with_report(self, report: Option<Value>) -> Self {
        Self { report, ..self }
    }
}

impl Item for EvaluationView {
    fn id(&self) -> &str {
        &self.id
    }
}
