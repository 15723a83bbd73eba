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
use crate::process::tree;

/// Checkpoints that wait behind the one that is being stored.
const WAITING: usize = 8;

/// Stores what it is handed, in order.
pub(super) struct Publisher {
    queue: mpsc::Sender<Made>,
    task: JoinHandle<()>,
}

impl Publisher {
    pub(super) fn start(app: App, claim: Claim, job: Job, lease: watch::Receiver<Lease>) -> Self {
        let (queue, made) = mpsc::channel(WAITING);
        let task = tokio::spawn(async move { Work { app, claim, job, lease }.run(made).await });
        Self { queue, task }
    }

    /// Whether one more checkpoint may wait. One that nobody will store any more waits for nothing.
    pub(super) fn has_room(&self) -> bool {
        self.queue.capacity() > 0 || self.queue.is_closed()
    }

    /// Waits until one more checkpoint may wait.
    pub(super) async fn room(&self) {
        let _ = self.queue.reserve().await;
    }

    /// Takes over a checkpoint and its folder. There must be room: whoever hands them over is the only one.
    pub(super) fn publish(&self, made: Made) {
        let _ = self.queue.try_send(made);
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
    async fn run(mut self, mut queue: mpsc::Receiver<Made>) {
        while let Some(made) = queue.recv().await {
            let mut lease = self.lease.clone();
            tokio::select! {
                () = self.store(made, &mut queue) => {}
                _ = lease::gone(&mut lease) => return,
            }
        }
    }

    /// Stores a checkpoint, however long it takes, or the newest of those that came meanwhile.
    async fn store(&mut self, mut made: Made, queue: &mut mpsc::Receiver<Made>) {
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
                let _ = tree::remove(&made.folder, &made.directory).await;
                made = newer;
            }
        }
        let _ = tree::remove(&made.folder, &made.directory).await;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::{Made, Publisher, WAITING};

    #[tokio::test]
    async fn a_queue_that_is_full_has_room_again_once_a_checkpoint_is_taken() {
        let (queue, mut made) = mpsc::channel(WAITING);
        let publisher = Publisher { queue, task: tokio::spawn(async {}) };
        for step in 0..WAITING as u64 {
            assert!(publisher.has_room());
            let (folder, directory) = (PathBuf::new(), PathBuf::new());
            publisher.publish(Made { step, folder, directory, metrics: BTreeMap::new(), rows: Vec::new() });
        }
        assert!(!publisher.has_room());
        assert!(tokio::time::timeout(Duration::from_millis(20), publisher.room()).await.is_err());
        assert_eq!(made.recv().await.unwrap().step, 0);
        publisher.room().await;
        assert!(publisher.has_room());
        // Nobody is there to store it: nobody waits.
        drop(made);
        publisher.room().await;
        assert!(publisher.has_room());
    }
}
