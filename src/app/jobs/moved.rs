//! The moves of jobs, as the log and the metrics tell them.

use std::time::Duration;

use crate::app::App;
use crate::db::{self, jobs};
use crate::domain::clip::clipped_to;
use crate::domain::id::JobId;
use crate::domain::job::{JOB_ERROR_CODES, JobKind, JobStatus};
use crate::telemetry;

/// What a line holds of what happened, in characters.
const DETAIL: usize = 300;
/// How long asking for the rest of a line may take; without an answer it is shorter.
const ASK: Duration = Duration::from_secs(2);

/// A move that a job has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Created,
    /// Its files are validated, and it waits for a slot.
    Queued,
    /// A worker has claimed it.
    Running,
    /// Its owner asked it to pause, and it still runs.
    Pausing,
    Paused,
    Resumed,
    /// An attempt ended early, and it waits for the next one.
    PutBack,
    Succeeded,
    Failed,
    Cancelled,
}

impl Move {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::PutBack => "put back",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn end(self) -> Option<JobStatus> {
        match self {
            Self::Succeeded => Some(JobStatus::Succeeded),
            Self::Failed => Some(JobStatus::Failed),
            Self::Cancelled => Some(JobStatus::Cancelled),
            _ => None,
        }
    }
}

/// Tells a move that is committed: a line with the id that clients know, and what the metrics count. `attempt` is the one
/// that made it; None asks for the latest, which by then may be the next one.
pub async fn told(app: &App, kind: JobKind, job: JobId, made: Move, attempt: Option<u32>, detail: Option<&str>) {
    let summary = db::within(ASK, jobs::summary(app.db.pool(), job)).await.ok().flatten();
    let id = kind.public_id(job);
    let project = summary.as_ref().map(|summary| summary.project.as_str());
    let attempt = attempt.or(summary.as_ref().map(|summary| summary.attempt));
    let detail = detail.map(|text| clipped_to(text, DETAIL));
    tracing::info!(job = id, project, attempt, detail = detail.as_deref(), "job {}", made.as_str());
    let Some(summary) = summary else { return };
    if made == Move::Running {
        metrics::histogram!(telemetry::QUEUE_WAIT, "kind" => kind.as_str()).record(summary.waited);
    }
    if let Some(status) = made.end() {
        let labels = [("kind", kind.as_str()), ("status", status.as_str())];
        metrics::histogram!(telemetry::JOB_SECONDS, &labels).record(summary.age);
        let cause = summary.error_code.as_deref().map_or("none", known_code);
        let [kind, status] = labels;
        metrics::counter!(telemetry::JOB_ENDS, &[kind, status, ("cause", cause)]).increment(1);
    }
}

/// A code that this version gives, so that no label comes from elsewhere.
fn known_code(code: &str) -> &'static str {
    JOB_ERROR_CODES.into_iter().find(|known| *known == code).unwrap_or("other")
}
