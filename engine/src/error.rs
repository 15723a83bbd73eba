//! What can go wrong in the engine, and how it reads to the owner of the job.

use std::path::{Path, PathBuf};

use tch::TchError;

use finetuned::domain::job::JobError;

/// The engine's result.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// An error of the training engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// libtorch refused or failed an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
    /// The C++ shim refused or failed an operation.
    #[error("libtorch: {0}")]
    Native(String),
    /// The base model's directory cannot be used.
    #[error("{message}")]
    Model { message: String },
    /// A data file cannot be used.
    #[error("{message}")]
    Data { param: &'static str, message: String },
    /// A hyperparameter cannot be used with this model or data.
    #[error("{message}")]
    Hyperparameter { name: &'static str, message: String },
    /// The loss or the gradient norm is NaN or infinite.
    #[error("the {what} became {value} at step {step}; a lower learning rate or fp32 precision usually helps")]
    NonFinite { what: &'static str, value: f64, step: u64 },
    /// A checkpoint is incomplete or does not fit the run.
    #[error("checkpoint {path}: {message}", path = path.display())]
    Checkpoint { path: PathBuf, message: String },
    /// The run was told to stop before it began.
    #[error("the run was told to stop")]
    Stopped,
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl EngineError {
    pub(super) fn native(message: impl Into<String>) -> Self {
        Self::Native(message.into())
    }

    pub(super) fn model(message: impl Into<String>) -> Self {
        Self::Model { message: message.into() }
    }

    pub(super) fn checkpoint(path: &Path, message: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.to_owned(), message: message.into() }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// The error as the job shows it. Paths and library texts stay in the trainer's log.
    pub fn job_error(&self) -> JobError {
        let text = self.to_string();
        match self {
            Self::Torch(_) | Self::Native(_) if is_out_of_memory(&text) => JobError::new(
                "out_of_memory",
                "the device ran out of memory; a smaller batch_size or max_sequence_length needs less",
            ),
            Self::Torch(_) | Self::Native(_) => {
                JobError::new("engine_error", "the training engine failed; the attempt's log has the details")
            }
            Self::Stopped => JobError::new("stopped", text),
            Self::Model { .. } => JobError::new("invalid_model", text).param("model"),
            Self::Data { param, .. } => JobError::new(format!("invalid_{param}"), text).param(*param),
            Self::Hyperparameter { name, .. } => {
                JobError::new("invalid_hyperparameter", text).param(format!("hyperparameters.{name}"))
            }
            Self::NonFinite { .. } => JobError::new("non_finite_loss", text),
            Self::Checkpoint { .. } => {
                JobError::new("invalid_checkpoint", "the checkpoint to resume from cannot be used")
            }
            Self::Io { source, .. } if finetuned::domain::error::is_storage_full(source) => {
                JobError::new("out_of_storage", "no room is left on the disk of the run's folder")
            }
            Self::Io { .. } => JobError::new("io_error", "the trainer could not read or write its files"),
        }
    }
}

/// oneDNN says no more than that it could not create what it compiles for a shape, which it can where there is memory for
/// it: what it has no code for at all fails before, with the primitive's descriptor.
fn is_out_of_memory(text: &str) -> bool {
    let of_onednn = "could not create a primitive";
    let is_of_onednn = text.match_indices(of_onednn).any(|(at, _)| !text[at + of_onednn.len()..].starts_with(" desc"));
    is_of_onednn
        || ["out of memory", "can't allocate memory", "not enough memory"].iter().any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::is_out_of_memory;

    #[test]
    fn what_libraries_say_of_memory_is_known() {
        for (text, is_of_memory) in [
            ("CUDA out of memory. Tried to allocate 2.00 GiB", true),
            ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes", true),
            ("Internal torch error: could not create a primitive", true),
            ("could not create a primitive\nframe #0", true),
            ("could not create a primitive descriptor for a matmul primitive", false),
            ("mat1 and mat2 shapes cannot be multiplied", false),
        ] {
            assert_eq!(is_out_of_memory(text), is_of_memory, "{text}");
        }
    }
}
