//! Uploads: files that come in parts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Timestamp;
use super::file::{File, FilePurpose};
use super::id::{PartId, ProjectId, UploadId};

/// The largest part: OpenAI's 64 MB, as its SDKs count them.
pub const MAX_PART_BYTES: u64 = 64 << 20;

/// The most parts of one upload.
pub const MAX_PARTS: u64 = 10_000;

/// How long an upload waits for its next part. With OpenAI it ends an hour after its creation, which is too short for what is
/// large or comes slowly.
pub const PATIENCE: Duration = Duration::from_hours(1);

/// What has become of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadStatus {
    /// Parts may come.
    Pending,
    /// There is a file of it.
    Completed,
    Cancelled,
    /// No part came for too long.
    Expired,
}

impl UploadStatus {
    const ALL: [Self; 4] = [Self::Pending, Self::Completed, Self::Cancelled, Self::Expired];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for UploadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for UploadStatus {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// An upload.
#[derive(Clone, Debug)]
pub struct Upload {
    pub id: UploadId,
    pub project: ProjectId,
    pub purpose: FilePurpose,
    pub filename: String,
    pub mime_type: String,
    /// Of all parts together, as announced.
    pub bytes: u64,
    /// How long its file shall be kept, in seconds.
    pub expires_after: Option<i64>,
    pub status: UploadStatus,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// What it has become, unless that was deleted since.
    pub file: Option<File>,
}

/// A part of an upload. Its bytes never change.
#[derive(Clone, Debug)]
pub struct Part {
    pub id: PartId,
    pub upload: UploadId,
    pub bytes: u64,
    pub sha256: [u8; 32],
    pub object_key: String,
    pub created_at: Timestamp,
}
