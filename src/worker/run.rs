//! A trainer at work: taking in what it prints, stopping it when there is a reason, and working out how it ended.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::child::{Output, Trainer};
use super::ending::Ending;
use super::lease::{Keeper, Lease, pause_requested};
use super::memory;
use super::protocol::{self, Protocol};
use super::publish::{self, Done, Made};
use super::publisher::{self, Publisher};
use super::reports::Reports;
use super::watchdog::Watchdog;
use crate::db::queue::Claim;
use crate::domain::attempt::{Cause, ProcessEnd};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::job::{Job, JobError};
use crate::domain::run::{ABANDONED, Finished, TrainerCommand, TrainerMessage};
use crate::process::Group;

/// How often reports are written to the database.
const FLUSH: Duration = Duration::from_secs(1);
/// How long a trainer may take to stop by itself once its job is cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(1);
/// How long a trainer may live on once it prints no more.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);
/// How long a trainer that hangs may take to write where it is. It ends once it has; on a machine that does much else
/// that takes many seconds.
const STACK_GRACE: Duration = Duration::from_secs(30);
/// How long to wait before a process that was killed is killed again: others may have joined its group meanwhile.
const KILL_AGAIN: Duration = Duration::from_secs(1);
/// Lines of a run that are no message and are shown in the log; the others are counted.
const NOISE_SHOWN: u64 = 5;

/// Why a trainer is being stopped.
struct Stop {
    cause: Cause,
    /// When it is killed, unless it has ended by then.
    deadline: Instant,
    is_killed: bool,
}

impl Stop {
    fn by(cause: Cause, deadline: Instant) -> Self {
        Self { cause, deadline, is_killed: false }
    }
}

