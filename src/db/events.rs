//! Events of jobs.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::{known, pages, storable, storable_json};
use crate::domain::error::Result;
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

/// One page of a job's events.
pub async fn list(db: impl PgExecutor<'_>, job: JobId, page: PageRequest<EventId>) -> Result<Page<Event>> {
    let rows = sqlx::query!(
        r#"
        select id, created_at, level, kind, message, data,
               octet_length(message) + coalesce(octet_length(data::text), 0) as "bytes!"
        from events
        where job_id = $1
          and ($2::uuid is null or case
              when $3 then seq > (select seq from events where id = $2 and job_id = $1)
              else seq < (select seq from events where id = $2 and job_id = $1)
          end)
        order by case when $3 then seq end asc, case when not $3 then seq end desc
        limit $4
        "#,
        job.0,
        page.after.map(|id| id.0),
        page.order == Order::Ascending,
        page.rows()
    )
    .fetch(db);
    pages::collect(
        rows,
        page.limit,
        |row| i64::from(row.bytes),
        |row| {
            Ok(Event {
                id: EventId(row.id),
                created_at: row.created_at,
                level: known("level", &row.level)?,
                kind: known("kind of event", &row.kind)?,
                message: row.message,
                data: row.data,
            })
        },
    )
    .await
}
