//! Attempts: each time a worker takes a job, and how it ended.

use std::fmt;
use std::str::FromStr;

use super::Timestamp;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    /// The trainer reported an error; trying again would not help.
    Failed,
    /// The trainer died without a word: a signal, or an exit status out of the blue.
    Crashed,
    /// The worker went away or lost its lease.
    Lost,
    /// The worker shut down in an orderly way and gave the job back.
    ShutDown,
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 6] = [Self::Succeeded, Self::Failed, Self::Crashed, Self::Lost, Self::ShutDown, Self::Cancelled];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::Lost => "lost",
            Self::ShutDown => "shut_down",
            Self::Cancelled => "cancelled",
        }
    }

    /// How many attempts of a job may end like this before the job fails; None where none counts.
    pub fn budget(self) -> Option<u32> {
        match self {
            Self::Crashed => Some(3),
            Self::Lost => Some(20),
            Self::Succeeded | Self::Failed | Self::ShutDown | Self::Cancelled => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text).ok_or(())
    }
}

/// How the trainer process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// Most resident memory it had, in bytes.
    pub peak_memory: Option<u64>,
}

/// One attempt at a job.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// The name of the worker's machine.
    pub worker: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub outcome: Option<Outcome>,
    /// What happened, in a sentence.
    pub detail: Option<String>,
    pub process: ProcessEnd,
    /// The step it went on from; 0 is the beginning.
    pub start_step: u64,
    /// The device it trained on.
    pub device: Option<String>,
    /// The end of what the trainer wrote to its standard error.
    pub stderr_tail: Option<String>,
}
