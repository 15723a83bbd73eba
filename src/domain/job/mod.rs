//! Fine-tuning jobs: what was asked for, what became of it, and the moves they make.

mod dataset;
pub mod error;
mod kind;
mod moves;
mod status;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::attempt::Attempt;
use super::estimate::Estimate;
use super::grading::Grading;
use super::hyperparameters::{Hyperparameters, Lora, Requested};
use super::id::{FileId, JobId, ModelId, ProjectId};
use super::method::Method;
use super::report::DataReport;

pub use dataset::{
    COLUMN_CHARS, DEFAULT_VALIDATION_SPLIT, DatasetOptions, LabelSeparator, OtherFiles, OverlapPolicy, ReadOptions,
};
pub use error::{JOB_ERROR_CODES, JobError, NotReady};
pub use kind::JobKind;
pub use moves::{Grant, Move, Moved, Step, Success, Why};
pub use status::{JobStatus, Phase};

/// What a client asked for, checked.
#[derive(Clone, Debug)]
pub struct JobSpec {
    pub kind: JobKind,
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
    /// How an evaluation grades what the model writes.
    pub grading: Option<Grading>,
    /// The model that an evaluation compares its model with.
    pub baseline: Option<Baseline>,
}

/// A model to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// As named in the request.
    pub name: String,
    pub model: ModelId,
}

impl JobSpec {
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

impl Job {
    /// The adapter that it trains, if it does.
    pub fn adapter(&self) -> Option<&Lora> {
        self.prepared.as_ref().and_then(|prepared| prepared.hyperparameters.tuning.adapter.lora())
    }
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
    use super::is_suffix;

    #[test]
    fn suffixes_hold_no_colon() {
        assert!(is_suffix("my-model_2.1"));
        for bad in ["", "a:b", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_suffix(bad), "{bad:?}");
        }
    }
}
