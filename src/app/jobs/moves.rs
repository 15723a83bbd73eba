//! Cancelling, pausing and resuming. All three may be asked for again: what is so already is no error.

use std::time::Duration;

use super::get;
use super::moved::told;
use crate::app::App;
use crate::db::moves::{self, Applied};
use crate::db::{self, jobs};
use crate::domain::error::{Error, Result};
use crate::domain::id::ProjectId;
use crate::domain::job::{Job, JobKind, JobStatus, Move, Phase};

/// How long a request to pause waits for the checkpoint; the job comes to rest later if that takes longer.
const REST: Duration = Duration::from_secs(10);
/// How often it looks where no hint comes.
const LOOK: Duration = Duration::from_millis(500);

/// Ends a job at once. Its trainer, if it has one, is stopped by the worker as soon as that learns of it.
///
/// # Errors
/// There is none of that id, or it has ended otherwise.
pub async fn cancel(app: &App, project: ProjectId, kind: JobKind, id: &str) -> Result<Job> {
    db::retrying(|| make(app, project, kind, id, (&Move::Cancel, "cancelled"))).await
}

/// Pauses a job. One that runs saves a checkpoint first, which this waits for; if it takes long, the job is still
/// running on return, and shows that it is pausing.
///
/// # Errors
/// There is none of that id, its files are still being checked, or it has ended.
pub async fn pause(app: &App, project: ProjectId, kind: JobKind, id: &str) -> Result<Job> {
    let mut hints = app.hints.of(kind.job(id)?);
    let mut job = db::retrying(|| make(app, project, kind, id, (&Move::Pause, "paused"))).await?;
    let deadline = tokio::time::Instant::now() + REST;
    while is_pausing(&job) && tokio::time::Instant::now() < deadline {
        tokio::select! {
            () = hints.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        job = get(app, project, kind, id).await?;
    }
    Ok(job)
}

fn is_pausing(job: &Job) -> bool {
    job.progress.is_some_and(|progress| progress.phase == Phase::Pausing)
}

/// Queues a paused job again; it goes on from its latest checkpoint. A job that is still pausing goes on, too.
///
/// # Errors
/// There is none of that id, or it has ended.
pub async fn resume(app: &App, project: ProjectId, kind: JobKind, id: &str) -> Result<Job> {
    db::retrying(|| make(app, project, kind, id, (&Move::Resume, "resumed"))).await
}

/// Makes a move of the job's owner. Returns the job as the move leaves it, before a worker can take it up.
async fn make(app: &App, project: ProjectId, kind: JobKind, id: &str, wanted: (&Move<'_>, &str)) -> Result<Job> {
    let job = kind.job(id)?;
    let mut tx = app.db.begin().await?;
    if !jobs::exists(&mut *tx.connection(), project, kind, job).await? {
        return Err(kind.not_found(id));
    }
    let (made, word) = wanted;
    let applied = moves::apply(tx.connection(), job, made).await?;
    let refused = match applied {
        Applied::Impossible(status) => Some(wrong_state(kind, id, status, word)),
        Applied::Gone => Some(kind.not_found(id)),
        Applied::Moved(_) | Applied::Already(_) => None,
    };
    if let Some(error) = refused {
        // Ended before the answer: whoever looks for work passes over a job that is still locked.
        tx.commit().await?;
        return Err(error);
    }
    let left = jobs::find(tx.connection(), project, kind, job).await?.ok_or_else(|| kind.not_found(id))?;
    tx.commit().await?;
    if let Applied::Moved(moved) = applied {
        told(app, &moved, None).await;
    }
    Ok(left)
}

fn wrong_state(kind: JobKind, id: &str, status: JobStatus, wanted: &str) -> Error {
    let message = format!("Job {id} is {status} and cannot be {wanted}.");
    Error::invalid(kind.param(), message).code("invalid_state")
}
