//! Events of jobs.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{known, pages, storable, storable_json};
use crate::domain::error::{Error, Result};
use crate::domain::event::{Event, NewEvent};
use crate::domain::id::{EventId, JobId};
use crate::domain::page::{Order, Page, PageRequest};

/// Records events in order.
pub async fn insert(db: impl PgExecutor<'_>, job: JobId, events: &[NewEvent]) -> Result<()> {
    let ids: Vec<Uuid> = events.iter().map(|_| EventId::new().0).collect();
    let levels: Vec<String> = events.iter().map(|event| event.level.as_str().to_owned()).collect();
    let kinds: Vec<String> = events.iter().map(|event| event.kind.word()).collect();
    let messages: Vec<String> = events.iter().map(|event| storable(&event.message)).collect();
    let data: Vec<serde_json::Value> =
        events.iter().map(|event| event.data.clone().map_or(serde_json::Value::Null, storable_json)).collect();
    sqlx::query!(
        r#"
        insert into events (id, job_id, level, kind, message, data)
        select id, $1, level, kind, message, nullif(data, 'null'::jsonb)
        from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[])
             with ordinality as event (id, level, kind, message, data, place)
        order by place
        "#,
        job.0,
        &ids,
        &levels,
        &kinds,
        &messages,
        &data
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A page of events, in one order.
macro_rules! select {
    ($behind:literal, $order:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select id, created_at, level, kind, message, data,
                   octet_length(message) + coalesce(octet_length(data::text), 0) as "bytes!"
            from events
            where job_id = $1 and seq "# + $behind + r#" case
                when $2::uuid is null then $3
                else (select seq from events where id = $2 and job_id = $1)
            end
            order by seq "# + $order + " limit $4",
            $($argument),*
        )
    };
}

struct Row {
    id: Uuid,
    created_at: OffsetDateTime,
    level: String,
    kind: String,
    message: String,
    data: Option<serde_json::Value>,
    bytes: i32,
}

impl TryFrom<Row> for Event {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: EventId(row.id),
            created_at: row.created_at,
            level: known("level", &row.level)?,
            kind: known("kind of event", &row.kind)?,
            message: row.message,
            data: row.data,
        })
    }
}

/// One page of a job's events.
pub async fn list(db: impl PgExecutor<'_>, job: JobId, page: PageRequest<EventId>) -> Result<Page<Event>> {
    let after = page.after.map(|id| id.0);
    let bytes = |row: &Row| i64::from(row.bytes);
    // Each order is a query of its own, since each goes along the index.
    match page.order {
        Order::Ascending => {
            let rows = select!(">", "asc", job.0, after, i64::MIN, page.rows());
            pages::collect(rows.fetch(db), page.limit, bytes, Event::try_from).await
        }
        Order::Descending => {
            let rows = select!("<", "desc", job.0, after, i64::MAX, page.rows());
            pages::collect(rows.fetch(db), page.limit, bytes, Event::try_from).await
        }
    }
}
