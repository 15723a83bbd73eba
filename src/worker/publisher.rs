//! Storing checkpoints beside the training, one after the other. A store or database that is away delays a checkpoint
//! and stops nothing: the copy in the run's folder is kept until it is stored or a newer one takes its place.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::lease::{self, Lease};
use super::publish::{self, Made};
use crate::app::App;
use crate::db::events;
use crate::db::queue::{self, Claim};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::job::Job;

/// Stores what it is handed, in order.
pub(super) struct Publisher {
    queue: mpsc::UnboundedSender<Made>,
    task: JoinHandle<()>,
}

impl Publisher {
    pub(super) fn start(app: App, claim: Claim, job: Job, lease: watch::Receiver<Lease>) -> Self {
        let (queue, made) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move { Work { app, claim, job, lease }.run(made).await });
        Self { queue, task }
    }

    /// Takes over a checkpoint and its folder.
    pub(super) fn publish(&self, made: Made) {
        let _ = self.queue.send(made);
    }

    /// Waits until everything is stored, or the lease is gone.
    pub(super) async fn finish(self) {
        drop(self.queue);
        let _ = self.task.await;
    }
}

struct Work {
    app: App,
    claim: Claim,
    job: Job,
    lease: watch::Receiver<Lease>,
}

impl Work {
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Made>) {
        while let Some(made) = queue.recv().await {
            let mut lease = self.lease.clone();
            tokio::select! {
                () = self.store(made, &mut queue) => {}
                _ = lease::gone(&mut lease) => return,
            }
        }
    }

    /// Stores a checkpoint, however long it takes, or the newest of those that came meanwhile.
    async fn store(&mut self, mut made: Made, queue: &mut mpsc::UnboundedReceiver<Made>) {
        for tries in 0_u32.. {
            let Err(error) = publish::checkpoint(&self.app, &self.claim, &self.job, &made).await else { break };
            tracing::warn!(
                job = self.claim.public_id(),
                step = made.step,
                error = error.chain(),
                "a checkpoint could not be stored"
            );
            if error.kind != ErrorKind::Unavailable {
                if let Err(error) = self.warn(made.step, &error).await {
                    tracing::warn!(
                        job = self.claim.public_id(),
                        error = error.chain(),
                        "an event could not be recorded"
                    );
                }
                break;
            }
            tokio::time::sleep(pause(tries)).await;
            while let Ok(newer) = queue.try_recv() {
                let _ = publish::tree::remove(&made.folder, &made.directory).await;
                made = newer;
            }
        }
        let _ = publish::tree::remove(&made.folder, &made.directory).await;
    }

    async fn warn(&self, step: u64, error: &Error) -> Result<()> {
        let mut tx = self.app.db.begin().await?;
        if queue::hold(tx.connection(), &self.claim).await? {
            let why = if error.kind == ErrorKind::OutOfStorage { ": no room is left" } else { "" };
            let event = NewEvent::warn(format!("The checkpoint at step {step} could not be stored{why}"));
            events::insert(&mut *tx.connection(), self.claim.job, &[event]).await?;
        }
        tx.commit().await
    }
}

/// 0.5, 1, 2 … seconds, and 16 at most.
pub(super) fn pause(tries: u32) -> Duration {
    Duration::from_millis(500 << tries.min(5))
}
