//! Where jobs stand, and where they may go from there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::JobStatus;

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
}
