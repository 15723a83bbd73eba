//! Attempts at jobs.

use std::collections::HashMap;

use sqlx::PgExecutor;
use uuid::Uuid;

use super::{signed, storable, unknown, unsigned};
use crate::domain::attempt::{Attempt, Outcome, ProcessEnd};
use crate::domain::error::Result;
use crate::domain::id::JobId;

/// The attempts at each of these jobs, in order.
pub async fn of_jobs(db: impl PgExecutor<'_>, jobs: &[JobId]) -> Result<HashMap<JobId, Vec<Attempt>>> {
    let ids: Vec<Uuid> = jobs.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"
        select job_id, attempt, host, started_at, ended_at, outcome, detail, exit_code, signal, peak_memory,
               start_step, device, stderr_tail
        from attempts where job_id = any($1) order by job_id, attempt
        "#,
        &ids
    )
    .fetch_all(db)
    .await?;
    let mut found: HashMap<JobId, Vec<Attempt>> = HashMap::new();
    for row in rows {
        let outcome = row.outcome.map(|word| word.parse().map_err(|()| unknown("outcome", &word))).transpose()?;
        found.entry(JobId(row.job_id)).or_default().push(Attempt {
            number: row.attempt.unsigned_abs(),
            worker: row.host,
            started_at: row.started_at,
            ended_at: row.ended_at,
            outcome,
            detail: row.detail,
            process: ProcessEnd {
                exit_code: row.exit_code,
                signal: row.signal,
                peak_memory: row.peak_memory.map(unsigned),
            },
            start_step: unsigned(row.start_step),
            device: row.device,
            stderr_tail: row.stderr_tail,
        });
    }
    Ok(found)
}

/// Records what an attempt started with.
pub async fn started(db: impl PgExecutor<'_>, job: JobId, attempt: u32, step: u64, device: &str) -> Result<()> {
    sqlx::query!(
        "update attempts set start_step = $3, device = $4 where job_id = $1 and attempt = $2 and ended_at is null",
        job.0,
        attempt.cast_signed(),
        signed(step),
        storable(device)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How an attempt ended, for the record.
pub struct End<'a> {
    pub outcome: Outcome,
    pub detail: &'a str,
    pub process: ProcessEnd,
    pub stderr_tail: Option<&'a str>,
}

/// Records the end of an attempt, once; a later end of the same attempt changes nothing.
pub async fn end(db: impl PgExecutor<'_>, job: JobId, attempt: u32, end: &End<'_>) -> Result<()> {
    sqlx::query!(
        r#"
        update attempts
        set ended_at = now(), outcome = $3, detail = $4, exit_code = $5, signal = $6, peak_memory = $7, stderr_tail = $8
        where job_id = $1 and attempt = $2 and ended_at is null
        "#,
        job.0,
        attempt.cast_signed(),
        end.outcome.as_str(),
        storable(end.detail),
        end.process.exit_code,
        end.process.signal,
        end.process.peak_memory.map(signed),
        end.stderr_tail.map(storable)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How many attempts at a job ended like this.
pub async fn count(db: impl PgExecutor<'_>, job: JobId, outcome: Outcome) -> Result<u32> {
    let row = sqlx::query!(
        r#"select count(*) as "count!" from attempts where job_id = $1 and outcome = $2"#,
        job.0,
        outcome.as_str()
    )
    .fetch_one(db)
    .await?;
    Ok(u32::try_from(row.count).unwrap_or(u32::MAX))
}
