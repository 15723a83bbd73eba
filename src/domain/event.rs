//! What happened to a job, for people to read and programs to plot.

use std::str::FromStr;

use super::Timestamp;
use super::id::EventId;
use super::job::JobStatus;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl FromStr for Level {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Info, Self::Warn, Self::Error].into_iter().find(|level| level.as_str() == word).ok_or(())
    }
}

/// What an event tells of: what programs choose events by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Something for people to read.
    Message,
    /// Measurements at a step.
    Metrics,
    /// A checkpoint can be used.
    CheckpointCreated,
    /// The job has another status.
    Moved(JobStatus),
}

impl EventKind {
    /// The word in the database.
    pub fn word(self) -> String {
        match self {
            Self::Message => "message".to_owned(),
            Self::Metrics => "metrics".to_owned(),
            Self::CheckpointCreated => "checkpoint.created".to_owned(),
            Self::Moved(status) => format!("job.{status}"),
        }
    }

    /// OpenAI's `type`, which tells measurements from everything else.
    pub fn openai_type(self) -> &'static str {
        if self == Self::Metrics { "metrics" } else { "message" }
    }
}

impl FromStr for EventKind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word.strip_prefix("job.") {
            Some(status) => status.parse().map(Self::Moved),
            None => [Self::Message, Self::Metrics, Self::CheckpointCreated]
                .into_iter()
                .find(|kind| kind.word() == word)
                .ok_or(()),
        }
    }
}

/// An event to record.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    pub level: Level,
    pub kind: EventKind,
    pub message: String,
    pub data: Option<serde_json::Value>,
}

impl NewEvent {
    fn message(level: Level, message: impl Into<String>) -> Self {
        Self { level, kind: EventKind::Message, message: message.into(), data: None }
    }

    /// Something to know.
    pub fn info(message: impl Into<String>) -> Self {
        Self::message(Level::Info, message)
    }

    /// Something to look at.
    pub fn warn(message: impl Into<String>) -> Self {
        Self::message(Level::Warn, message)
    }

    /// Something that went wrong.
    pub fn error(message: impl Into<String>) -> Self {
        Self::message(Level::Error, message)
    }

    /// Measurements at a step.
    pub fn metrics(message: impl Into<String>, data: serde_json::Value) -> Self {
        Self { kind: EventKind::Metrics, ..Self::info(message) }.data(data)
    }

    /// A checkpoint can be used.
    pub fn checkpoint(message: impl Into<String>) -> Self {
        Self { kind: EventKind::CheckpointCreated, ..Self::info(message) }
    }

    /// The same event with data for programs.
    #[must_use]
    pub fn data(mut self, data: serde_json::Value) -> Self {
        self.data = Some(data);
        self
    }
}

/// A recorded event.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: EventId,
    pub created_at: Timestamp,
    pub level: Level,
    pub kind: EventKind,
    pub message: String,
    pub data: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::{EventKind, JobStatus};

    #[test]
    fn kinds_read_back_from_their_words() {
        let kinds = [EventKind::Message, EventKind::Metrics, EventKind::CheckpointCreated];
        for kind in kinds.into_iter().chain(JobStatus::ALL.map(EventKind::Moved)) {
            assert_eq!(kind.word().parse(), Ok(kind));
        }
        assert!("job.eaten".parse::<EventKind>().is_err() && "".parse::<EventKind>().is_err());
    }
}
