//! Fine-tuning jobs and the moves they make.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::attempt::Attempt;
use super::error::{Error, ErrorKind};
use super::estimate::Estimate;
use super::hyperparameters::{Hyperparameters, Requested};
use super::id::{EvaluationId, FileId, JobId, ModelId, ProjectId};
use super::method::Method;
use super::report::DataReport;

/// Where a job stands, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Its files are being read and checked.
    ValidatingFiles,
    /// Waiting for a free slot, for the first time or again.
    Queued,
    /// A worker holds its lease.
    Running,
    /// Stopped by its owner with a checkpoint, until it is resumed.
    Paused,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobStatus {
    /// All statuses.
    pub const ALL: [Self; 7] = [
        Self::ValidatingFiles,
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidatingFiles => "validating_files",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it never changes again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Whether a job may go from here to `next`. The database enforces the same moves.
    pub fn may_become(self, next: Self) -> bool {
        use JobStatus::{Cancelled, Failed, Paused, Queued, Running, Succeeded, ValidatingFiles};
        match self {
            ValidatingFiles => matches!(next, Queued | Failed | Cancelled),
            Queued => matches!(next, Running | Paused | Cancelled),
            Running => matches!(next, Queued | Paused | Succeeded | Failed | Cancelled),
            Paused => matches!(next, Queued | Cancelled),
            Succeeded | Failed | Cancelled => false,
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobStatus {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// What a job is for. Both go through the same queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// It trains a model.
    Training,
    /// It scores a model on a file.
    Evaluation,
}

impl JobKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Training, Self::Evaluation];

    /// What a job is that has a training file, or has none.
    pub fn of(has_training_file: bool) -> Self {
        if has_training_file { Self::Training } else { Self::Evaluation }
    }

    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Evaluation => "evaluation",
        }
    }

    /// The id by which clients know the job.
    pub fn public_id(self, id: JobId) -> String {
        match self {
            Self::Training => id.to_string(),
            Self::Evaluation => EvaluationId(id.0).to_string(),
        }
    }

    /// What errors call its id.
    pub fn param(self) -> &'static str {
        match self {
            Self::Training => "fine_tune_id",
            Self::Evaluation => "evaluation_id",
        }
    }

    /// What people call it at the start of a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Training => "Fine-tuning job",
            Self::Evaluation => "Evaluation",
        }
    }
}

/// What a running job is doing just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Loading the model and the data.
    Loading,
    Training,
    Evaluating,
    /// Writing the finished model.
    Saving,
    /// Saving a checkpoint, because the job's owner asked it to pause.
    Pausing,
}

impl Phase {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Training => "training",
            Self::Evaluating => "evaluating",
            Self::Saving => "saving",
            Self::Pausing => "pausing",
        }
    }
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    pub code: String,
    pub message: String,
    /// The field of the request that is at fault.
    pub param: Option<String>,
}

/// The codes that a job may fail with.
pub const JOB_ERROR_CODES: [&str; 20] = [
    "engine_error",
    "file_damaged",
    "insufficient_memory",
    "insufficient_storage",
    "invalid_checkpoint",
    "invalid_hyperparameter",
    "invalid_model",
    "invalid_n_examples",
    "invalid_test_file",
    "invalid_training_file",
    "invalid_validation_file",
    "model_damaged",
    "non_finite_loss",
    "out_of_memory",
    "out_of_storage",
    "training_crashed",
    "training_failed",
    "training_stalled",
    "validation_failed",
    "worker_lost",
];

impl JobError {
    /// An error without `param`.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), param: None }
    }

    /// The same error, naming the field at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The job's own error, where what it needs is damaged, so that trying again does not help; any other error is
    /// handed back.
    pub fn of_damage(error: Error) -> Result<Self, Error> {
        match error.code {
            Some(code) if error.kind == ErrorKind::Damaged => {
                Ok(Self { code: code.to_owned(), message: error.message, param: error.param })
            }
            _ => Err(error),
        }
    }
}

/// How the data files of a job are to be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DatasetOptions {
    /// Key or column of the text, where it is not `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    /// Key or column of the label, where it is none of `label`, `category` and `class`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Share of the training examples held out where no validation file is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_split: Option<f64>,
}

