//! Jobs as rows: which columns are read, and what is made of them.

use std::collections::BTreeMap;

use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{from_json, known, unsigned};
use crate::domain::error::{Error, Result};
use crate::domain::grading::Grading;
use crate::domain::hyperparameters::Requested;
use crate::domain::id::{FileId, JobId, ModelId, ProjectId};
use crate::domain::job::{Baseline, DatasetOptions, Job, JobError, JobSpec, Phase, Prepared, Progress};
use crate::domain::report::DataReport;

pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) project_id: Uuid,
    pub(super) kind: String,
    pub(super) created_at: OffsetDateTime,
    pub(super) status: String,
    pub(super) model: String,
    pub(super) base_model_id: Uuid,
    pub(super) grading: Option<Json<Grading>>,
    pub(super) baseline: Option<String>,
    pub(super) baseline_model_id: Option<Uuid>,
    pub(super) training_file_id: Option<Uuid>,
    pub(super) validation_file_id: Option<Uuid>,
    pub(super) test_file_id: Option<Uuid>,
    pub(super) method: String,
    pub(super) hyperparameters: serde_json::Value,
    pub(super) dataset: Json<DatasetOptions>,
    pub(super) suffix: Option<String>,
    pub(super) seed: i64,
    pub(super) name_tag: String,
    pub(super) metadata: Option<Json<BTreeMap<String, String>>>,
    pub(super) prepared: Option<Json<Prepared>>,
    pub(super) report: Option<Json<DataReport>>,
    pub(super) phase: Option<String>,
    pub(super) pause_requested: bool,
    pub(super) step: i64,
    pub(super) total_steps: i64,
    pub(super) estimated_finish: Option<OffsetDateTime>,
    pub(super) error: Option<Json<JobError>>,
    pub(super) fine_tuned_model: Option<String>,
    pub(super) result_file_id: Option<Uuid>,
    pub(super) report_file_id: Option<Uuid>,
    pub(super) trained_tokens: Option<i64>,
    pub(super) evaluation: Option<serde_json::Value>,
    pub(super) finished_at: Option<OffsetDateTime>,
    /// Of the columns of any length.
    pub(super) bytes: i32,
}

impl TryFrom<Row> for Job {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let phase: Option<Phase> = row.phase.map(|word| from_json(word.into())).transpose()?;
        let phase = phase.map(|phase| if row.pause_requested { Phase::Pausing } else { phase });
        let progress = phase.map(|phase| Progress {
            phase,
            step: unsigned(row.step),
            total_steps: unsigned(row.total_steps),
            estimated_finish: row.estimated_finish,
        });
        Ok(Self {
            id: JobId(row.id),
            project: ProjectId(row.project_id),
            created_at: row.created_at,
            status: known("job status", &row.status)?,
            spec: JobSpec {
                kind: known("kind of job", &row.kind)?,
                model: row.model,
                base_model: ModelId(row.base_model_id),
                training_file: row.training_file_id.map(FileId),
                validation_file: row.validation_file_id.map(FileId),
                test_file: row.test_file_id.map(FileId),
                method: from_json(row.method.into())?,
                hyperparameters: Requested::from_stored(from_json(row.hyperparameters)?),
                dataset: row.dataset.0,
                suffix: row.suffix,
                seed: row.seed,
                metadata: row.metadata.map(|Json(metadata)| metadata),
                grading: row.grading.map(|Json(grading)| grading),
                baseline: row
                    .baseline
                    .zip(row.baseline_model_id)
                    .map(|(name, model)| Baseline { name, model: ModelId(model) }),
            },
            name_tag: row.name_tag,
            report: row.report.map(|Json(report)| report),
            prepared: row.prepared.map(|Json(prepared)| prepared),
            progress,
            error: row.error.map(|Json(error)| error),
            fine_tuned_model: row.fine_tuned_model,
            result_file: row.result_file_id.map(FileId),
            report_file: row.report_file_id.map(FileId),
            trained_tokens: row.trained_tokens.map(unsigned),
            evaluation: row.evaluation,
            finished_at: row.finished_at,
            attempts: Vec::new(),
        })
    }
}

/// The columns of a [`Row`], from where the job is `j` and the model it made `m`. What a row weighs is asked of pages alone.
macro_rules! select {
    ($bytes:literal, $prepared:literal, $report:literal, [$($from:literal),*], $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select j.id, j.project_id, j.kind, j.created_at, j.status, j.model, j.base_model_id, j.training_file_id,
                   j.validation_file_id, j.test_file_id, j.method, j.hyperparameters,
                   j.dataset as "dataset: Json<DatasetOptions>", j.suffix, j.seed, j.name_tag,
                   j.grading as "grading: Json<Grading>", j.baseline, j.baseline_model_id,
                   j.metadata as "metadata: Json<BTreeMap<String, String>>",
                   j.phase, j.pause_requested, j.step, j.total_steps, j.estimated_finish,
                   j.error as "error: Json<JobError>", m.name as "fine_tuned_model?", j.result_file_id,
                   j.report_file_id, j.trained_tokens, j.evaluation, j.finished_at,
            "# + $bytes + r#" as "bytes!", "# + $prepared + r#" as "prepared: Json<Prepared>",
            "# + $report + r#" as "report: Json<DataReport>"
            from "# $(+ $from)*,
            $($argument),*
        )
    };
}
pub(super) use select;
