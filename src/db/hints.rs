//! Hints between processes: that something has changed about a job, or that there is something else to do. They may be lost.

use sqlx::PgExecutor;
use sqlx::postgres::PgListener;

use crate::domain::error::Result;
use crate::domain::id::JobId;

pub(super) const CHANNEL: &str = "finetuned_jobs";

/// Tells other processes that something has changed about a job, or that there is something else to do. It is heard once the
/// transaction is committed.
pub async fn hint(db: impl PgExecutor<'_>, job: Option<JobId>) -> Result<()> {
    let about = job.map(|job| job.to_string()).unwrap_or_default();
    sqlx::query!("select pg_notify($1, $2)", CHANNEL, about).execute(db).await?;
    Ok(())
}

/// Hints from other processes. Whoever waits for one also looks by the clock.
pub struct Listener(pub(super) PgListener);

impl Listener {
    /// Waits for the next hint, and says which job it is about; None where it does not tell, as those of older versions.
    pub async fn hint(&mut self) -> Result<Option<JobId>> {
        Ok(self.0.recv().await?.payload().parse().ok())
    }
}
