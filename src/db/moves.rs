//! Moves that a job's owner makes. Each is one guarded update; what it was before decides what happens.

use sqlx::PgConnection;

use super::unknown;
use crate::domain::error::Result;
use crate::domain::id::{JobId, ProjectId};
use crate::domain::job::JobStatus;

/// What became of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The status the job has now.
    pub status: JobStatus,
    /// Whether the move changed anything.
    pub changed: bool,
}

async fn moved(db: &mut PgConnection, project: ProjectId, id: JobId, changed: u64) -> Result<Option<Moved>> {
    let row = sqlx::query!("select status from jobs where id = $1 and project_id = $2", id.0, project.0)
        .fetch_optional(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let status = row.status.parse().map_err(|()| unknown("job status", &row.status))?;
    Ok(Some(Moved { status, changed: changed > 0 }))
}

/// Ends a job that has not ended, and takes its lease away. None if the project has no such job.
pub async fn cancel(db: &mut PgConnection, project: ProjectId, id: JobId) -> Result<Option<Moved>> {
    let done = sqlx::query!(
        r#"
        update jobs
        set status = 'cancelled', finished_at = now(), lease_token = null, lease_until = null, worker_id = null,
            phase = null, estimated_finish = null, pause_requested = false, validation_token = null
        where id = $1 and project_id = $2 and status in ('validating_files', 'queued', 'running', 'paused')
        "#,
        id.0,
        project.0
    )
    .execute(&mut *db)
    .await?;
    moved(db, project, id, done.rows_affected()).await
}

/// Pauses a queued job, or asks the worker that runs it to. None if the project has no such job.
pub async fn pause(db: &mut PgConnection, project: ProjectId, id: JobId) -> Result<Option<Moved>> {
    let done = sqlx::query!(
        r#"
        update jobs
        set status = case when status = 'queued' then 'paused' else status end,
            pause_requested = (status = 'running')
        where id = $1 and project_id = $2 and (status = 'queued' or status = 'running' and not pause_requested)
        "#,
        id.0,
        project.0
    )
    .execute(&mut *db)
    .await?;
    moved(db, project, id, done.rows_affected()).await
}

/// Queues a paused job again, or takes back the request to pause. None if the project has no such job.
pub async fn resume(db: &mut PgConnection, project: ProjectId, id: JobId) -> Result<Option<Moved>> {
    let done = sqlx::query!(
        r#"
        update jobs
        set status = case when status = 'paused' then 'queued' else status end, pause_requested = false,
            run_after = now()
        where id = $1 and project_id = $2 and (status = 'paused' or pause_requested)
        "#,
        id.0,
        project.0
    )
    .execute(&mut *db)
    .await?;
    moved(db, project, id, done.rows_affected()).await
}
