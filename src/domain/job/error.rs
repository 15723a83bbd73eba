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
}

/// Why something cannot be done for a job.
#[derive(Debug)]
pub enum NotReady<R = JobError> {
    /// For a reason of the job's own, which trying again does not change.
    Refused(R),
    /// For another.
    Failed(Error),
}

impl<R> NotReady<R> {
    /// The job's own reason.
    ///
    /// # Errors
    /// It is another.
    pub fn refused(self) -> Result<R, Error> {
        match self {
            Self::Refused(reason) => Ok(reason),
            Self::Failed(error) => Err(error),
        }
    }
}

impl<R: From<JobError>> From<JobError> for NotReady<R> {
    fn from(error: JobError) -> Self {
        Self::Refused(error.into())
    }
}

/// What is damaged is the job's own: another try would find the same.
impl<R: From<JobError>> From<Error> for NotReady<R> {
    fn from(error: Error) -> Self {
        match error.code {
            Some(code) if error.kind == ErrorKind::Damaged => {
                Self::from(JobError { code: code.to_owned(), message: error.message, param: error.param })
            }
            _ => Self::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{JobError, NotReady};
    use crate::domain::error::{Error, ErrorKind};

    #[test]
    fn damage_is_the_jobs_own_and_no_other_error_is() {
        let damaged = Error::new(ErrorKind::Damaged, "is damaged").code("file_damaged").param("test_file");
        let refused = NotReady::<JobError>::from(damaged).refused().unwrap();
        assert_eq!(refused, JobError::new("file_damaged", "is damaged").param("test_file"));
        for error in [Error::unavailable("away"), Error::internal("ours"), Error::new(ErrorKind::Damaged, "unnamed")] {
            let kind = error.kind;
            assert_eq!(NotReady::<JobError>::from(error).refused().unwrap_err().kind, kind);
        }
    }
}
