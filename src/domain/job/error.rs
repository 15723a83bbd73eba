//! Why jobs fail.

use serde::{Deserialize, Serialize};

use super::super::error::{Error, ErrorKind};

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
