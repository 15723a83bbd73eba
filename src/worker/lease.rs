//! Keeping a lease. Whoever cannot keep it kills its own trainer, well before the database gives the job away.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::child::Group;
use crate::app::App;
use crate::db::queue::{self, Claim};
use crate::domain::job::JobStatus;

/// What is known of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    Held,
    /// The job was cancelled by its owner.
    Cancelled,
    /// The job is another's, or will be before long.
    Lost,
}

/// Renews a claim's lease until it is dropped or the lease is gone.
pub(super) struct Keeper {
    state: watch::Receiver<Lease>,
    group: watch::Sender<Option<Group>>,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Starts renewing; hints make it look at once.
    pub(super) fn start(app: App, claim: Claim, hints: watch::Receiver<u64>) -> Self {
        let (sender, state) = watch::channel(Lease::Held);
        let (group, groups) = watch::channel(None);
        let task = tokio::spawn(async move {
            let end = keep(&app, &claim, hints).await;
            if end == Lease::Lost {
                // Not left to the supervisor, which may be busy with a database that does not answer.
                if let Some(group) = groups.borrow().as_ref() {
                    Group::signal(group, Signal::SIGKILL);
                }
            }
            let _ = sender.send(end);
        });
        Self { state, group, task }
    }

    /// Names the processes to kill when the lease is lost.
    pub(super) fn guard(&self, group: Group) {
        let _ = self.group.send(Some(group));
        if self.state() == Lease::Lost
            && let Some(group) = self.group.borrow().as_ref()
        {
            group.signal(Signal::SIGKILL);
        }
    }

    pub(super) fn state(&self) -> Lease {
        *self.state.borrow()
    }

    /// Waits until the lease is gone, and says how.
    pub(super) async fn gone(&mut self) -> Lease {
        match self.state.wait_for(|lease| *lease != Lease::Held).await {
            Ok(lease) => *lease,
            Err(_) => Lease::Lost,
        }
    }
}

async fn keep(app: &App, claim: &Claim, mut hints: watch::Receiver<u64>) -> Lease {
    let lease = app.config.lease;
    let mut deadline = boot_time() + lease * 2 / 3;
    loop {
        tokio::select! {
            () = tokio::time::sleep(lease / 10) => {}
            Ok(()) = hints.changed() => {}
        }
        // Counted from before the renewal is sent: the database counts from when it arrives.
        let sent = boot_time();
        let Some(left) = deadline.checked_sub(sent) else { return Lease::Lost };
        match tokio::time::timeout(left.min(lease / 3), queue::renew(app.db.leases(), claim, lease)).await {
            Ok(Ok(true)) => deadline = sent + lease * 2 / 3,
            Ok(Ok(false)) => return why_gone(app, claim).await,
            Ok(Err(error)) => tracing::warn!(job = %claim.job, error = error.chain(), "cannot renew the lease"),
            Err(_) => tracing::warn!(job = %claim.job, "the database does not answer a renewal"),
        }
        if boot_time() >= deadline {
            return Lease::Lost;
        }
    }
}

async fn why_gone(app: &App, claim: &Claim) -> Lease {
    let status = tokio::time::timeout(Duration::from_secs(2), queue::status(app.db.leases(), claim.job)).await;
    match status {
        Ok(Ok(Some(JobStatus::Cancelled))) => Lease::Cancelled,
        _ => Lease::Lost,
    }
}

/// Time since boot, which goes on while the machine sleeps.
fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
