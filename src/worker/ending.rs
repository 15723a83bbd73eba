//! How an attempt ended, and what follows for its job.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::Worker;
use super::lease::Lease;
use super::memory::cause_of_death;
use super::publisher;
use crate::app::jobs::told;
use crate::db::attempts::Spent;
use crate::db::queue::Claim;
use crate::db::{self, Connection, attempts, moves, queue};
use crate::domain::attempt::{Cause, Outcome, ProcessEnd};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::estimate::gib;
use crate::domain::id::JobId;
use crate::domain::job::{JobError, JobStatus, Move, Moved, Why};
use crate::telemetry;

/// The end of an attempt.
pub(super) struct Ending {
    /// None for success.
    cause: Option<Cause>,
    pub(super) detail: String,
    /// What the job's owner is told, where the job fails.
    error: Option<JobError>,
    process: ProcessEnd,
    stderr: Option<String>,
}

impl Ending {
    pub(super) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause: Some(cause), detail: detail.into(), error: None, process: ProcessEnd::default(), stderr: None }
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.cause.map_or(Outcome::Succeeded, Cause::outcome)
    }

    /// An error was reported: by the trainer, if a process ended with it, or while its folder was prepared.
    pub(super) fn reported(error: JobError, process: Option<ProcessEnd>) -> Self {
        let peak = |bytes: Option<u64>| bytes.map_or("an unknown amount".to_owned(), gib);
        let end = process.unwrap_or_default();
        match error.code.as_str() {
            "out_of_memory" if end.peak_device_memory.is_some() => {
                let held = peak(end.peak_device_memory);
                let detail = format!("the GPU's memory did not suffice; tensors held up to {held} of it");
                Self::new(Cause::OutOfDeviceMemory, detail)
            }
            "out_of_memory" => {
                let held = peak(end.peak_memory);
                let detail = format!("memory did not suffice; the training process held up to {held}");
                Self::new(Cause::OutOfHostMemory, detail)
            }
            "out_of_storage" => Self::new(Cause::OutOfStorage, error.message),
            "engine_error" | "io_error" => Self::new(Cause::EngineError, error.message),
            _ => Self { error: Some(error.clone()), ..Self::new(Cause::JobError, error.message) },
        }
    }

    /// The trainer died without a word. `kills` are the kernel's counts before and after.
    pub(super) fn died(process: ProcessEnd, stderr: &str, kills: (Option<u64>, Option<u64>)) -> Self {
        let cause = cause_of_death(process, stderr, kills);
        let mut detail = describe(process);
        if cause == Cause::OutOfHostMemory {
            let held = process.peak_memory.map_or(String::new(), |bytes| format!("; it held up to {}", gib(bytes)));
            detail = format!("{detail} for want of memory{held}");
        }
        Self::new(cause, detail)
    }

    /// The trainer said what no trainer says, and was killed for it.
    pub(super) fn of_fault(fault: &str) -> Self {
        Self::new(Cause::EngineError, format!("the training process said what it must not: {fault}"))
    }

    /// The worker failed, by a fault of its own.
    pub(super) fn panicked() -> Self {
        Self::new(Cause::EngineError, "the worker failed at the run; its log has the details")
    }

    /// The trainer made no progress for so long.
    pub(super) fn stalled(patience: Duration) -> Self {
        Self::new(Cause::Stalled, format!("the training process made no progress for {} s", patience.as_secs()))
    }

    /// The trainer was stopped by us.
    pub(super) fn stopped(cause: Cause) -> Self {
        let detail = match cause {
            Cause::CancelRequested => "the job was cancelled",
            Cause::PauseRequested => "the job was paused",
            Cause::WorkerShutDown => "the worker shut down",
            Cause::OutOfStorage => "the disk was nearly full",
            _ => "the worker lost its lease",
        };
        Self::new(cause, detail)
    }

    /// The lease was gone before the trainer started.
    pub(super) fn lease(lease: Lease) -> Self {
        Self::stopped(if lease == Lease::Cancelled { Cause::CancelRequested } else { Cause::LeaseLost })
    }

    /// The trainer finished, and its model was stored, or was not.
    pub(super) fn finished(published: Result<bool>) -> Self {
        match published {
            Ok(true) => Self { cause: None, ..Self::new(Cause::JobError, "the model was stored") },
            Ok(false) => Self::stopped(Cause::LeaseLost),
            Err(error) => {
                tracing::warn!(error = error.chain(), "the results could not be stored");
                let full = error.kind == ErrorKind::OutOfStorage;
                let cause = if full { Cause::OutOfStorage } else { Cause::NotStored };
                Self::new(cause, format!("the results could not be stored: {}", error.message))
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
    let cause = ending.cause.map_or("none", Cause::as_str);
    let labels = [("kind", claim.kind.as_str()), ("outcome", ending.outcome().as_str()), ("cause", cause)];
    metrics::counter!(telemetry::ATTEMPTS, &labels).increment(1);
    let mut outcome = Ok(None);
    for tries in 0_u32.. {
        outcome = db::within(WRITE, db::retrying(|| settle(worker, claim, ending))).await;
        let Err(error) = &outcome else { break };
        // While the database is away there is nothing to run in the slot anyway, and how the trainer ended is known here
        // alone.
        let is_away = error.kind == ErrorKind::Unavailable && !worker.shutdown.is_cancelled();
        if !is_away && tries >= TRIES {
            break;
        }
        tracing::warn!(
            job = claim.public_id(),
            error = error.chain(),
            "the end of the attempt could not be recorded yet"
        );
        tokio::time::sleep(publisher::pause(tries)).await;
    }
    let made = match outcome {
        Ok(made) => made,
        Err(error) => {
            free_slot(worker, claim).await;
            return Err(error);
        }
    };
    if let Some(made) = made {
        told(&worker.app, &made, Some(&ending.detail)).await;
    }
    Ok(())
}

/// How often the end of an attempt is written again where that failed.
const TRIES: u32 = 4;

/// How long one write may take.
const WRITE: Duration = Duration::from_secs(20);

/// Frees a slot whose attempt's end could not be recorded, however long the database is away: until then this worker has
/// nothing to run in it anyway.
pub(super) async fn free_slot(worker: &Worker, claim: &Claim) {
    while let Err(error) = db::within(WRITE, queue::free_slot(worker.app.db.pool(), worker.identity.id, claim)).await {
        tracing::warn!(job = claim.public_id(), error = error.chain(), "the slot could not be freed yet");
        if worker.shutdown.is_cancelled() {
            // The next start registers the slots anew.
            return;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Returns the move that the job made by it.
async fn settle(worker: &Worker, claim: &Claim, ending: &Ending) -> Result<Option<Moved>> {
    let mut tx = worker.app.db.begin().await?;
    let held = queue::hold(tx.connection(), claim).await?;
    let end = attempts::End {
        cause: ending.cause,
        detail: &ending.detail,
        process: ending.process,
        stderr_tail: ending.stderr.as_deref(),
    };
    attempts::end(&mut *tx.connection(), claim.job, claim.attempt, &end).await?;
    let made = match ending.cause {
        Some(cause) if held => move_on(tx.connection(), claim, cause, ending).await?,
        Some(_) => None,
        // Recorded together with what the run made.
        None => Some(succeeded(claim)),
    };
    // The trainer is gone, so the slot is free in the moment in which another worker may take the job.
    queue::free_slot(&mut *tx.connection(), worker.identity.id, claim).await?;
    db::hint(&mut *tx.connection(), Some(claim.job)).await?;
    worker.app.failpoints.hit("ending.commit", claim.attempt.into());
    tx.commit().await?;
    Ok(made)
}

/// The move that was made when the results were stored.
fn succeeded(claim: &Claim) -> Moved {
    let status = JobStatus::Succeeded;
    Moved { job: claim.job, kind: claim.kind, status, attempt: claim.attempt, word: status.as_str() }
}

async fn move_on(db: &mut Connection, claim: &Claim, cause: Cause, ending: &Ending) -> Result<Option<Moved>> {
    let put_back = |why| Move::PutBack { delay: Duration::ZERO, why };
    let error = || ending.error.clone().unwrap_or_else(|| JobError::new("training_failed", &ending.detail));
    match cause.outcome() {
        Outcome::Failed => moves::make(db, claim.job, &Move::Fail(&error())).await.map(Some),
        Outcome::Crashed | Outcome::Lost => {
            retry_or_fail(db, claim.job, claim.attempt, cause, &ending.detail).await.map(Some)
        }
        Outcome::ShutDown => moves::make(db, claim.job, &put_back(Why::ShutDown)).await.map(Some),
        Outcome::Paused => moves::make(db, claim.job, &put_back(Why::Asked)).await.map(Some),
        // Already recorded together with the model, or by whoever cancelled.
        Outcome::Succeeded | Outcome::Cancelled => Ok(None),
    }
}

/// Queues a job again after an attempt that did not come to an end of its own, or fails it once such attempts have
/// used up their budget.
pub(super) async fn retry_or_fail(
    db: &mut Connection,
    job: JobId,
    attempt: u32,
    cause: Cause,
    detail: &str,
) -> Result<Moved> {
    let mut count = 0;
    // An attempt that counted as lost when the job went on may be known as a crash by now.
    for outcome in [Outcome::Crashed, Outcome::Lost] {
        let spent = attempts::spent(&mut *db, job, outcome).await?;
        let number = u32::try_from(spent.len()).unwrap_or(u32::MAX);
        if let (true, Some(last)) = (outcome.budget().is_some_and(|budget| number >= budget), spent.last()) {
            let code = last.cause.unwrap_or(cause).job_error_code();
            let message = format!("Gave up after {number} attempts: {}.", listed(&spent));
            return moves::make(db, job, &Move::Fail(&JobError::new(code, message))).await;
        }
        if outcome == cause.outcome() {
            count = number;
        }
    }
    let why = Why::Ended { number: attempt, detail };
    moves::make(db, job, &Move::PutBack { delay: backoff(cause.outcome(), count), why }).await
}

/// The last few attempts, each with what ended it.
fn listed(spent: &[Spent]) -> String {
    const SHOWN: usize = 3;
    let latest = &spent[spent.len().saturating_sub(SHOWN)..];
    latest
        .iter()
        .map(|Spent { number, detail, .. }| format!("in attempt {number} {detail}"))
        .collect::<Vec<_>>()
        .join("; ")
}

/// 1, 2, 4 … seconds after the first, second, third … crash, and a minute at most. The first loss costs no wait: it
/// says nothing of the job.
fn backoff(outcome: Outcome, count: u32) -> Duration {
    let doublings = match outcome {
        Outcome::Lost if count <= 1 => return Duration::ZERO,
        Outcome::Lost => count - 2,
        _ => count.saturating_sub(1),
    };
    Duration::from_secs(1 << doublings.min(6)).min(Duration::from_mins(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Ending, Spent, backoff, describe, listed};
    use crate::domain::attempt::{Cause, Outcome, ProcessEnd};
    use crate::domain::job::JobError;

    #[test]
    fn a_process_end_is_told_in_words() {
        let end = |exit_code, signal| describe(ProcessEnd { exit_code, signal, ..ProcessEnd::default() });
        assert_eq!(end(None, Some(9)), "the training process was killed by SIGKILL");
        assert_eq!(end(Some(101), None), "the training process ended with status 101 and no word");
    }

    #[test]
    fn what_a_trainer_reports_is_counted_by_whose_fault_it_is() {
        let of = |code: &str, peak_device_memory| {
            let process = ProcessEnd { peak_memory: Some(3 << 30), peak_device_memory, ..ProcessEnd::default() };
            let ending = Ending::reported(JobError::new(code, "too bad"), Some(process));
            (ending.cause.unwrap(), ending.detail)
        };
        let (cause, detail) = of("out_of_memory", None);
        assert_eq!(cause, Cause::OutOfHostMemory);
        assert!(detail.contains("held up to 3.00 GiB"), "{detail}");
        let (cause, detail) = of("out_of_memory", Some(80 << 30));
        assert_eq!((cause, cause.outcome()), (Cause::OutOfDeviceMemory, Outcome::Crashed));
        assert!(detail.contains("up to 80.00 GiB"), "{detail}");
        assert_eq!(of("engine_error", None).0.outcome(), Outcome::Crashed);
        assert_eq!(of("out_of_storage", None).0, Cause::OutOfStorage);
        assert_eq!(of("non_finite_loss", None).0.outcome(), Outcome::Failed);
    }

    #[test]
    fn waiting_doubles_up_to_a_minute() {
        let seconds = |outcome| (1..=9).map(|count| backoff(outcome, count).as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(Outcome::Crashed), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(seconds(Outcome::Lost), [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(Outcome::Crashed, u32::MAX), Duration::from_mins(1));
    }

    #[test]
    fn the_latest_attempts_are_listed() {
        let spent = |number| Spent { number, cause: None, detail: "it died".to_owned() };
        let spent: Vec<Spent> = (1..=5).map(spent).collect();
        assert_eq!(listed(&spent), "in attempt 3 it died; in attempt 4 it died; in attempt 5 it died");
    }
}
