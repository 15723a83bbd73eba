//! Events of jobs.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::{storable, storable_json};
use crate::domain::error::Result;
use crate::domain::event::{Event, NewEvent};
use crate::domain::id::{EventId, JobId};
use crate::domain::page::{Page, PageRequest};

/// Records events in order.
pub async fn insert(db: impl PgExecutor<'_>, job: JobId, events: &[NewEvent]) -> Result<()> {
    let ids: Vec<Uuid> = events.iter().map(|_| EventId::new().0).collect();
    let levels: Vec<String> = events.iter().map(|event| event.level.as_str().to_owned()).collect();
    let kinds: Vec<String> =
        events.iter().map(|event| if event.metrics { "metrics" } else { "message" }.to_owned()).collect();
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

/// One page of a job's events, newest first.
pub async fn list(db: impl PgExecutor<'_>, job: JobId, page: PageRequest<EventId>) -> Result<Page<Event>> {
    let rows = sqlx::query!(
        r#"
        select id, created_at, level, kind, message, data
        from events
        where job_id = $1
          and ($2::uuid is null or seq < (select seq from events where id = $2 and job_id = $1))
        order by seq desc
        limit $3
        "#,
        job.0,
        page.after.map(|id| id.0),
        page.rows()
    )
    .fetch_all(db)
    .await?;
    let events = rows
        .into_iter()
        .map(|row| Event {
            id: EventId(row.id),
            created_at: row.created_at,
            level: row.level,
            kind: row.kind,
            message: row.message,
            data: row.data,
        })
        .collect();
    Ok(Page::from_rows(events, page.limit))
}
