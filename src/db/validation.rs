//! Jobs whose files are being validated.

use sqlx::PgExecutor;

use super::{signed, to_json};
use crate::domain::error::Result;
use crate::domain::id::JobId;
use crate::domain::job::{JobError, Prepared};
use crate::domain::report::DataReport;

/// A job whose files are to be validated.
pub struct Taken {
    pub job: JobId,
    /// How often it was taken, this time included.
    pub tries: u32,
}

/// Takes the next job whose files are to be validated, for a minute; another worker takes it after that.
pub async fn take(db: impl PgExecutor<'_>) -> Result<Option<Taken>> {
    let row = sqlx::query!(
        r#"
        update jobs set run_after = now() + interval '1 minute', validation_tries = validation_tries + 1
        where id = (
            select id from jobs where status = 'validating_files' and run_after <= now()
            order by id limit 1 for update skip locked
        )
        returning id, validation_tries
        "#
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Taken { job: JobId(row.id), tries: row.validation_tries.unsigned_abs() }))
}

/// Does not count the latest try: it failed for a reason that is not the job's.
pub async fn forgive(db: impl PgExecutor<'_>, id: JobId) -> Result<()> {
    sqlx::query!("update jobs set validation_tries = validation_tries - 1 where id = $1", id.0).execute(db).await?;
    Ok(())
}

/// Moves a validated job into the queue; false if it was cancelled meanwhile.
pub async fn queue(db: impl PgExecutor<'_>, id: JobId, prepared: &Prepared) -> Result<bool> {
    let done = sqlx::query!(
        r#"
        update jobs
        set status = 'queued', prepared = $2, run_after = now(), needed_memory = $3, needed_disk = $4
        where id = $1 and status = 'validating_files'
        "#,
        id.0,
        to_json(prepared)?,
        prepared.estimate.as_ref().and_then(|estimate| estimate.peak_memory_bytes).map(signed),
        prepared.estimate.as_ref().map(|estimate| signed(estimate.disk_bytes))
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Fails a job whose files did not pass; false if it was cancelled meanwhile.
pub async fn refuse(db: impl PgExecutor<'_>, id: JobId, error: &JobError, report: Option<&DataReport>) -> Result<bool> {
    let done = sqlx::query!(
        r#"
        update jobs set status = 'failed', error = $2, report = $3, finished_at = now()
        where id = $1 and status = 'validating_files'
        "#,
        id.0,
        to_json(error)?,
        report.map(to_json).transpose()?
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}
