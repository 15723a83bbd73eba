//! Jobs that wait although nobody is there who has room for them: their owners are told, once.

use std::time::Duration;

use crate::app::App;
use crate::db::{events, queue};
use crate::domain::error::Result;
use crate::domain::event::NewEvent;

/// How long a job waits before its owner is told.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How many jobs are looked at in one transaction.
const BATCH: i64 = 100;

/// Tells the owners of jobs that have waited for `patience` while no worker with room for them was seen; true if there may
/// be more.
///
/// # Errors
/// The database is away.
pub async fn run_once(app: &App, patience: Duration) -> Result<bool> {
    let mut tx = app.db.begin().await?;
    let waiting = queue::waiting_without_worker(&mut *tx.connection(), patience, BATCH).await?;
    if waiting.is_empty() {
        return Ok(false);
    }
    for &(job, is_there) in &waiting {
        let why = if is_there {
            "no worker has the memory and the disk that it needs"
        } else {
            "no worker is there to run it"
        };
        let event = NewEvent::warn(format!("The job waits: {why}. It starts when there is one"));
        events::insert(&mut *tx.connection(), job, &[event]).await?;
    }
    tx.commit().await?;
    tracing::warn!(jobs = waiting.len(), "jobs wait, and no worker that has room for them has been there for a minute");
    Ok(waiting.len() as i64 == BATCH)
}
