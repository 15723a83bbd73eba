//! Uploaded and produced files.

use std::fmt;
use std::str::FromStr;

use super::Timestamp;
use super::id::{FileId, ProjectId};
use super::report::FileReport;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilePurpose {
    Assistants,
    Batch,
    FineTune,
    Vision,
    UserData,
    Evals,
    /// Made by the service: the metrics of a finished job. Not for uploads.
    FineTuneResults,
}

impl FilePurpose {
    /// The purposes a client may upload for.
    pub const UPLOADABLE: [Self; 6] =
        [Self::Assistants, Self::Batch, Self::FineTune, Self::Vision, Self::UserData, Self::Evals];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assistants => "assistants",
            Self::Batch => "batch",
            Self::FineTune => "fine-tune",
            Self::Vision => "vision",
            Self::UserData => "user_data",
            Self::Evals => "evals",
            Self::FineTuneResults => "fine-tune-results",
        }
    }
}

impl fmt::Display for FilePurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FilePurpose {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::UPLOADABLE.into_iter().chain([Self::FineTuneResults]).find(|purpose| purpose.as_str() == text).ok_or(())
    }
}

/// A stored file. Its bytes never change.
#[derive(Clone, Debug)]
pub struct File {
    pub id: FileId,
    pub project: ProjectId,
    pub purpose: FilePurpose,
    /// As the client called it; never used as a path.
    pub filename: String,
    pub bytes: u64,
    pub sha256: [u8; 32],
    /// Where the object store keeps it.
    pub object_key: String,
    /// What reading it found; only for files that are for fine-tuning.
    pub report: Option<FileReport>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

impl File {
    /// Whether it can be read as data at all.
    pub fn is_readable(&self) -> bool {
        self.report.as_ref().is_none_or(FileReport::is_readable)
    }
}

/// Bounds of `expires_after[seconds]`.
pub const EXPIRY_SECONDS: std::ops::RangeInclusive<i64> = 3600..=2_592_000;

/// The longest filename kept, in bytes.
pub const MAX_FILENAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::FilePurpose;

    #[test]
    fn purposes_read_back_from_their_words() {
        for purpose in FilePurpose::UPLOADABLE {
            assert_eq!(purpose.as_str().parse(), Ok(purpose));
        }
        assert!("finetune".parse::<FilePurpose>().is_err());
        assert!(!FilePurpose::UPLOADABLE.contains(&FilePurpose::FineTuneResults));
    }
}