/// A trainer at work.
pub(super) struct Run<'a> {
    worker: &'a Worker,
    claim: &'a Claim,
    job: &'a Job,
    folder: &'a Path,
    reports: Reports,
    keeper: &'a mut Keeper,
    pausing: watch::Receiver<bool>,
    trainer: Trainer,
    publisher: Publisher,
    watchdog: Watchdog,
    protocol: Protocol,
    /// Lines that are no message.
    noise: u64,
    /// What the kernel's count of memory kills was when the trainer started.
    kernel_kills: Option<u64>,
    stop: Option<Stop>,
    finished: Option<Finished>,
    failed: Option<JobError>,
    /// What it said that no trainer says.
    fault: Option<String>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        claim: &'a Claim,
        job: &'a Job,
        folder: &'a Path,
        reports: Reports,
        keeper: &'a mut Keeper,
        trainer: Trainer,
    ) -> Self {
        Self {
            publisher: Publisher::start(worker.app.clone(), *claim, job.clone(), keeper.watch()),
            watchdog: Watchdog::new(worker.app.config.stall),
            protocol: Protocol::new(job.prepared.as_ref()),
            noise: 0,
            kernel_kills: memory::kernel_kills(),
            pausing: keeper.pausing(),
            worker,
            claim,
            job,
            folder,
            reports,
            keeper,
            trainer,
            stop: None,
            finished: None,
            failed: None,
            fault: None,
        }
    }

    /// Takes in what the trainer prints until it prints no more, and stops it when the lease is gone, its owner wants
    /// it to pause, the service shuts down, or it does not get on.
    pub(super) async fn watch(&mut self, shutdown: &CancellationToken) {
        let mut flush = tokio::time::interval(FLUSH);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.stop.as_ref().map(|stop| stop.deadline);
            let stalled = self.watchdog.deadline();
            tokio::select! {
                biased;
                lease = self.keeper.gone(), if self.may_lose() => self.stop_for(lease),
                () = shutdown.cancelled(), if self.stop.is_none() => self.stop_to_resume(Cause::WorkerShutDown),
                () = pause_requested(&mut self.pausing), if self.stop.is_none() => {
                    self.stop_to_resume(Cause::PauseRequested);
                }
                () = tokio::time::sleep_until(deadline.unwrap_or(stalled)), if deadline.is_some() => self.kill(),
                _ = flush.tick() => {
                    self.note_memory();
                    self.reports.flush().await;
                    if self.stop.is_none() && self.takes_databases_room() {
                        self.stop_for_room();
                    }
                }
                output = self.trainer.output(), if self.has_room() || self.is_killed() => match output {
                    Some(output) => self.take(output).await,
                    None => return,
                },
                // It was not listened to meanwhile.
                () = self.publisher.room(), if !self.publisher.has_room() => self.watchdog.progressed(),
                () = tokio::time::sleep_until(stalled), if self.may_stall() => self.stop_stalled(),
            }
        }
    }

    /// Whether what the trainer says can be taken in. While it cannot it waits in its pipe, and the trainer with it.
    fn has_room(&self) -> bool {
        self.publisher.has_room() && self.reports.has_room()
    }

    /// The end of its output must be read, room or not.
    fn is_killed(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.is_killed)
    }

    /// A trainer that is not listened to for want of a store or a database is not at fault.
    fn may_stall(&self) -> bool {
        self.stop.is_none() && self.publisher.has_room() && !self.reports.waits_for_database()
    }

    fn note_memory(&mut self) {
        self.reports.peak_memory = self.trainer.peak_memory().or(self.reports.peak_memory);
    }

    /// A lost lease matters even while the trainer is saving its last checkpoint.
    fn may_lose(&self) -> bool {
        !matches!(&self.stop, Some(Stop { cause: Cause::LeaseLost | Cause::CancelRequested, .. }))
    }

    fn stop_for(&mut self, lease: Lease) {
        let now = Instant::now();
        self.stop = Some(if lease == Lease::Cancelled {
            self.trainer.commands.send(TrainerCommand::Stop { checkpoint: false });
            Stop::by(Cause::CancelRequested, now + CANCEL_GRACE)
        } else {
            Stop::by(Cause::LeaseLost, now)
        });
    }

    fn stop_to_resume(&mut self, cause: Cause) {
        self.trainer.commands.send(TrainerCommand::Stop { checkpoint: true });
        self.stop = Some(Stop::by(cause, Instant::now() + self.worker.app.config.shutdown));
    }

    /// SIGQUIT makes the trainer write where it is and end; SIGCONT lets a stopped one do so.
    fn stop_stalled(&mut self) {
        let patience = self.watchdog.patience().as_secs_f64();
        tracing::warn!(job = self.claim.public_id(), patience, "the trainer makes no progress and is ended");
        self.trainer.group().signal(Signal::SIGQUIT);
        self.trainer.group().signal(Signal::SIGCONT);
        self.stop = Some(Stop::by(Cause::Stalled, Instant::now() + STACK_GRACE));
    }

    /// Whether the run writes to the disk of the database, and that disk has so little room that the run must end.
    fn takes_databases_room(&self) -> bool {
        let config = &self.worker.app.config;
        let device = |folder: &Path| std::fs::metadata(folder).ok().map(|meta| meta.dev());
        config.reserve.is_eaten(&config.state_dir) && device(&config.state_dir) == device(self.folder)
    }

    fn stop_for_room(&mut self) {
        tracing::warn!(job = self.claim.public_id(), "the disk is nearly full, and the run is ended");
        self.trainer.commands.send(TrainerCommand::Stop { checkpoint: false });
        self.stop = Some(Stop::by(Cause::OutOfStorage, Instant::now() + CANCEL_GRACE));
    }

    /// Whoever says what no trainer says is heard no more.
    fn stop_for_fault(&mut self, fault: String) {
        tracing::warn!(job = self.claim.public_id(), fault, "the trainer said what no trainer says and is killed");
        let now = Instant::now();
        self.stop.get_or_insert(Stop::by(Cause::EngineError, now)).deadline = now;
        self.fault = Some(fault);
    }

    fn kill(&mut self) {
        self.trainer.group().signal(Signal::SIGKILL);
        if let Some(stop) = &mut self.stop {
            stop.deadline = Instant::now() + KILL_AGAIN;
            stop.is_killed = true;
        }
    }

    async fn take(&mut self, output: Output) {
        match output {
            Output::Noise(text) => self.take_noise(&text),
            // What a trainer said that was killed meanwhile, where there is no room for it, is lost.
            Output::Message(_) if self.fault.is_some() || !self.has_room() => {}
            Output::Message(message) => match self.protocol.check(&message) {
                Ok(()) => self.take_message(message).await,
                Err(fault) => self.stop_for_fault(fault),
            },
        }
    }

    /// It is no progress: whatever prints it may do so for ever.
    fn take_noise(&mut self, text: &str) {
        self.noise += 1;
        if self.noise <= NOISE_SHOWN {
            tracing::warn!(job = self.claim.public_id(), text, "the trainer printed what is no message");
        }
        // While there is always a next line, nothing else notices.
        if self.may_stall() && Instant::now() >= self.watchdog.deadline() {
            self.stop_stalled();
        }
    }

    async fn take_message(&mut self, message: TrainerMessage) {
        self.watchdog.progressed();
        match message {
            TrainerMessage::Alive => {}
            TrainerMessage::Checkpoint { step, directory, metrics } => {
                // Its rows are seldom left to be written with it, and never many.
                self.reports.flush().await;
                let (folder, rows) = (self.folder.to_owned(), self.reports.unwritten());
                self.publisher.publish(Made { step, folder, directory, metrics, rows });
            }
            TrainerMessage::Finished(finished) => {
                self.note_memory();
                self.finished = Some(finished);
            }
            TrainerMessage::Failed { error } => {
                self.note_memory();
                self.failed = Some(protocol::shortened(&error));
            }
            message => {
                if let TrainerMessage::Step(step) = &message {
                    self.watchdog.step(step.seconds);
                }
                self.reports.take(message).await;
            }
        }
    }

    /// Waits for the process and works out how the attempt ended.
    pub(super) async fn conclude(mut self) -> Ending {
        // Beside what is left to do for this job, so that the next one finds it ready.
        self.worker.keep_spare(self.claim.slot);
        let group = self.trainer.group().clone();
        let ended = self.trainer.end();
        tokio::pin!(ended);
        let (mut process, stderr) = loop {
            tokio::select! {
                ended = &mut ended => break ended,
                // Its output has ended, so its work has too.
                () = tokio::time::sleep(OUTPUT_GRACE) => group.signal(Signal::SIGKILL),
            }
        };
        if self.noise > NOISE_SHOWN {
            let (job, lines) = (self.claim.public_id(), self.noise);
            tracing::warn!(job, lines, "the trainer printed more lines that are no message");
        }
        process.peak_memory = self.reports.peak_memory;
        process.peak_device_memory = self.reports.peak_device_memory;
        self.reports.flush().await;
        let mut cause = self.stop.as_ref().map(|stop| stop.cause);
        if cause == Some(Cause::LeaseLost) && died_by_itself(process, &group) {
            // A machine that is short of memory renews nothing either: what it kills must not pass for a lost lease.
            cause = None;
        }
        let stored = self.publisher.finish();
        if cause == Some(Cause::WorkerShutDown) {
            let _ = tokio::time::timeout(self.worker.app.config.shutdown, stored).await;
        } else {
            stored.await;
        }
        let ending = match (cause, self.fault, self.failed, self.finished) {
            (Some(cause @ (Cause::LeaseLost | Cause::CancelRequested)), ..) => Ending::stopped(cause),
            (Some(Cause::Stalled), ..) => Ending::stalled(self.watchdog.patience()),
            (_, Some(fault), ..) => Ending::of_fault(&fault),
            (_, None, Some(error), _) => Ending::reported(error, Some(process)),
            (_, None, None, Some(finished)) => {
                let done = Done { folder: self.folder, finished: &finished, process, rows: self.reports.unwritten() };
                Ending::finished(store(self.worker, self.claim, self.job, self.keeper, &done).await)
            }
            (Some(cause), ..) => Ending::stopped(cause),
            (None, ..) if process.exit_code == Some(ABANDONED) => Ending::stopped(Cause::LeaseLost),
            (None, ..) => Ending::died(process, &stderr, (self.kernel_kills, memory::kernel_kills())),
        };
        ending.with_process(process, stderr)
    }
}

/// Whether a trainer was not killed from here and did not end as it was told to.
fn died_by_itself(process: ProcessEnd, group: &Group) -> bool {
    !group.was_killed() && !matches!(process.exit_code, Some(0 | ABANDONED))
}

/// Stores the results, however long the store or the database is away, as long as the lease is held.
async fn store(worker: &Worker, claim: &Claim, job: &Job, keeper: &mut Keeper, done: &Done<'_>) -> Result<bool> {
    for tries in 0_u32.. {
        match publish::results(&worker.app, claim, job, done).await {
            Err(error) if error.kind == ErrorKind::Unavailable => {
                tracing::warn!(job = claim.public_id(), error = error.chain(), "the results could not be stored yet");
                tokio::select! {
                    _ = keeper.gone() => break,
                    () = tokio::time::sleep(publisher::pause(tries)) => {}
                }
            }
            stored => return stored,
        }
    }
    Ok(false)
}
