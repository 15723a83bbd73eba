//! Which job a request made that is sent again.

use sqlx::PgExecutor;

use super::{hash32, known};
use crate::domain::error::Result;
use crate::domain::id::{JobId, ProjectId};
use crate::domain::job::JobKind;

/// A job that was made with an idempotency key, and the hash of that request.
pub struct Keyed {
    pub job: JobId,
    pub kind: JobKind,
    pub hash: [u8; 32],
}

/// The job that a project made with this idempotency key.
pub async fn find_by_key(db: impl PgExecutor<'_>, project: ProjectId, key: &str) -> Result<Option<Keyed>> {
    let row = sqlx::query!(
        "select id, kind, request_hash from jobs where project_id = $1 and idempotency_key = $2",
        project.0,
        key
    )
    .fetch_optional(db)
    .await?;
    let keyed = |job, kind: &str, hash: &[u8]| {
        Ok(Keyed { job: JobId(job), kind: known("kind of job", kind)?, hash: hash32(hash)? })
    };
    row.map(|row| keyed(row.id, &row.kind, &row.request_hash)).transpose()
}

/// The newest job that a project made from the very same request within the last ten minutes.
pub async fn find_recent(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    kind: JobKind,
    hash: [u8; 32],
) -> Result<Option<JobId>> {
    let row = sqlx::query!(
        r#"
        select id from jobs
        where project_id = $1 and kind = $3 and request_hash = $2 and created_at > now() - interval '10 minutes'
        order by id desc limit 1
        "#,
        project.0,
        &hash[..],
        kind.as_str()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| JobId(row.id)))
}
