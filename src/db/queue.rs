//! What workers do with jobs: claim, renew, report, give back, end.
//!
//! A claim gives a worker a random lease token. Every later write about the attempt names it and changes nothing once
//! the token is no longer the job's, so a worker that lost its lease cannot do harm. Only the database's clock decides
//! when a lease ends.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::moves;
use super::{Db, interval, known, signed, to_json};
use crate::domain::Timestamp;
use crate::domain::error::Result;
use crate::domain::id::{JobId, LeaseToken, WorkerId};
use crate::domain::job::{Grant, JobKind, JobStatus, Move, Moved, Phase, Prepared};

/// The right to work on a job, as long as its lease is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub job: JobId,
    pub attempt: u32,
    pub token: LeaseToken,
    /// The slot of the worker that the job runs in.
    pub slot: i32,
    pub kind: JobKind,
}

impl Claim {
    /// The id by which clients know the job.
    pub fn public_id(&self) -> String {
        self.kind.public_id(self.job)
    }
}

/// Waits until nobody else chooses a job of this kind, until the transaction ends: so that each choice knows of those
/// before it.
pub(super) async fn choose_in_turn(db: &mut PgConnection, kind: &str) -> Result<()> {
    let lock = format!("finetuned {kind}");
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", lock).execute(db).await?;
    Ok(())
}

/// Gives the next queued job that the worker's machine has room for to a free slot of it, if there are both. Next is the
/// oldest job of the project that has the fewest running and whose turn was longest ago.
/// A project runs at most `most_running` unless it has a limit of its own; 0 is none.
pub async fn claim(
    db: &Db,
    worker: WorkerId,
    host: &str,
    lease: Duration,
    most_running: u64,
) -> Result<Option<(Claim, Moved)>> {
    let mut tx = db.begin().await?;
    let connection = tx.connection();
    choose_in_turn(connection, "claim").await?;
    let Some((job, slot)) = next(connection, worker, most_running).await? else { return Ok(None) };
    let token = LeaseToken(Uuid::new_v4());
    let start = Move::Start(Grant { worker, token, lease });
    let moved = moves::make(connection, job, &start).await?;
    let claim = Claim { job, attempt: moved.attempt, token, slot, kind: moved.kind };
    place(connection, &claim, worker, host).await?;
    tx.commit().await?;
    Ok(Some((claim, moved)))
}

/// The job that is next for this worker, and a slot for it, both locked.
async fn next(db: &mut PgConnection, worker: WorkerId, most_running: u64) -> Result<Option<(JobId, i32)>> {
    let row = sqlx::query!(
        r#"
        with free as (
            select slot from slots where worker_id = $1 and job_id is null
            order by slot limit 1 for update skip locked
        ),
        machine as (
            select memory, free_disk from workers where id = $1
        ),
        turns as (
            select first.id
            from projects p
            cross join lateral (
                select id from jobs
                where project_id = p.id and status = 'queued' and run_after <= now()
                  and coalesce(needed_memory <= (select memory from machine), true)
                  and coalesce(needed_disk <= (select free_disk from machine), true)
                order by id limit 1
            ) first
            cross join lateral (
                select count(*) as jobs from jobs where project_id = p.id and status = 'running'
            ) running
            where exists (select from free)
              and (coalesce(p.quota_running_jobs, $2) = 0 or running.jobs < coalesce(p.quota_running_jobs, $2))
            order by running.jobs, p.claimed_at nulls first, first.id
        ),
        candidate as (
            select unheld.id
            from turns cross join lateral (
                select id from jobs where id = turns.id and status = 'queued' for update skip locked
            ) unheld
            limit 1
        )
        select candidate.id, free.slot from candidate, free
        "#,
        worker.0,
        signed(most_running)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (JobId(row.id), row.slot)))
}

