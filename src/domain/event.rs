//! What happened to a job, for people to read and programs to plot.

use super::Timestamp;
use super::id::EventId;

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

/// An event to record.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    pub level: Level,
    pub message: String,
    /// Measurements, for events of type `metrics`.
    pub metrics: bool,
    pub data: Option<serde_json::Value>,
}

impl NewEvent {
    fn message(level: Level, message: impl Into<String>) -> Self {
        Self { level, message: message.into(), metrics: false, data: None }
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
        Self { level: Level::Info, message: message.into(), metrics: true, data: Some(data) }
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
    /// `info`, `warn` or `error`.
    pub level: String,
    /// `message` or `metrics`.
    pub kind: String,
    pub message: String,
    pub data: Option<serde_json::Value>,
}
