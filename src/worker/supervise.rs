//! One attempt at a job, from the claim to its recorded end.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::ending::{self, Ending};
use super::lease::{Keeper, Lease};
use super::prepare::prepare;
use super::reports::Reports;
use super::run::Run;
use crate::app::jobs::told;
use crate::db::jobs;
use crate::db::queue::Claim;
use crate::domain::attempt::{Cause, Outcome};
use crate::domain::error::{Error, ErrorKind, Result, is_storage_full};
use crate::domain::job::Moved;
use crate::store::out_of_storage;
use crate::telemetry::{self, OneMore};

/// Runs a claimed job, records how the attempt ended, and returns it. The slot is free again on return, and a panic on the
/// way costs the attempt alone.
pub(super) async fn supervise(worker: &Worker, claim: Claim, started: Moved, shutdown: CancellationToken) -> Outcome {
    let app = &worker.app;
    let _running = OneMore::of(telemetry::RUNNING, claim.kind.as_str());
    app.failpoints.hit("worker.claimed", claim.attempt.into());
    let folder = app.runs().join(format!("{}-{}", claim.job.0.simple(), claim.attempt));
    let mut keeper = Keeper::start(app, claim);
    told(app, &started, None).await;
    let tried = Box::pin(attempt(worker, &claim, &folder, &mut keeper, shutdown));
    let tried = AssertUnwindSafe(tried).catch_unwind().await;
    let ending = match tried {
        Ok(Ok(ending)) => ending,
        Ok(Err(error)) => ending_of(&error),
        Err(_) => {
            tracing::error!(job = claim.public_id(), attempt = claim.attempt, "the worker panicked at a run");
            keeper.end_trainer();
            Ending::panicked()
        }
    };
    app.failpoints.hit("worker.ended", claim.attempt.into());
    let recorded = AssertUnwindSafe(ending::record(worker, &claim, &ending)).catch_unwind().await;
    let recorded = if let Ok(recorded) = recorded {
        recorded
    } else {
        ending::free_slot(worker, &claim).await;
        Err(Error::internal("recording it panicked"))
    };
    let outcome = ending.outcome();
    tracing::info!(job = claim.public_id(), attempt = claim.attempt, %outcome, detail = ending.detail, "attempt ended");
    if let Err(error) = recorded {
        // The lease ends by itself, and the job goes on elsewhere.
        tracing::warn!(job = claim.public_id(), error = error.chain(), "the end of the attempt could not be recorded");
    }
    if let Err(error) = tokio::fs::remove_dir_all(&folder).await {
        tracing::debug!(%error, "the run's folder stays");
    }
    outcome
}

/// An attempt that could not even start.
fn ending_of(error: &Error) -> Ending {
    tracing::warn!(error = error.chain(), "the attempt could not run");
    let cause = match error.kind {
        ErrorKind::Unavailable => Cause::Unavailable,
        ErrorKind::OutOfStorage => Cause::OutOfStorage,
        _ => Cause::NotPrepared,
    };
    Ending::new(cause, format!("the run could not be prepared: {}", error.message))
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
    let gpu = worker.gpu_of(claim.slot);
    let mut reports = Reports::new(app.clone(), *claim, &job, gpu.clone())?;
    if let Err(not_ready) = prepare(worker, claim, &job, folder, &mut reports).await {
        let error = not_ready.refused()?;
        reports.flush().await;
        return Ok(Ending::reported(error, None));
    }
    app.failpoints.hit("worker.prepared", claim.attempt.into());
    if keeper.state() != Lease::Held {
        return Ok(Ending::lease(keeper.state()));
    }
    let trainer = worker.trainer(folder, gpu.as_deref()).map_err(not_started)?;
    app.failpoints.hit("worker.spawned", claim.attempt.into());
    keeper.guard(trainer.group().clone(), trainer.commands.clone());
    let mut run = Run::new(worker, claim, &job, folder, reports, keeper, trainer);
    run.watch(&shutdown).await;
    Ok(run.conclude().await)
}

fn not_started(error: std::io::Error) -> Error {
    if is_storage_full(&error) { out_of_storage(error) } else { Error::internal(error) }
}

impl Worker {
    /// The value of `CUDA_VISIBLE_DEVICES` for a slot: one of the GPUs this worker was given.
    pub(super) fn gpu_of(&self, slot: i32) -> Option<String> {
        let devices = &self.premises.devices;
        if devices.cuda == 0 {
            return None;
        }
        let index = slot.unsigned_abs() as usize % devices.cuda;
        let given = self.app.config.cuda_visible_devices.as_ref().and_then(|list| list.to_str());
        let named = given.and_then(|list| list.split(',').nth(index)).map(str::to_owned);
        Some(named.unwrap_or_else(|| index.to_string()))
    }
}