/// Records an attempt that has begun: in its slot, as its project's turn, and in the list of attempts.
async fn place(db: &mut PgConnection, claim: &Claim, worker: WorkerId, host: &str) -> Result<()> {
    sqlx::query!(
        r#"
        with turned as (
            update projects set claimed_at = clock_timestamp()
            where id = (select project_id from jobs where jobs.id = $1)
        ),
        placed as (
            update slots set job_id = $1, attempt = $2 where worker_id = $3 and slot = $4
        )
        insert into attempts (job_id, attempt, worker_id, host, lease_token) values ($1, $2, $3, $5, $6)
        "#,
        claim.job.0,
        claim.attempt.cast_signed(),
        worker.0,
        claim.slot,
        host,
        claim.token.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Up to `limit` jobs that have waited in the queue for `patience` while no worker with room for them was there, each once,
/// and whether there was any worker at all.
pub async fn waiting_without_worker(
    db: impl PgExecutor<'_>,
    patience: Duration,
    limit: i64,
) -> Result<Vec<(JobId, bool)>> {
    let rows = sqlx::query!(
        r#"
        with there as (
            select memory, free_disk from workers where last_seen_at > now() - interval '1 minute'
        )
        update jobs set told_of_no_worker = true
        where id in (
            select id from jobs
            where status = 'queued' and not told_of_no_worker and run_after <= now() - $1::interval
              and not exists (
                  select from there
                  where coalesce(needed_memory <= there.memory, true)
                    and coalesce(needed_disk <= there.free_disk, true)
              )
            limit $2 for update skip locked
        )
        returning id, exists (select from there) as "is_there!"
        "#,
        interval(patience),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (JobId(row.id), row.is_there)).collect())
}

/// A lease that was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Whether the job's owner asks it to pause.
    pub pause_requested: bool,
}

/// Extends a lease that has not ended; None if it is no longer the claim's.
pub async fn renew(db: impl PgExecutor<'_>, claim: &Claim, lease: Duration) -> Result<Option<Renewed>> {
    let row = sqlx::query!(
        r#"
        update jobs set lease_until = clock_timestamp() + $3
        where id = $1 and lease_token = $2 and status = 'running' and lease_until > clock_timestamp()
        returning pause_requested
        "#,
        claim.job.0,
        claim.token.0,
        interval(lease)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Renewed { pause_requested: row.pause_requested }))
}

/// Locks the claim's job against everyone else until the transaction ends; false if the lease is no longer the
/// claim's. Writes about an attempt are made under this lock.
pub async fn hold(db: &mut PgConnection, claim: &Claim) -> Result<bool> {
    let row = sqlx::query!(
        r#"
        select id from jobs
        where id = $1 and lease_token = $2 and status = 'running' and lease_until > clock_timestamp()
        for no key update
        "#,
        claim.job.0,
        claim.token.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// The status of a job.
pub async fn status(db: impl PgExecutor<'_>, job: JobId) -> Result<Option<JobStatus>> {
    let row = sqlx::query!("select status from jobs where id = $1", job.0).fetch_optional(db).await?;
    row.map(|row| known("job status", &row.status)).transpose()
}

/// How far a run is.
pub struct Standing {
    pub phase: Phase,
    pub step: u64,
    pub total_steps: u64,
    pub estimated_finish: Option<Timestamp>,
}

/// Records how far the held job is.
pub async fn progress(db: &mut PgConnection, claim: &Claim, standing: &Standing) -> Result<()> {
    sqlx::query!(
        "update jobs set phase = $2, step = $3, total_steps = $4, estimated_finish = $5 where id = $1",
        claim.job.0,
        standing.phase.as_str(),
        signed(standing.step),
        signed(standing.total_steps),
        standing.estimated_finish
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Records the effective hyperparameters of the held job.
pub async fn settle(db: &mut PgConnection, claim: &Claim, prepared: &Prepared) -> Result<()> {
    sqlx::query!("update jobs set prepared = $2 where id = $1", claim.job.0, to_json(prepared)?).execute(db).await?;
    Ok(())
}

/// Frees the slot of an attempt whose trainer is gone.
pub async fn free_slot(db: impl PgExecutor<'_>, worker: WorkerId, claim: &Claim) -> Result<()> {
    sqlx::query!(
        r#"
        update slots set job_id = null, attempt = null
        where worker_id = $1 and slot = $2 and job_id = $3 and attempt = $4
        "#,
        worker.0,
        claim.slot,
        claim.job.0,
        claim.attempt.cast_signed()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Frees whatever slots a job holds: those of a worker that is gone.
pub async fn free_slots_of(db: impl PgExecutor<'_>, job: JobId) -> Result<()> {
    sqlx::query!("update slots set job_id = null, attempt = null where job_id = $1", job.0).execute(db).await?;
    Ok(())
}

/// Locks one running job whose lease has ended, or, given a worker, one that the worker's earlier life left behind.
pub async fn next_orphan(db: &mut PgConnection, left_by: Option<WorkerId>) -> Result<Option<(JobId, u32)>> {
    let row = sqlx::query!(
        r#"
        select id, attempt from jobs
        where status = 'running'
          and case when $1::uuid is null then lease_until < clock_timestamp() else worker_id = $1 end
        order by id limit 1 for update skip locked
        "#,
        left_by.map(|id| id.0)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (JobId(row.id), row.attempt.unsigned_abs())))
}
