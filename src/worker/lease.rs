//! Keeping a lease. Whoever cannot keep it kills its own trainer, well before the database gives the job away.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::child::Group;
use crate::app::App;
use crate::db::LeaseLine;
use crate::db::queue::Claim;
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
    pausing: watch::Receiver<bool>,
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
    pub(super) fn start(app: &App, claim: Claim, hints: watch::Receiver<u64>) -> Self {
        let (sender, state) = watch::channel(Lease::Held);
        let (pause, pausing) = watch::channel(false);
        let (group, groups) = watch::channel(None);
        let (line, lease) = (app.db.lease_line(), app.config.lease);
        let task = tokio::spawn(async move {
            let end = keep(line, &claim, lease, hints, &pause).await;
            if end == Lease::Lost {
                // Not left to the supervisor, which may be busy with a database that does not answer.
                if let Some(group) = groups.borrow().as_ref() {
                    Group::signal(group, Signal::SIGKILL);
                }
            }
            let _ = sender.send(end);
        });
        Self { state, pausing, group, task }
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

    /// What others can see the lease by.
    pub(super) fn watch(&self) -> watch::Receiver<Lease> {
        self.state.clone()
    }

    /// Waits until the lease is gone, and says how.
    pub(super) async fn gone(&mut self) -> Lease {
        gone(&mut self.state).await
    }

    /// What turns true when the job's owner asks it to pause.
    pub(super) fn pausing(&self) -> watch::Receiver<bool> {
        self.pausing.clone()
    }
}

/// Waits until a job's owner asks it to pause.
pub(super) async fn pause_requested(pausing: &mut watch::Receiver<bool>) {
    if pausing.wait_for(|pausing| *pausing).await.is_err() {
        // Nobody renews any more; the lease says why.
        std::future::pending().await
    }
}

/// Waits until a lease is gone, and says how.
pub(super) async fn gone(state: &mut watch::Receiver<Lease>) -> Lease {
    match state.wait_for(|lease| *lease != Lease::Held).await {
        Ok(lease) => *lease,
        Err(_) => Lease::Lost,
    }
}

async fn keep(
    mut line: LeaseLine,
    claim: &Claim,
    lease: Duration,
    mut hints: watch::Receiver<u64>,
    pause: &watch::Sender<bool>,
) -> Lease {
    let mut deadline = boot_time() + lease * 2 / 3;
    let mut rest = lease / 10;
    loop {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            Ok(()) = hints.changed() => {}
        }
        // Counted from before the renewal is sent: the database counts from when it arrives.
        let sent = boot_time();
        let Some(left) = deadline.checked_sub(sent) else { return Lease::Lost };
        rest = lease / 10;
        match line.renew(claim, lease, left.min(lease / 6)).await {
            Ok(Some(renewed)) => {
                deadline = sent + lease * 2 / 3;
                if renewed.pause_requested {
                    pause.send_replace(true);
                }
            }
            Ok(None) => return why_gone(&mut line, claim).await,
            Err(error) => {
                tracing::warn!(job = %claim.job, error = error.chain(), "cannot renew the lease");
                rest = lease / 30;
            }
        }
        if boot_time() >= deadline {
            return Lease::Lost;
        }
    }
}

async fn why_gone(line: &mut LeaseLine, claim: &Claim) -> Lease {
    match line.status(claim.job, Duration::from_secs(2)).await {
        Ok(Some(JobStatus::Cancelled)) => Lease::Cancelled,
        _ => Lease::Lost,
    }
}

/// Time since boot, which goes on while the machine sleeps.
fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
