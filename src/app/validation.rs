//! Checking the files of new jobs, and moving the jobs into the queue.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::App;
use super::findings::findings;
use super::jobs::told;
use super::preparation::{Reads, Refusal, prepare};
use crate::db::moves;
use crate::db::validation::{self, Taken};
use crate::db::{self, events, jobs};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::job::{Job, JobError, Move, NotReady, Prepared};

/// How often the files of a job are taken up before they are given up.
const MOST_TRIES: u32 = 5;

/// How long until a job is taken up again whose files could not be read because the database or the store is away or full.
const AGAIN: Duration = Duration::from_secs(5);

/// Checks the files of the next job that waits for it; false if none does. See [`run_until`].
///
/// # Errors
/// The database or the store is away.
pub async fn run_once(app: &App) -> Result<bool> {
    run_until(app, &CancellationToken::new()).await
}

/// Checks the files of the next job that waits for it; false if none does. If this process dies on the way, another one
/// takes the job once its lease has ended; until then nobody else does, however long the files take. Reading ends early
/// when the job is cancelled, or on `stop`, which gives the job back. Files that bring down who reads them time and again,
/// or that cannot be read, fail their job.
///
/// # Errors
/// The database or the store is away.
pub async fn run_until(app: &App, stop: &CancellationToken) -> Result<bool> {
    let Some(taken) = validation::take(&app.db, app.config.lease).await? else { return Ok(false) };
    let mut connection = app.db.connection().await?;
    let Some(job) = jobs::find_any(&mut connection, taken.job).await? else { return Ok(true) };
    drop(connection);
    if taken.tries > MOST_TRIES {
        let message = format!("The job's files could not be read in {MOST_TRIES} tries.");
        refuse(app, &job, &taken, &JobError::new("validation_failed", message).into()).await?;
        return Ok(true);
    }
    let public_id = job.spec.kind.public_id(job.id);
    let read = tokio::select! {
        read = Box::pin(prepare(app, job.project, &job.spec, Reads::Unknown)) => read,
        () = lost(app, &taken, &public_id) => return Ok(true),
        () = stop.cancelled() => {
            validation::give_back(app.db.pool(), &taken, Duration::ZERO, false).await?;
            return Ok(false);
        }
    };
    match read {
        Ok(prepared) => accept(app, &job, &taken, &prepared).await?,
        Err(NotReady::Refused(refusal)) => refuse(app, &job, &taken, &refusal).await?,
        Err(NotReady::Failed(error)) => {
            let counts = !matches!(error.kind, ErrorKind::Unavailable | ErrorKind::OutOfStorage);
            let pause = if counts { Duration::from_secs(1 << taken.tries.min(MOST_TRIES)) } else { AGAIN };
            tracing::warn!(
                job = public_id,
                tries = taken.tries,
                error = error.chain(),
                "the files of a job could not be read"
            );
            validation::give_back(app.db.pool(), &taken, pause, counts).await?;
            return Err(error);
        }
    }
    Ok(true)
}

/// Keeps the job until it is cancelled, or cannot be kept any longer.
async fn lost(app: &App, taken: &Taken, public_id: &str) {
    let lease = app.config.lease;
    let mut kept = Instant::now();
    while kept.elapsed() < lease {
        tokio::time::sleep(lease / 10).await;
        let sent = Instant::now();
        match db::within(lease / 3, validation::renew(app.db.pool(), taken, lease)).await {
            Ok(true) => kept = sent,
            Ok(false) => return,
            Err(error) => tracing::warn!(job = public_id, error = error.chain(), "a validation cannot be renewed"),
        }
    }
}

async fn accept(app: &App, job: &Job, taken: &Taken, prepared: &Prepared) -> Result<()> {
    let report = &prepared.report;
    let (name, examples) = job.spec.kind.file(report);
    let mut recorded = vec![NewEvent::info(match prepared.labels.len() {
        0 => format!("{name} has {examples} examples"),
        labels => format!("{name} has {examples} examples with {labels} labels"),
    })];
    if report.held_out > 0 {
        let message = format!("No validation file: {} training examples are held out for validation", report.held_out);
        recorded.push(NewEvent::info(message));
    }
    recorded.extend(findings(report));
    move_on(app, job, taken, (&recorded, &Move::Queue(prepared)), "its files are validated").await
}

async fn refuse(app: &App, job: &Job, taken: &Taken, refusal: &Refusal) -> Result<()> {
    let refused = Move::Refuse { error: &refusal.error, report: refusal.report.as_deref() };
    move_on(app, job, taken, (&[], &refused), &refusal.error.message).await
}

/// Makes the job move, with events before that of the move; not if it was cancelled or is another's.
async fn move_on(
    app: &App,
    job: &Job,
    taken: &Taken,
    (before, made): (&[NewEvent], &Move<'_>),
    detail: &str,
) -> Result<()> {
    let mut tx = app.db.begin().await?;
    if !validation::hold(tx.connection(), taken).await? {
        return Ok(());
    }
    events::insert(&mut *tx.connection(), job.id, before).await?;
    let moved = moves::make(tx.connection(), job.id, made).await?;
    tx.commit().await?;
    told(app, &moved, Some(detail)).await;
    Ok(())
}
