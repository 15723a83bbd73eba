//! Keeping a lease. Whoever cannot keep it kills its own trainer, well before the database gives the job away.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::child::Commands;
use crate::app::App;
use crate::app::hints::JobHints;
use crate::clock::boot_time;
use crate::db::LeaseLine;
use crate::db::queue::Claim;
use crate::domain::job::JobStatus;
use crate::domain::run::TrainerCommand;
use crate::process::Group;
use crate::telemetry::{self, OneMore};

/// What is known of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    Held,
    /// The job was cancelled by its owner.
    Cancelled,
    /// The job is another's, or will be before long.
    Lost,
}

/// A trainer that must not outlive the lease.
#[derive(Clone)]
struct Guarded {
    group: Group,
    commands: Commands,
}

/// Renews a claim's lease until it is dropped or the lease is gone.
pub(super) struct Keeper {
    state: watch::Receiver<Lease>,
    pausing: watch::Receiver<bool>,
    guarded: watch::Sender<Option<Guarded>>,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Starts renewing; hints about the job make it look at once.
    pub(super) fn start(app: &App, claim: Claim) -> Self {
        let (sender, state) = watch::channel(Lease::Held);
        let (pause, pausing) = watch::channel(false);
        let (guarded, guards) = watch::channel(None);
        let (line, lease, hints) = (LeaseLine::new(&app.db), app.config.lease, app.hints.of(claim.job));
        let task = tokio::spawn(async move {
            let held = OneMore::of(telemetry::LEASES, claim.kind.as_str());
            let end = keep(line, &claim, lease, hints, &pause, guards.clone()).await;
            drop(held);
            if end == Lease::Lost {
                metrics::counter!(telemetry::LEASES_LOST, "kind" => claim.kind.as_str()).increment(1);
                // Not left to the supervisor, which may be busy with a database that does not answer.
                end_trainer(&guards);
            }
            let _ = sender.send(end);
        });
        Self { state, pausing, guarded, task }
    }

    /// Names the processes to kill when the lease is lost, and whom to tell when it is renewed.
    pub(super) fn guard(&self, group: Group, commands: Commands) {
        let _ = self.guarded.send(Some(Guarded { group, commands }));
        if self.state() == Lease::Lost {
            self.end_trainer();
        }
    }

    /// Kills the processes that are guarded, if there are any.
    pub(super) fn end_trainer(&self) {
        end_trainer(&self.guarded.subscribe());
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
        std::future::pending::<()>().await;
    }
}

/// Waits until a lease is gone, and says how.
pub(super) async fn gone(state: &mut watch::Receiver<Lease>) -> Lease {
    match state.wait_for(|lease| *lease != Lease::Held).await {
        Ok(lease) => *lease,
        Err(_) => Lease::Lost,
    }
}

fn end_trainer(guards: &watch::Receiver<Option<Guarded>>) {
    if let Some(guarded) = guards.borrow().as_ref() {
        guarded.group.signal(Signal::SIGKILL);
    }
}

/// Tells the trainer how long it may live.
fn prolong(guards: &watch::Receiver<Option<Guarded>>, deadline: Duration) {
    if let Some(guarded) = guards.borrow().as_ref() {
        let until = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        guarded.commands.send(TrainerCommand::Lease { until });
    }
}

async fn keep(
    mut line: LeaseLine,
    claim: &Claim,
    lease: Duration,
    mut hints: JobHints,
    pause: &watch::Sender<bool>,
    mut guards: watch::Receiver<Option<Guarded>>,
) -> Lease {
    let mut deadline = boot_time() + lease * 2 / 3;
    let mut rest = lease / 10;
    loop {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = hints.changed() => {}
            Ok(()) = guards.changed() => {
                prolong(&guards, deadline);
                continue;
            }
        }
        // Counted from before the renewal is sent: the database counts from when it arrives.
        let sent = boot_time();
        let Some(left) = deadline.checked_sub(sent) else { return Lease::Lost };
        rest = lease / 10;
        match line.renew(claim, lease, left.min(lease / 12)).await {
            Ok(Some(renewed)) => {
                deadline = sent + lease * 2 / 3;
                prolong(&guards, deadline);
                if renewed.pause_requested {
                    pause.send_replace(true);
                }
            }
            Ok(None) => return why_gone(&mut line, claim).await,
            Err(error) => {
                tracing::warn!(job = claim.public_id(), error = error.chain(), "cannot renew the lease");
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
