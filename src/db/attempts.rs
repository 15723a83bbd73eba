//! Attempts at jobs.

use std::collections::HashMap;

use sqlx::PgExecutor;
use uuid::Uuid;

use super::{known, signed, storable, unsigned};
use crate::domain::attempt::{Attempt, Cause, Outcome, ProcessEnd};
use crate::domain::error::Result;
use crate::domain::id::JobId;

/// The attempts at each of these jobs, in order.
pub async fn of_jobs(db: impl PgExecutor<'_>, jobs: &[JobId]) -> Result<HashMap<JobId, Vec<Attempt>>> {
    let ids: Vec<Uuid> = jobs.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"
        select job_id, attempt, host, started_at, ended_at, outcome, cause, detail, exit_code, signal, peak_memory,
               peak_device_memory, start_step, device, stderr_tail
        from unnest($1::uuid[]) as asked (id)
        cross join lateral (select * from attempts where job_id = asked.id order by attempt offset 0) a
        "#,
        &ids
    )
    .fetch_all(db)
    .await?;
    let mut found: HashMap<JobId, Vec<Attempt>> = HashMap::new();
    for row in rows {
        let outcome = row.outcome.map(|word| known("outcome", &word)).transpose()?;
        found.entry(JobId(row.job_id)).or_default().push(Attempt {
            number: row.attempt.unsigned_abs(),
            worker: row.host,
            started_at: row.started_at,
            ended_at: row.ended_at,
            outcome,
            cause: row.cause,
            detail: row.detail,
            process: ProcessEnd {
                exit_code: row.exit_code,
                signal: row.signal,
                peak_memory: row.peak_memory.map(unsigned),
                peak_device_memory: row.peak_device_memory.map(unsigned),
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
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// None for success.
    pub cause: Option<Cause>,
    pub detail: &'a str,
    pub process: ProcessEnd,
    pub stderr_tail: Option<&'a str>,
}

/// Records the end of an attempt. What is recorded stays, but for one case: an attempt that was given up as lost turns out
/// to have ended by itself before that, once its worker is there again to tell.
pub async fn end(db: impl PgExecutor<'_>, job: JobId, attempt: u32, end: &End<'_>) -> Result<()> {
    sqlx::query!(
        r#"
        update attempts
        set ended_at = coalesce(ended_at, now()), outcome = $3, detail = $4, exit_code = $5, signal = $6,
            peak_memory = $7, stderr_tail = $8, cause = $9, peak_device_memory = $10
        where job_id = $1 and attempt = $2
          and (ended_at is null or (outcome = 'lost' and $3 in ('crashed', 'failed')))
        "#,
        job.0,
        attempt.cast_signed(),
        end.cause.map_or(Outcome::Succeeded, Cause::outcome).as_str(),
        storable(end.detail),
        end.process.exit_code,
        end.process.signal,
        end.process.peak_memory.map(signed),
        end.stderr_tail.map(storable),
        end.cause.map(Cause::as_str),
        end.process.peak_device_memory.map(signed)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// An attempt that counts against a budget.
#[derive(Debug)]
pub struct Spent {
    pub number: u32,
    /// None where it ended before causes were recorded.
    pub cause: Option<Cause>,
    pub detail: String,
}

/// The attempts at a job that ended like this since one of them last got as far as a new checkpoint, in order.
pub async fn spent(db: impl PgExecutor<'_>, job: JobId, outcome: Outcome) -> Result<Vec<Spent>> {
    let rows = sqlx::query!(
        r#"
        select attempt, cause, coalesce(detail, '') as "detail!" from attempts
        where job_id = $1 and outcome = $2
          and attempt >= coalesce((select max(attempt) from checkpoints where job_id = $1), 0)
        order by attempt
        "#,
        job.0,
        outcome.as_str()
    )
    .fetch_all(db)
    .await?;
    let cause = |word: Option<String>| word.and_then(|word| word.parse().ok());
    let spent = rows.into_iter().map(|row| Spent {
        number: row.attempt.unsigned_abs(),
        cause: cause(row.cause),
        detail: row.detail,
    });
    Ok(spent.collect())
}

/// Whether an attempt was recorded as a success.
pub async fn succeeded(db: impl PgExecutor<'_>, job: JobId, attempt: u32) -> Result<bool> {
    let row = sqlx::query!(
        "select 1 as one from attempts where job_id = $1 and attempt = $2 and outcome = 'succeeded'",
        job.0,
        attempt.cast_signed()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// Ends the attempts that hold no lease any more and whose worker is gone or has forgotten them: those of jobs that were
/// cancelled, and then their worker died. Returns how many.
pub async fn end_abandoned(db: impl PgExecutor<'_>) -> Result<u64> {
    let done = sqlx::query!(
        r#"
        update attempts a
        set ended_at = now(), detail = 'its worker went away',
            outcome = case when j.status = 'cancelled' then 'cancelled' else 'lost' end,
            cause = case when j.status = 'cancelled' then 'cancel_requested' else 'lease_lost' end
        from jobs j
        where j.id = a.job_id and a.ended_at is null and j.lease_token is distinct from a.lease_token
          and not exists (
            select from slots s join workers w on w.id = s.worker_id
            where s.job_id = a.job_id and s.attempt = a.attempt and w.last_seen_at > now() - interval '1 minute'
          )
        "#
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
