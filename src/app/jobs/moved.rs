//! The moves of jobs, as the log and the metrics tell them.

use std::time::Duration;

use crate::app::App;
use crate::db::{self, jobs};
use crate::domain::clip::clipped_to;
use crate::domain::job::{JOB_ERROR_CODES, JobStatus, Moved};
use crate::telemetry;

/// What a line holds of what happened, in characters.
const DETAIL: usize = 300;
/// How long asking for the rest of a line may take; without an answer it is shorter.
const ASK: Duration = Duration::from_secs(2);

/// Tells a move that is committed: a line with the id that clients know, and what the metrics count.
pub async fn told(app: &App, moved: &Moved, detail: Option<&str>) {
    let Moved { job, kind, status, attempt, word } = *moved;
    let summary = db::within(ASK, jobs::summary(app.db.pool(), job)).await.ok().flatten();
    let project = summary.as_ref().map(|summary| summary.project.as_str());
    let detail = detail.map(|text| clipped_to(text, DETAIL));
    tracing::info!(job = kind.public_id(job), project, attempt, detail = detail.as_deref(), "job {word}");
    let Some(summary) = summary else { return };
    if status == JobStatus::Running && word == status.as_str() {
        metrics::histogram!(telemetry::QUEUE_WAIT, "kind" => kind.as_str()).record(summary.waited);
    }
    if status.is_terminal() {
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
