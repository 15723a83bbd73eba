//! How an attempt ended, and what follows for its job.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::Worker;
use super::lease::Lease;
use crate::db::queue::Claim;
use crate::db::{Connection, attempts, events, queue};
use crate::domain::attempt::{Outcome, ProcessEnd};
use crate::domain::error::{Error, Result};
use crate::domain::event::NewEvent;
use crate::domain::id::JobId;
use crate::domain::job::JobError;
use crate::telemetry;

/// The end of an attempt.
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
    /// What the job's owner is told, where the job fails.
    error: Option<JobError>,
    process: ProcessEnd,
    stderr: Option<String>,
}

impl Ending {
    pub(super) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into(), error: None, process: ProcessEnd::default(), stderr: None }
    }

    /// The trainer reported an error.
    pub(super) fn failed(error: JobError) -> Self {
        Self { error: Some(error.clone()), ..Self::new(Outcome::Failed, error.message) }
    }

    /// The trainer died without a word.
    pub(super) fn crashed(process: ProcessEnd) -> Self {
        Self::new(Outcome::Crashed, describe(process))
    }

    /// The trainer was stopped by us.
    pub(super) fn stopped(outcome: Outcome) -> Self {
        let detail = match outcome {
            Outcome::Cancelled => "the job was cancelled",
            Outcome::ShutDown => "the worker shut down",
            _ => "the worker lost its lease",
        };
        Self::new(outcome, detail)
    }

    /// The lease was gone before the trainer started.
    pub(super) fn lease(lease: Lease) -> Self {
        Self::stopped(if lease == Lease::Cancelled { Outcome::Cancelled } else { Outcome::Lost })
    }

    /// The trainer finished, and its model was stored, or was not.
    pub(super) fn finished(published: Result<bool>) -> Self {
        match published {
            Ok(true) => Self::new(Outcome::Succeeded, "the model was stored"),
            Ok(false) => Self::stopped(Outcome::Lost),
            Err(error) => {
                tracing::warn!(error = error.chain(), "the model could not be stored");
                Self::new(Outcome::Crashed, format!("the model could not be stored: {}", error.message))
            }
        }
    }

    pub(super) fn with_process(mut self, process: ProcessEnd, stderr: String) -> Self {
        self.process = process;
        self.stderr = Some(stderr).filter(|text| !text.trim().is_empty());
        self
    }
}

/// How people call the end of a process.
fn describe(process: ProcessEnd) -> String {
    match (process.signal, process.exit_code) {
        (Some(signal), _) => {
            let name = Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |s| s.as_str().to_owned());
            format!("the training process was killed by {name}")
        }
        (None, Some(code)) => format!("the training process ended with status {code} and no word"),
        (None, None) => "the training process ended with no word".to_owned(),
    }
}

/// Records the end, moves the job on if the lease is still the claim's, and frees the slot.
pub(super) async fn record(worker: &Worker, claim: &Claim, ending: &Ending) -> Result<()> {
    metrics::counter!(telemetry::ATTEMPTS, "outcome" => ending.outcome.as_str()).increment(1);
    let mut outcome = Ok(());
    // A short outage must not cost the work of hours.
    for pause in [0, 1, 2, 4] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        outcome = settle(worker, claim, ending).await;
        if outcome.is_ok() {
            break;
        }
    }
    queue::free_slot(worker.app.db.pool(), worker.identity.id, claim).await?;
    outcome
}

async fn settle(worker: &Worker, claim: &Claim, ending: &Ending) -> Result<()> {
    let mut tx = worker.app.db.begin().await?;
    let held = queue::hold(tx.connection(), claim).await?;
    let end = attempts::End {
        outcome: ending.outcome,
        detail: &ending.detail,
        process: ending.process,
        stderr_tail: ending.stderr.as_deref(),
    };
    attempts::end(&mut *tx.connection(), claim.job, claim.attempt, &end).await?;
    if held {
        let connection = tx.connection();
        match ending.outcome {
            Outcome::Failed => {
                let error = ending.error.clone().unwrap_or_else(|| JobError::new("training_failed", &ending.detail));
                fail(connection, claim.job, &error).await?;
            }
            Outcome::Crashed | Outcome::Lost => {
                retry_or_fail(connection, claim.job, claim.attempt, ending.outcome, &ending.detail).await?;
            }
            Outcome::ShutDown => {
                queue::requeue(connection, claim.job, Duration::ZERO).await?;
                let event = NewEvent::info("The worker shut down; the job is queued again and will go on");
                events::insert(connection, claim.job, &[event]).await?;
            }
            // Already recorded together with the model, or by whoever cancelled.
            Outcome::Succeeded | Outcome::Cancelled => {}
        }
    }
    queue::hint(&mut *tx.connection()).await?;
    tx.commit().await
}

/// Fails a job, with the event that says so.
pub(super) async fn fail(db: &mut Connection, job: JobId, error: &JobError) -> Result<()> {
    queue::fail(db, job, error).await?;
    let data = serde_json::json!({"error_code": error.code, "error_param": error.param});
    events::insert(db, job, &[NewEvent::error(error.message.clone()).data(data)]).await
}

/// Queues a job again after an attempt that did not come to an end of its own, or fails it once such attempts have
/// used up their budget.
pub(super) async fn retry_or_fail(
    db: &mut Connection,
    job: JobId,
    attempt: u32,
    outcome: Outcome,
    detail: &str,
) -> Result<()> {
    let count = attempts::count(&mut *db, job, outcome).await?;
    let budget = outcome.budget().ok_or_else(|| Error::internal("this outcome is not retried"))?;
    if count >= budget {
        let code = if outcome == Outcome::Crashed { "training_crashed" } else { "worker_lost" };
        let error = JobError::new(code, format!("Gave up after {count} such attempts; the last time {detail}."));
        return fail(db, job, &error).await;
    }
    let delay = if outcome == Outcome::Crashed { backoff(count) } else { Duration::ZERO };
    queue::requeue(&mut *db, job, delay).await?;
    let message = format!("Attempt {attempt} ended early: {detail}. The job is queued again and will go on.");
    events::insert(db, job, &[NewEvent::warn(message)]).await
}

/// 1, 2, 4 … seconds after the first, second, third … crash, and a minute at most.
fn backoff(crashes: u32) -> Duration {
    Duration::from_secs(1 << crashes.saturating_sub(1).min(6)).min(Duration::from_mins(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{backoff, describe};
    use crate::domain::attempt::ProcessEnd;

    #[test]
    fn a_process_end_is_told_in_words() {
        let end = |exit_code, signal| describe(ProcessEnd { exit_code, signal, peak_memory: None });
        assert_eq!(end(None, Some(9)), "the training process was killed by SIGKILL");
        assert_eq!(end(Some(101), None), "the training process ended with status 101 and no word");
    }

    #[test]
    fn waiting_doubles_up_to_a_minute() {
        let seconds: Vec<u64> = (1..=9).map(|crashes| backoff(crashes).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff(u32::MAX), Duration::from_mins(1));
    }
}
