//! Doing the work: slots, the claim loop, one supervisor per running job, and upkeep, which also runs without a worker.
//!
//! A worker has an identity that outlives its process, kept in the state directory and guarded by a lock, so that a
//! restarted worker knows at once which running jobs its earlier life left behind.

mod child;
mod ending;
mod identity;
mod lease;
mod machine;
mod memory;
mod prepare;
mod protocol;
mod publish;
mod publisher;
mod reports;
mod run;
mod spare;
mod supervise;
pub mod upkeep;
mod utilization;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use identity::{Identity, IdentityError};

use spare::Spares;

use crate::app::{App, hints};
use crate::db::queue::{self, Claim};
use crate::db::{self, workers};
use crate::domain::attempt::Outcome;
use crate::domain::error::Result;
use crate::domain::job::Moved;
use crate::process::Premises;

/// How long a worker sleeps at most before it looks at the queue again. Hints wake it earlier.
const POLL: Duration = Duration::from_secs(1);

/// How long a look at the queue may take.
const CLAIM: Duration = Duration::from_secs(10);

/// A worker: the holder of slots.
#[derive(Clone)]
pub(crate) struct Worker {
    app: App,
    identity: Arc<Identity>,
    premises: Arc<Premises>,
    /// CPU threads of one run.
    threads: usize,
    /// Slots of one GPU.
    sharing: u32,
    spares: Arc<Spares>,
    shutdown: CancellationToken,
}

/// Hints from other processes, and upkeep: what each process does in the background once, whether it runs jobs or not.
struct Background {
    upkeep: JoinHandle<()>,
    listening: JoinHandle<()>,
}

impl Background {
    fn start(app: &App, shutdown: &CancellationToken) -> Self {
        let upkeep = tokio::spawn(upkeep::run(app.clone(), shutdown.clone()));
        let listening = tokio::spawn(hints::listen(app.clone(), shutdown.clone()));
        Self { upkeep, listening }
    }

    /// Waits until it has ended, which it does on shutdown.
    async fn end(self) {
        let _ = self.upkeep.await;
        let _ = self.listening.await;
    }
}

/// Validates, rescues and sweeps until `shutdown`, and runs no jobs.
pub async fn keep_up(app: App, shutdown: CancellationToken) {
    Background::start(&app, &shutdown).end().await;
}

/// Runs jobs until `shutdown`, then lets running ones save a checkpoint and gives them back. Returns how many it did not
/// get done.
///
/// # Errors
/// The database refuses to register the worker.
pub async fn run(app: App, identity: Identity, shutdown: CancellationToken) -> Result<usize> {
    identity.end_leftovers(&app.runs());
    let background = Background::start(&app, &shutdown);
    let premises = tokio::select! {
        premises = find_premises(&app) => premises,
        () = shutdown.cancelled() => return Ok(0),
    };
    let slots = machine::slots(&premises.devices, &app.config);
    let threads = machine::threads(slots, &app.config);
    let sharing = machine::sharing(&premises.devices, slots);
    let (identity, spares) = (Arc::new(identity), Arc::default());
    let worker = Worker { app, identity, premises, threads, sharing, spares, shutdown: shutdown.clone() };
    worker.register(slots).await?;
    worker.keep_spares(slots);
    let showing = tokio::spawn(worker.clone().show_machine(slots));
    tracing::info!(worker = %worker.identity.id, slots, threads, gpus = worker.premises.devices.cuda, "worker ready");
    let unfinished = worker.claim_until(&shutdown).await;
    let _ = showing.await;
    worker.spares.end().await;
    background.end().await;
    Ok(unfinished)
}

impl Worker {
    async fn register(&self, slots: u32) -> Result<()> {
        while upkeep::rescue::run_once(&self.app, Some(self.identity.id)).await? {}
        let mut tx = self.app.db.begin().await?;
        let machine = machine::read(&self.premises.devices, slots, &self.app.config);
        let slots = i32::try_from(slots).unwrap_or(i32::MAX);
        workers::register(tx.connection(), self.identity.id, &self.identity.host, slots, &machine).await?;
        tx.commit().await
    }

    /// The one claim loop: concurrent claims of one worker would see each other's slots as taken. Returns how many runs
    /// the end of it left unfinished.
    async fn claim_until(&self, shutdown: &CancellationToken) -> usize {
        let mut runs: JoinSet<Outcome> = JoinSet::new();
        let mut hints = self.app.hints.any();
        let mut had_room = true;
        while !shutdown.is_cancelled() {
            let room = self.app.check_room_for_runs();
            if let Err(error) = &room
                && had_room
            {
                tracing::warn!(%error, "no more jobs are started until the disk has room");
            }
            had_room = room.is_ok();
            match if had_room { self.claim().await } else { Ok(None) } {
                Ok(Some((claim, started))) => {
                    let (worker, shutdown) = (self.clone(), shutdown.clone());
                    runs.spawn(async move { supervise::supervise(&worker, claim, started, shutdown).await });
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(error = error.chain(), "cannot look for jobs"),
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                Ok(()) = hints.changed() => {}
                Some(ended) = runs.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a run was lost track of");
                    }
                }
                () = tokio::time::sleep(POLL) => {}
            }
        }
        let mut unfinished = 0;
        while let Some(ended) = runs.join_next().await {
            unfinished += usize::from(ended.map_or(true, Outcome::leaves_work));
        }
        unfinished
    }

    async fn claim(&self) -> Result<Option<(Claim, Moved)>> {
        let Identity { id, host, .. } = &*self.identity;
        let config = &self.app.config;
        let claimed = queue::claim(&self.app.db, *id, host, config.lease, config.quotas.running_jobs);
        db::within(CLAIM, claimed).await
    }
}

/// Asks the trainer what the machine offers, until it answers: without it no job can run.
async fn find_premises(app: &App) -> Arc<Premises> {
    loop {
        match app.premises().await {
            Ok(premises) => return premises,
            Err(error) => tracing::error!(error, "the trainer does not run, so no job can; trying again"),
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}
