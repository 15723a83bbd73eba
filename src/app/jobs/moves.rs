//! Cancelling, pausing and resuming. All three may be asked for again: what is so already is no error.

use std::time::Duration;

use super::moved::{Move, told};
use super::{get, not_found, require};
use crate::app::App;
use crate::db::moves::{self, Moved};
use crate::db::{self, Connection, Tx, events, jobs, queue};
use crate::domain::error::{Error, Result};
use crate::domain::event::NewEvent;
use crate::domain::id::{JobId, ProjectId};
use crate::domain::job::{Job, JobKind, JobStatus, Phase};

/// How long a request to pause waits for the checkpoint; the job comes to rest later if that takes longer.
const REST: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// Ends a job at once. Its trainer, if it has one, is stopped by the worker as soon as that learns of it.
///
/// # Errors
/// There is none of that id, or it has ended otherwise.
pub async fn cancel(app: &App, project: ProjectId, id: &str) -> Result<Job> {
    let job = require(app, project, id).await?;
    cancel_any(app, project, JobKind::Training, job).await
}

/// The same for a job of any kind, which exists.
///
/// # Errors
/// It has ended otherwise.
pub(in crate::app) async fn cancel_any(app: &App, project: ProjectId, kind: JobKind, job: JobId) -> Result<Job> {
    db::retrying(|| cancel_once(app, project, kind, job)).await
}

async fn cancel_once(app: &App, project: ProjectId, kind: JobKind, job: JobId) -> Result<Job> {
    let id = kind.public_id(job);
    let mut tx = app.db.begin().await?;
    let moved = moves::cancel(tx.connection(), project, job).await?.ok_or_else(|| not_found(&id))?;
    if moved.changed {
        record(tx.connection(), job, &format!("{} cancelled", kind.noun())).await?;
    } else if moved.status != JobStatus::Cancelled {
        return Err(wrong_state(kind, &id, moved.status, "cancelled"));
    }
    let cancelled = finish(tx, project, kind, job).await?;
    if moved.changed {
        told(app, kind, job, Move::Cancelled, None, None).await;
    }
    Ok(cancelled)
}

/// Pauses a job. One that runs saves a checkpoint first, which this waits for; if it takes long, the job is still
/// running on return, and shows that it is pausing.
///
/// # Errors
/// There is none of that id, its files are still being checked, or it has ended.
pub async fn pause(app: &App, project: ProjectId, id: &str) -> Result<Job> {
    db::retrying(|| ask_to_pause(app, project, id)).await?;
    rest(app, project, id).await
}

async fn ask_to_pause(app: &App, project: ProjectId, id: &str) -> Result<()> {
    let job = require(app, project, id).await?;
    let mut tx = app.db.begin().await?;
    let moved = moves::pause(tx.connection(), project, job).await?.ok_or_else(|| not_found(id))?;
    let (made, message) = match moved {
        Moved { status: JobStatus::Paused, changed: true } => (Move::Paused, "Fine-tuning job paused"),
        Moved { status: JobStatus::Running, changed: true } => {
            (Move::Pausing, "Pausing after the current step; a checkpoint is saved first")
        }
        Moved { status: JobStatus::Paused | JobStatus::Running, changed: false } => return tx.commit().await,
        Moved { status, .. } => return Err(wrong_state(JobKind::Training, id, status, "paused")),
    };
    record(tx.connection(), job, message).await?;
    tx.commit().await?;
    told(app, JobKind::Training, job, made, None, None).await;
    Ok(())
}

async fn rest(app: &App, project: ProjectId, id: &str) -> Result<Job> {
    let deadline = tokio::time::Instant::now() + REST;
    loop {
        let job = get(app, project, id).await?;
        let pausing = job.progress.is_some_and(|progress| progress.phase == Phase::Pausing);
        if !pausing || tokio::time::Instant::now() > deadline {
            return Ok(job);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Queues a paused job again; it goes on from its latest checkpoint. A job that is still pausing goes on, too.
///
/// # Errors
/// There is none of that id, or it has ended.
pub async fn resume(app: &App, project: ProjectId, id: &str) -> Result<Job> {
    db::retrying(|| resume_once(app, project, id)).await
}

async fn resume_once(app: &App, project: ProjectId, id: &str) -> Result<Job> {
    let job = require(app, project, id).await?;
    let mut tx = app.db.begin().await?;
    let moved = moves::resume(tx.connection(), project, job).await?.ok_or_else(|| not_found(id))?;
    if moved.changed {
        record(tx.connection(), job, "Fine-tuning job resumed").await?;
    } else if moved.status.is_terminal() {
        return Err(wrong_state(JobKind::Training, id, moved.status, "resumed"));
    }
    let resumed = finish(tx, project, JobKind::Training, job).await?;
    if moved.changed {
        told(app, JobKind::Training, job, Move::Resumed, None, None).await;
    }
    Ok(resumed)
}

/// The job as the move leaves it, before a worker can take it up.
async fn finish(mut tx: Tx, project: ProjectId, kind: JobKind, id: JobId) -> Result<Job> {
    let job = jobs::find(tx.connection(), project, kind, id).await?.ok_or_else(|| not_found(&id.to_string()))?;
    tx.commit().await?;
    Ok(job)
}

async fn record(db: &mut Connection, job: JobId, message: &str) -> Result<()> {
    events::insert(&mut *db, job, &[NewEvent::info(message)]).await?;
    queue::hint(db).await
}

fn wrong_state(kind: JobKind, id: &str, status: JobStatus, wanted: &str) -> Error {
    let message = format!("Job {id} is {status} and cannot be {wanted}.");
    Error::invalid(kind.param(), message).code("invalid_state")
}
