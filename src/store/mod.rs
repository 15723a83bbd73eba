//! Where bytes live: uploads, models, checkpoints, results. Objects are written once under keys that are never used
//! again; which of them count is for the database to say.

mod local;

pub use local::{LocalStore, Stored, hash_file};

use crate::domain::error::{Error, ErrorKind, is_storage_full};

/// An object could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("object {key} does not exist")]
    NotFound { key: String },
    #[error("object {key} has other bytes than were stored")]
    Corrupt { key: String },
    #[error("object key {key:?} is malformed")]
    Key { key: String },
    #[error("object {key}: {source}")]
    Io { key: String, source: std::io::Error },
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Io { source, .. } if is_storage_full(source) => out_of_storage(error),
            _ => Self::internal(error),
        }
    }
}

/// The error for callers whose data did not fit.
pub fn out_of_storage(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = "The service has no room left to store this. Nothing was kept.";
    Error::new(ErrorKind::OutOfStorage, message).source(source)
}
