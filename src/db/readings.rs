//! What reading data files found, by the hash of the file and what was asked of it.

use sqlx::PgExecutor;
use sqlx::types::Json;

use super::to_json;
use crate::domain::error::Result;
use crate::domain::id::{FileId, ProjectId};
use crate::domain::reading::{MOST_READINGS, Reading};

/// What a reader of this version found in a file of this hash when it was asked this.
pub async fn find(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    sha256: &[u8; 32],
    question: &[u8; 32],
    reader: i32,
) -> Result<Option<Reading>> {
    let row = sqlx::query!(
        r#"
        select reading as "reading: Json<Reading>" from readings
        where project_id = $1 and sha256 = $2 and question = $3 and reader = $4
        "#,
        project.0,
        &sha256[..],
        &question[..],
        reader
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| row.reading.0))
}

/// Keeps what was found, in place of what was found longest ago; nothing if the project has no such file any more.
pub async fn keep(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    sha256: &[u8; 32],
    question: &[u8; 32],
    reader: i32,
    reading: &Reading,
) -> Result<()> {
    sqlx::query!(
        r#"
        with kept as (
            insert into readings (project_id, sha256, question, reader, reading)
            select $1, $2, $3, $4, $5
            where exists (
                select from files
                where project_id = $1 and sha256 = $2 and deleted_at is null
                  and (expires_at is null or expires_at > now())
            )
            on conflict (project_id, sha256, question)
            do update set reader = excluded.reader, reading = excluded.reading, kept_at = now()
        )
        delete from readings
        where project_id = $1 and sha256 = $2 and question in (
            select question from readings
            where project_id = $1 and sha256 = $2 and question <> $3
            order by kept_at desc offset $6::bigint - 1
        )
        "#,
        project.0,
        &sha256[..],
        &question[..],
        reader,
        to_json(reading)?,
        MOST_READINGS
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets what was found in a file that was deleted or has expired, unless the project has the same bytes once more.
pub async fn forget(db: impl PgExecutor<'_>, file: FileId) -> Result<()> {
    sqlx::query!(
        r#"
        delete from readings r using files f
        where f.id = $1 and r.project_id = f.project_id and r.sha256 = f.sha256
          and not exists (
            select from files other
            where other.project_id = f.project_id and other.sha256 = f.sha256 and other.id <> f.id
              and other.deleted_at is null and (other.expires_at is null or other.expires_at > now())
          )
        "#,
        file.0
    )
    .execute(db)
    .await?;
    Ok(())
}
