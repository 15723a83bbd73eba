//! Checkpoints of jobs.

use std::time::Duration;

use sqlx::PgExecutor;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{interval, signed, to_json, unsigned};
use crate::domain::checkpoint::{Checkpoint, Metrics};
use crate::domain::error::Result;
use crate::domain::id::{CheckpointId, JobId, ModelId};
use crate::domain::metric::{Better, LOSS, Metric, Split};
use crate::domain::model::TRAINING_STATE_FOLDER;
use crate::domain::page::{Order, Page, PageRequest};

/// Records a checkpoint whose model is recorded.
pub async fn insert(db: impl PgExecutor<'_>, checkpoint: &Checkpoint, model: ModelId, attempt: u32) -> Result<()> {
    sqlx::query!(
        "insert into checkpoints (id, job_id, step, attempt, model_id, metrics) values ($1, $2, $3, $4, $5, $6)",
        checkpoint.id.0,
        checkpoint.job.0,
        signed(checkpoint.step),
        attempt.cast_signed(),
        model.0,
        to_json(&checkpoint.metrics)?
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether an attempt has recorded a checkpoint at this step.
pub async fn is_recorded(db: impl PgExecutor<'_>, job: JobId, step: u64, attempt: u32) -> Result<bool> {
    let row = sqlx::query!(
        "select 1 as one from checkpoints where job_id = $1 and step = $2 and attempt = $3 and dropped_at is null",
        job.0,
        signed(step),
        attempt.cast_signed()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

struct Row {
    id: Uuid,
    step: i64,
    name: String,
    metrics: Json<Metrics>,
    created_at: OffsetDateTime,
}

/// A page of checkpoints, in one order: along the index of steps, whatever the planner thinks of how many models there are.
macro_rules! select {
    ($behind:literal, $order:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select c.id, c.step, m.name, c.metrics as "metrics: Json<Metrics>", c.created_at
            from checkpoints c
            cross join lateral (
                select name from models where id = c.model_id and deleted_at is null offset 0
            ) m
            where c.job_id = $1 and c.dropped_at is null and c.step "# + $behind + r#" case
                when $2::uuid is null then $3
                else (select step from checkpoints where id = $2 and job_id = $1)
            end
            order by c.step "# + $order + " limit $4",
            $($argument),*
        )
    };
}

/// One page of a job's checkpoints.
pub async fn list(db: impl PgExecutor<'_>, job: JobId, page: PageRequest<CheckpointId>) -> Result<Page<Checkpoint>> {
    let after = page.after.map(|id| id.0);
    // Each order is a query of its own, since each goes along the index.
    let rows = match page.order {
        Order::Ascending => select!(">", "asc", job.0, after, 0_i64, page.rows()).fetch_all(db).await?,
        Order::Descending => select!("<", "desc", job.0, after, i64::MAX, page.rows()).fetch_all(db).await?,
    };
    let checkpoints = rows
        .into_iter()
        .map(|row| Checkpoint {
            id: CheckpointId(row.id),
            job,
            step: unsigned(row.step),
            model: row.name,
            metrics: row.metrics.0,
            created_at: row.created_at,
        })
        .collect();
    Ok(Page::from_rows(checkpoints, page.limit))
}

/// The checkpoints that an attempt at the job can go on from, latest first.
pub async fn resumable(db: impl PgExecutor<'_>, job: JobId) -> Result<Vec<(u64, ModelId)>> {
    let rows = sqlx::query!(
        r#"
        select step, model_id from checkpoints
        where job_id = $1 and resumable and dropped_at is null order by step desc
        "#,
        job.0
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (unsigned(row.step), ModelId(row.model_id))).collect())
}

/// Drops the checkpoints of a job at this step and later: an attempt that goes on from before will make them again.
pub async fn drop_from(db: impl PgExecutor<'_>, job: JobId, step: u64) -> Result<()> {
    sqlx::query!(
        r#"
        with dropped as (
            update checkpoints set dropped_at = now()
            where job_id = $1 and step >= $2 and dropped_at is null returning model_id
        )
        update models set deleted_at = now() where id in (select model_id from dropped) and deleted_at is null
        "#,
        job.0,
        signed(step)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Drops all but the `keep` latest checkpoints of a job and the one whose value of `objective` on the validation data is
/// the best; among equals the one with the lower loss. Training states behind the latest two are dropped too.
pub async fn retain(db: impl PgExecutor<'_>, job: JobId, keep: u32, objective: Metric) -> Result<()> {
    sqlx::query!(
        r#"
        with ranked as (
            select id, model_id,
                   row_number() over (order by step desc) as age,
                   row_number() over (
                       order by case when $4 then (metrics ->> $3)::float8 end asc nulls last,
                                case when not $4 then (metrics ->> $3)::float8 end desc nulls last,
                                (metrics ->> $5)::float8 asc nulls last, step desc
                   ) as place
            from checkpoints where job_id = $1 and dropped_at is null
        ),
        dropped as (
            update checkpoints set dropped_at = now(), resumable = false
            where id in (select id from ranked where age > $2 and place > 1)
            returning model_id
        ),
        aged as (
            update checkpoints set resumable = false
            where id in (select id from ranked where age > 2 and (age <= $2 or place = 1))
        )
        update models set deleted_at = now() where id in (select model_id from dropped) and deleted_at is null
        "#,
        job.0,
        i64::from(keep),
        objective.on(Split::Validation),
        objective.better() == Better::Lower,
        LOSS.on(Split::Validation)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Drops the checkpoints of jobs that ended longer ago than that. Returns how many.
pub async fn drop_older(db: impl PgExecutor<'_>, retention: Duration) -> Result<u64> {
    let dropped = sqlx::query!(
        r#"
        with dropped as (
            update checkpoints c set dropped_at = now(), resumable = false
            from jobs j
            -- Made before its job ended, which an index knows nothing of.
            where c.dropped_at is null and c.created_at < now() - $1::interval
              and j.id = c.job_id and j.finished_at < now() - $1::interval
            returning c.model_id
        )
        update models set deleted_at = now() where id in (select model_id from dropped) and deleted_at is null
        "#,
        interval(retention)
    )
    .execute(db)
    .await?;
    Ok(dropped.rows_affected())
}

/// A file of a checkpoint's training state that no attempt will go on from.
pub struct SpentState {
    pub model: ModelId,
    pub path: String,
    pub object_key: String,
}

/// Training states of ended jobs, and those behind the latest.
pub async fn states_to_sweep(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<SpentState>> {
    // The query says it by itself, so that the index of such files can be used.
    const { assert!(matches!(TRAINING_STATE_FOLDER.as_bytes(), b"training/")) };
    let rows = sqlx::query!(
        r#"
        select f.model_id, f.path, f.object_key
        from model_files f
        join checkpoints c on c.model_id = f.model_id
        join jobs j on j.id = c.job_id
        where starts_with(f.path, 'training/')
          and (not c.resumable or j.status in ('succeeded', 'failed', 'cancelled'))
        limit $1
        "#,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SpentState { model: ModelId(row.model_id), path: row.path, object_key: row.object_key })
        .collect())
}

/// Records that a file of a training state is gone from the store.
pub async fn forget_state(db: impl PgExecutor<'_>, state: &SpentState) -> Result<()> {
    sqlx::query!("delete from model_files where model_id = $1 and path = $2", state.model.0, state.path)
        .execute(db)
        .await?;
    Ok(())
}
