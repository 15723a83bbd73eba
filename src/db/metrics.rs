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

struct Row {
    step: i64,
    measured: Json<Metrics>,
    bytes: i32,
}

/// A page of metrics, in one order.
macro_rules! select {
    ($behind:literal, $order:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select step, measured as "measured: Json<Metrics>", octet_length(measured::text) as "bytes!" from metrics
            where job_id = $1 and step "# + $behind + " $2 order by step " + $order + " limit $3",
            $($argument),*
        )
    };
}

/// One page of a job's metrics by step.
pub async fn list(db: impl PgExecutor<'_>, job: JobId, page: PageRequest<u64>) -> Result<Page<MetricRow>> {
    let after = page.after.map(signed);
    let bytes = |row: &Row| i64::from(row.bytes);
    let read = |row: Row| Ok(MetricRow { step: unsigned(row.step), values: row.measured.0 });
    // Each order is a query of its own, since each goes along the index.
    match page.order {
        Order::Ascending => {
            let rows = select!(">", "asc", job.0, after.unwrap_or(0), page.rows());
            pages::collect(rows.fetch(db), page.limit, bytes, read).await
        }
        Order::Descending => {
            let rows = select!("<", "desc", job.0, after.unwrap_or(i64::MAX), page.rows());
            pages::collect(rows.fetch(db), page.limit, bytes, read).await
        }
    }
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
