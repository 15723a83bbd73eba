//! Metrics of jobs: a row per step.

use sqlx::PgExecutor;
use sqlx::types::Json;

use super::{pages, signed, to_json, unsigned};
use crate::domain::checkpoint::{MetricRow, Metrics};
use crate::domain::error::Result;
use crate::domain::id::JobId;
use crate::domain::page::{Order, Page, PageRequest};

/// Adds measurements to the rows of their steps; what was measured again takes the place of what was measured before.
pub async fn upsert(db: impl PgExecutor<'_>, job: JobId, attempt: u32, rows: &[MetricRow]) -> Result<()> {
    let steps: Vec<i64> = rows.iter().map(|row| signed(row.step)).collect();
    let measured = rows.iter().map(|row| to_json(&row.values)).collect::<Result<Vec<_>>>()?;
    sqlx::query!(
        r#"
        insert into metrics (job_id, step, attempt, measured)
        select $1, step, $2, measured from unnest($3::bigint[], $4::jsonb[]) as row (step, measured)
        on conflict (job_id, step) do update
        set attempt = excluded.attempt, measured = metrics.measured || excluded.measured
        "#,
        job.0,
        attempt.cast_signed(),
        &steps,
        &measured
    )
    .execute(db)
    .await?;
    Ok(())
}

/// One page of a job's metrics by step.
pub async fn list(db: impl PgExecutor<'_>, job: JobId, page: PageRequest<u64>) -> Result<Page<MetricRow>> {
    let ascending = page.order == Order::Ascending;
    let rows = sqlx::query!(
        r#"
        select step, measured as "measured: Json<Metrics>", octet_length(measured::text) as "bytes!" from metrics
        where job_id = $1 and ($2::bigint is null or case when $3 then step > $2 else step < $2 end)
        order by case when $3 then step end asc, case when not $3 then step end desc
        limit $4
        "#,
        job.0,
        page.after.map(signed),
        ascending,
        page.rows()
    )
    .fetch(db);
    pages::collect(
        rows,
        page.limit,
        |row| i64::from(row.bytes),
        |row| Ok(MetricRow { step: unsigned(row.step), values: row.measured.0 }),
    )
    .await
}

/// All of a job's metrics by step.
pub async fn all(db: impl PgExecutor<'_>, job: JobId) -> Result<Vec<MetricRow>> {
    let rows = sqlx::query!(
        r#"select step, measured as "measured: Json<Metrics>" from metrics where job_id = $1 order by step"#,
        job.0
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| MetricRow { step: unsigned(row.step), values: row.measured.0 }).collect())
}
