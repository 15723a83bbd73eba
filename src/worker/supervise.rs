//! One attempt at a job, from the claim to its recorded end.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::child::{Output, Trainer};
use super::ending::{self, Ending};
use super::lease::{Keeper, Lease};
use super::prepare::prepare;
use super::publish;
use super::reports::Reports;
use crate::db::jobs;
use crate::db::queue::Claim;
use crate::domain::attempt::Outcome;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::job::{Job, JobError};
use crate::domain::run::{Finished, TrainerCommand, TrainerMessage};

/// How often reports are written to the database.
const FLUSH: Duration = Duration::from_secs(1);
/// How long a trainer may take to stop by itself once its job is cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(1);
/// How long a trainer may live on once it prints no more.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);
/// How long a trainer may take to die of SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(1);

/// Runs a claimed job and records how the attempt ended. The slot is free again on return.
pub(super) async fn supervise(worker: &Worker, claim: Claim, shutdown: CancellationToken) {
    let app = &worker.app;
    tracing::info!(job = %claim.job, attempt = claim.attempt, "attempt started");
    let folder = app.runs().join(format!("{}-{}", claim.job.0.simple(), claim.attempt));
    let mut keeper = Keeper::start(app.clone(), claim, worker.hints.clone());
    let ending = match attempt(worker, &claim, &folder, &mut keeper, shutdown).await {
        Ok(ending) => ending,
        Err(error) => ending_of(&error),
    };
    let recorded = ending::record(worker, &claim, &ending).await;
    tracing::info!(job = %claim.job, attempt = claim.attempt, outcome = %ending.outcome, detail = ending.detail, "attempt ended");
    if let Err(error) = recorded {
        // The lease ends by itself, and the job goes on elsewhere.
        tracing::warn!(job = %claim.job, error = error.chain(), "the end of the attempt could not be recorded");
    }
    if let Err(error) = tokio::fs::remove_dir_all(&folder).await {
        tracing::debug!(%error, "the run's folder stays");
    }
}

/// An attempt that could not even start.
fn ending_of(error: &Error) -> Ending {
    tracing::warn!(error = error.chain(), "the attempt could not run");
    let outcome = if error.kind == ErrorKind::Unavailable { Outcome::Lost } else { Outcome::Crashed };
    Ending::new(outcome, format!("the run could not be prepared: {}", error.message))
}

async fn attempt(
    worker: &Worker,
    claim: &Claim,
    folder: &Path,
    keeper: &mut Keeper,
    shutdown: CancellationToken,
) -> Result<Ending> {
    let app = &worker.app;
    let mut connection = app.db.connection().await?;
    let job =
        jobs::find_any(&mut connection, claim.job).await?.ok_or_else(|| Error::internal("a claimed job is gone"))?;
    drop(connection);
    let mut reports = Reports::new(app.clone(), *claim, &job)?;
    if let Err(error) = prepare(app, &job, folder, &mut reports).await? {
        reports.flush().await;
        return Ok(Ending::failed(error));
    }
    if keeper.state() != Lease::Held {
        return Ok(Ending::lease(keeper.state()));
    }
    let gpu = worker.gpu_of(claim.slot);
    let trainer = Trainer::start(&app.config, folder, gpu.as_deref()).map_err(Error::internal)?;
    keeper.guard(trainer.group.clone());
    let mut run =
        Run { worker, claim, job: &job, folder, reports, keeper, trainer, stop: None, finished: None, failed: None };
    run.watch(&shutdown).await;
    Ok(run.conclude().await)
}

impl Worker {
    /// The value of `CUDA_VISIBLE_DEVICES` for a slot: one of the GPUs this worker was given.
    fn gpu_of(&self, slot: i32) -> Option<String> {
        if self.devices.cuda == 0 {
            return None;
        }
        let index = slot.unsigned_abs() as usize % self.devices.cuda;
        let given = self.app.config.cuda_visible_devices.as_ref().and_then(|list| list.to_str());
        let named = given.and_then(|list| list.split(',').nth(index)).map(str::to_owned);
        Some(named.unwrap_or_else(|| index.to_string()))
    }
}

/// Why and how a trainer is being stopped.
struct Stop {
    /// What the attempt's end is recorded as.
    outcome: Outcome,
    /// When to become ruder.
    deadline: Instant,
    next: Signal,
}

/// A trainer at work.
struct Run<'a> {
    worker: &'a Worker,
    claim: &'a Claim,
    job: &'a Job,
    folder: &'a Path,
    reports: Reports,
    keeper: &'a mut Keeper,
    trainer: Trainer,
    stop: Option<Stop>,
    finished: Option<Finished>,
    failed: Option<JobError>,
}

