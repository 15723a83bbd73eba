//! Hints from other processes that something has changed about a job. They may be lost: whoever waits for one also looks by
//! the clock.

use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::App;
use crate::domain::error::Error;
use crate::domain::id::JobId;

/// How long until a connection that failed is made again.
const AGAIN: Duration = Duration::from_secs(1);
/// Hints that a listener may lag behind before it is told that it has missed some.
const WAITING: usize = 256;

/// What this process hears; see [`listen`].
#[derive(Clone, Debug)]
pub struct Hints {
    /// Counts up with each hint.
    count: watch::Sender<u64>,
    jobs: broadcast::Sender<Option<JobId>>,
}

impl Default for Hints {
    fn default() -> Self {
        Self { count: watch::channel(0).0, jobs: broadcast::channel(WAITING).0 }
    }
}

impl Hints {
    /// Changes with every hint, about whichever job.
    pub fn any(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Hints about one job, from now on.
    pub fn of(&self, job: JobId) -> JobHints {
        JobHints { job, jobs: self.jobs.subscribe() }
    }

    /// `job` is None where the hint does not tell.
    fn heard(&self, job: Option<JobId>) {
        // That nobody is listening is no error.
        let _ = self.jobs.send(job);
        self.count.send_modify(|count| *count += 1);
    }
}

/// Hints about one job.
#[derive(Debug)]
pub struct JobHints {
    job: JobId,
    jobs: broadcast::Receiver<Option<JobId>>,
}

impl JobHints {
    /// Waits until something has changed about the job, or may have.
    pub async fn changed(&mut self) {
        loop {
            match self.jobs.recv().await {
                Ok(Some(job)) if job != self.job => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

/// Hears hints until `shutdown`, over a connection of its own. Every process does, whether it runs jobs or not.
pub async fn listen(app: App, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let heard = async {
            let mut listener = app.db.listen().await?;
            loop {
                let job = listener.hint().await?;
                app.hints.heard(job);
            }
            #[expect(unreachable_code, reason = "gives the block its type")]
            Ok::<(), Error>(())
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            Err(error) = heard => tracing::debug!(error = error.chain(), "not listening for hints; polling goes on"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Hints, JobId, WAITING};

    #[tokio::test]
    async fn a_hint_wakes_whoever_waits_for_its_job() {
        let (hints, ours, other) = (Hints::default(), JobId::new(), JobId::new());
        let (mut any, mut of_ours) = (hints.any(), hints.of(ours));
        let soon = Duration::from_millis(20);
        hints.heard(Some(other));
        assert!(tokio::time::timeout(soon, of_ours.changed()).await.is_err());
        any.changed().await.unwrap();
        hints.heard(Some(ours));
        of_ours.changed().await;
        // Who missed some looks.
        (0..=WAITING).for_each(|_| hints.heard(Some(other)));
        of_ours.changed().await;
    }
}