/// The longest name of a key or column that a job may give, in characters.
pub const COLUMN_CHARS: usize = 200;

/// Share of the training examples held out for validation unless the job says otherwise.
pub const DEFAULT_VALIDATION_SPLIT: f64 = 0.1;

/// What a client asked for, checked.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// The model as named in the request.
    pub model: String,
    pub base_model: ModelId,
    /// None of an evaluation, which has a `test_file`.
    pub training_file: Option<FileId>,
    pub validation_file: Option<FileId>,
    pub test_file: Option<FileId>,
    pub method: Method,
    pub hyperparameters: Requested,
    pub dataset: DatasetOptions,
    pub suffix: Option<String>,
    pub seed: i64,
    pub metadata: Option<BTreeMap<String, String>>,
}

impl JobSpec {
    /// What the job is for.
    pub fn kind(&self) -> JobKind {
        JobKind::of(self.training_file.is_some())
    }

    /// The data files by the fields of the request that name them: training, validation, test.
    pub fn files(&self) -> [(&'static str, Option<FileId>); 3] {
        [
            ("training_file", self.training_file),
            ("validation_file", self.validation_file),
            ("test_file", self.test_file),
        ]
    }
}

/// What preparing the data settled: everything a run needs that the request left open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    pub hyperparameters: Hyperparameters,
    /// The labels in the order of their class numbers. Jobs of a list come without.
    #[serde(default)]
    pub labels: Vec<String>,
    #[serde(default)]
    pub report: DataReport,
    /// None in jobs of before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

/// How far the running attempt is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub phase: Phase,
    pub step: u64,
    pub total_steps: u64,
    pub estimated_finish: Option<Timestamp>,
}

/// A fine-tuning job.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub project: ProjectId,
    pub created_at: Timestamp,
    pub status: JobStatus,
    pub spec: JobSpec,
    /// The last part of the names of the models it makes.
    pub name_tag: String,
    pub prepared: Option<Prepared>,
    /// What was found in files that did not pass.
    pub report: Option<DataReport>,
    pub progress: Option<Progress>,
    pub error: Option<JobError>,
    /// The name of the model it made.
    pub fine_tuned_model: Option<String>,
    /// The metrics of a training by step, or what an evaluation found of each example.
    pub result_file: Option<FileId>,
    /// The report of an evaluation.
    pub report_file: Option<FileId>,
    pub trained_tokens: Option<u64>,
    /// Scores on the validation and test data at the end, as the trainer reported them.
    pub evaluation: Option<serde_json::Value>,
    pub finished_at: Option<Timestamp>,
    pub attempts: Vec<Attempt>,
}

/// Bounds that OpenAI sets for `metadata`.
pub const METADATA_PAIRS: usize = 16;
pub const METADATA_KEY_CHARS: usize = 64;
pub const METADATA_VALUE_CHARS: usize = 512;

/// The longest suffix, in characters.
pub const SUFFIX_CHARS: usize = 64;

/// Whether `suffix` can be part of a model's name.
pub fn is_suffix(suffix: &str) -> bool {
    (1..=SUFFIX_CHARS).contains(&suffix.len())
        && suffix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The fewest examples a training file may have, as at OpenAI.
pub const MIN_EXAMPLES: u64 = 10;

#[cfg(test)]
mod tests {
    use super::{JobStatus, is_suffix};

    #[test]
    fn statuses_read_back_from_their_words() {
        for status in JobStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
    }

    #[test]
    fn nothing_leaves_a_terminal_status_and_every_other_leads_to_one() {
        for from in JobStatus::ALL {
            let leads_on = JobStatus::ALL.into_iter().any(|to| from.may_become(to));
            assert_eq!(leads_on, !from.is_terminal(), "{from}");
            assert_eq!(from.may_become(JobStatus::Cancelled), !from.is_terminal(), "{from} can be cancelled");
            assert!(!from.may_become(from) && !from.may_become(JobStatus::ValidatingFiles));
        }
    }

    #[test]
    fn suffixes_hold_no_colon() {
        assert!(is_suffix("my-model_2.1"));
        for bad in ["", "a:b", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_suffix(bad), "{bad:?}");
        }
    }
}
