//! Doing the work: slots, the claim loop, one supervisor per running job, and upkeep.
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
mod publish;
mod publisher;
mod reports;
mod run;
mod supervise;
pub mod upkeep;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use identity::{Identity, IdentityError};

use crate::app::App;
use crate::db::queue::{self, Claim};
use crate::db::{self, workers};
use crate::domain::error::{Error, Result};
use crate::process::Place;
use crate::telemetry;

/// How long a worker sleeps at most before it looks at the queue again. Hints wake it earlier.
const POLL: Duration = Duration::from_secs(1);

/// How long a look at the queue may take.
const CLAIM: Duration = Duration::from_secs(10);

/// A worker: the holder of slots.
#[derive(Clone)]
pub(crate) struct Worker {
    app: App,
    identity: Arc<Identity>,
    place: Arc<Place>,
    hints: watch::Receiver<u64>,
    shutdown: CancellationToken,
}

/// Runs jobs until `shutdown`, then lets running ones save a checkpoint and gives them back.
///
/// # Errors
/// The database refuses to register the worker.
pub async fn run(app: App, identity: Identity, shutdown: CancellationToken) -> Result<()> {
    identity.end_leftovers(&app.runs());
    let (hint, hints) = watch::channel(0);
    let upkeep = tokio::spawn(upkeep::run(app.clone(), hints.clone(), shutdown.clone()));
    let listening = tokio::spawn(listen(app.clone(), hint, shutdown.clone()));
    let place = tokio::select! {
        place = find_place(&app) => place,
        () = shutdown.cancelled() => return Ok(()),
    };
    let slots = app.config.slots.unwrap_or_else(|| u32::try_from(place.devices.cuda).unwrap_or(u32::MAX).max(1));
    let worker = Worker { app, identity: Arc::new(identity), place, hints, shutdown: shutdown.clone() };
    worker.register(slots).await?;
    let showing = tokio::spawn(worker.clone().show_machine(slots));
    tracing::info!(worker = %worker.identity.id, slots, gpus = worker.place.devices.cuda, "worker ready");
    worker.claim_until(&shutdown).await;
    let _ = showing.await;
    let _ = upkeep.await;
    let _ = listening.await;
    Ok(())
}

impl Worker {
    async fn register(&self, slots: u32) -> Result<()> {
        while upkeep::rescue::run_once(&self.app, Some(self.identity.id)).await? {}
        let mut tx = self.app.db.begin().await?;
        let machine = machine::read(&self.place.devices, slots, &self.app.runs());
        let slots = i32::try_from(slots).unwrap_or(i32::MAX);
        workers::register(tx.connection(), self.identity.id, &self.identity.host, slots, &machine).await?;
        tx.commit().await
    }

    /// The one claim loop: concurrent claims of one worker would see each other's slots as taken.
    async fn claim_until(&self, shutdown: &CancellationToken) {
        let mut runs: JoinSet<()> = JoinSet::new();
        let mut hints = self.hints.clone();
        while !shutdown.is_cancelled() {
            match self.claim().await {
                Ok(Some(claim)) => {
                    metrics::gauge!(telemetry::RUNNING).increment(1.0);
                    let (worker, shutdown) = (self.clone(), shutdown.clone());
                    runs.spawn(async move { supervise::supervise(&worker, claim, shutdown).await });
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(error = error.chain(), "cannot look for jobs"),
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                Ok(()) = hints.changed() => {}
                Some(_) = runs.join_next() => metrics::gauge!(telemetry::RUNNING).decrement(1.0),
                () = tokio::time::sleep(POLL) => {}
            }
        }
        while runs.join_next().await.is_some() {
            metrics::gauge!(telemetry::RUNNING).decrement(1.0);
        }
    }

    async fn claim(&self) -> Result<Option<Claim>> {
        let Identity { id, host, .. } = &*self.identity;
        db::within(CLAIM, queue::claim(self.app.db.pool(), *id, host, self.app.config.lease)).await
    }
}

/// Asks the trainer what the machine offers, until it answers: without it no job can run.
async fn find_place(app: &App) -> Arc<Place> {
    loop {
        match app.place().await {
            Ok(place) => return place,
            Err(error) => tracing::error!(error, "the trainer does not run, so no job can; trying again"),
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// Counts hints from other processes up, for everyone who waits.
async fn listen(app: App, hint: watch::Sender<u64>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let heard = async {
            let mut listener = app.db.listen().await?;
            loop {
                listener.hint().await?;
                hint.send_modify(|count| *count += 1);
            }
            #[expect(unreachable_code, reason = "gives the block its type")]
            Ok::<(), Error>(())
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            Err(error) = heard => tracing::debug!(error = error.chain(), "not listening for hints; polling goes on"),
        }
        tokio::time::sleep(POLL).await;
    }
}