impl Run<'_> {
    /// Takes in what the trainer prints until it prints no more, and stops it when the lease is gone or the service
    /// shuts down.
    async fn watch(&mut self, shutdown: &CancellationToken) {
        let mut flush = tokio::time::interval(FLUSH);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.stop.as_ref().map(|stop| stop.deadline);
            tokio::select! {
                biased;
                lease = self.keeper.gone(), if self.may_stop() => self.stop_for(lease).await,
                () = shutdown.cancelled(), if self.stop.is_none() => self.stop_to_resume().await,
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => self.escalate(),
                output = self.trainer.output() => match output {
                    Some(output) => self.take(output).await,
                    None => return,
                },
                _ = flush.tick() => {
                    self.note_memory();
                    self.reports.flush().await;
                }
            }
        }
    }

    fn note_memory(&mut self) {
        self.reports.peak_memory = self.trainer.peak_memory().or(self.reports.peak_memory);
    }

    /// A lost lease matters even while the trainer is saving its last checkpoint.
    fn may_stop(&self) -> bool {
        self.stop.as_ref().is_none_or(|stop| stop.outcome == Outcome::ShutDown)
    }

    async fn stop_for(&mut self, lease: Lease) {
        let outcome = if lease == Lease::Cancelled { Outcome::Cancelled } else { Outcome::Lost };
        if outcome == Outcome::Cancelled {
            self.trainer.send(TrainerCommand::Stop { checkpoint: false }).await;
        } else {
            self.trainer.group.signal(Signal::SIGKILL);
        }
        self.stop = Some(Stop { outcome, deadline: Instant::now() + CANCEL_GRACE, next: Signal::SIGTERM });
    }

    async fn stop_to_resume(&mut self) {
        self.trainer.send(TrainerCommand::Stop { checkpoint: true }).await;
        let deadline = Instant::now() + self.worker.app.config.shutdown;
        self.stop = Some(Stop { outcome: Outcome::ShutDown, deadline, next: Signal::SIGTERM });
    }

    fn escalate(&mut self) {
        if let Some(stop) = &mut self.stop {
            self.trainer.group.signal(stop.next);
            stop.next = Signal::SIGKILL;
            stop.deadline = Instant::now() + TERM_GRACE;
        }
    }

    async fn take(&mut self, output: Output) {
        match output {
            Output::Noise(text) => {
                tracing::warn!(job = %self.claim.job, text, "the trainer printed what is no message");
            }
            Output::Message(TrainerMessage::Checkpoint { step, directory, metrics }) => {
                self.reports.flush().await;
                // The trainer's paths are relative to its own folder.
                let directory = self.folder.join(directory);
                let published =
                    publish::checkpoint(&self.worker.app, self.claim, self.job, step, &directory, metrics).await;
                if let Err(error) = published {
                    tracing::warn!(job = %self.claim.job, step, error = error.chain(), "a checkpoint could not be stored");
                    self.reports.event(NewEvent::warn(format!("The checkpoint at step {step} could not be stored")));
                }
                let _ = tokio::fs::remove_dir_all(&directory).await;
            }
            Output::Message(TrainerMessage::Finished(finished)) => {
                self.note_memory();
                self.finished = Some(finished);
            }
            Output::Message(TrainerMessage::Failed { error }) => self.failed = Some(error),
            Output::Message(message) => self.reports.take(message).await,
        }
    }

    /// Waits for the process and works out how the attempt ended.
    async fn conclude(mut self) -> Ending {
        let group = self.trainer.group.clone();
        let ended = self.trainer.end(self.reports.peak_memory);
        tokio::pin!(ended);
        let (process, stderr) = loop {
            tokio::select! {
                ended = &mut ended => break ended,
                // Its output has ended, so its work has too.
                () = tokio::time::sleep(OUTPUT_GRACE) => group.signal(Signal::SIGKILL),
            }
        };
        self.reports.flush().await;
        let ending = match (self.stop, self.failed, self.finished) {
            (Some(stop), ..) if stop.outcome != Outcome::ShutDown => Ending::stopped(stop.outcome),
            (_, Some(error), _) => Ending::failed(error),
            (_, None, Some(finished)) => {
                let app = &self.worker.app;
                Ending::finished(publish::model(app, self.claim, self.job, self.folder, &finished, process).await)
            }
            (Some(_), None, None) => Ending::stopped(Outcome::ShutDown),
            (None, None, None) => Ending::crashed(process),
        };
        ending.with_process(process, stderr)
    }
}
