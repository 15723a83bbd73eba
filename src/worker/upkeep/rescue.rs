//! Jobs whose worker went away: back into the queue, or failed once that has happened too often.

use crate::app::App;
use crate::app::jobs::told;
use crate::db::{self, attempts, queue};
use crate::domain::attempt::{Cause, ProcessEnd};
use crate::domain::error::Result;
use crate::domain::id::WorkerId;

use super::super::ending::retry_or_fail;

/// Ends attempts that nobody will end any more; false, for there is never more to do.
///
/// # Errors
/// The database is away.
pub async fn end_abandoned(app: &App) -> Result<bool> {
    let ended = attempts::end_abandoned(app.db.pool()).await?;
    if ended > 0 {
        tracing::warn!(ended, "attempts of workers that are gone were ended");
    }
    Ok(false)
}

/// Rescues one running job whose lease has ended or, given a worker that has just started, one that its earlier life
/// left behind; false if there is none.
///
/// # Errors
/// The database is away.
pub async fn run_once(app: &App, left_by: Option<WorkerId>) -> Result<bool> {
    db::retrying(|| rescue(app, left_by)).await
}

async fn rescue(app: &App, left_by: Option<WorkerId>) -> Result<bool> {
    let mut tx = app.db.begin().await?;
    let Some((job, attempt)) = queue::next_orphan(tx.connection(), left_by).await? else { return Ok(false) };
    let (cause, detail) = if left_by.is_some() {
        (Cause::WorkerRestarted, "its worker was restarted")
    } else {
        (Cause::LeaseLost, "its worker stopped renewing the lease")
    };
    let end = attempts::End { cause: Some(cause), detail, process: ProcessEnd::default(), stderr_tail: None };
    attempts::end(&mut *tx.connection(), job, attempt, &end).await?;
    let moved = retry_or_fail(tx.connection(), job, attempt, cause, detail).await?;
    queue::free_slots_of(&mut *tx.connection(), job).await?;
    tx.commit().await?;
    told(app, &moved, Some(detail)).await;
    Ok(true)
}
