//! Files.

use sqlx::PgExecutor;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{hash32, known, pages, signed, to_json, unsigned};
use crate::domain::error::{Error, Result};
use crate::domain::file::{File, FilePurpose};
use crate::domain::id::{FileId, ProjectId};
use crate::domain::page::{Order, Page, PageRequest};
use crate::domain::report::FileReport;

struct Row {
    id: Uuid,
    project_id: Uuid,
    purpose: String,
    filename: String,
    bytes: i64,
    sha256: Vec<u8>,
    object_key: String,
    report: Option<Json<FileReport>>,
    created_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
}

impl Row {
    /// Bytes of what people wrote: its name, and the faults that are listed.
    fn text_bytes(&self) -> i64 {
        let faults = self.report.iter().flat_map(|Json(report)| &report.faults.listed);
        (self.filename.len() + faults.map(|fault| fault.message.len()).sum::<usize>()) as i64
    }
}

impl TryFrom<Row> for File {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: FileId(row.id),
            project: ProjectId(row.project_id),
            purpose: known("file purpose", &row.purpose)?,
            filename: row.filename,
            bytes: unsigned(row.bytes),
            sha256: hash32(&row.sha256)?,
            object_key: row.object_key,
            report: row.report.map(|Json(report)| report),
            created_at: row.created_at,
            expires_at: row.expires_at,
        })
    }
}

/// Records a file whose bytes are stored.
pub async fn insert(db: impl PgExecutor<'_>, file: &File) -> Result<()> {
    let report = file.report.as_ref().map(to_json).transpose()?;
    sqlx::query!(
        r#"
        insert into files (id, project_id, purpose, filename, bytes, sha256, object_key, report, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        "#,
        file.id.0,
        file.project.0,
        file.purpose.as_str(),
        file.filename,
        signed(file.bytes),
        &file.sha256[..],
        file.object_key,
        report,
        file.created_at,
        file.expires_at
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A project's file, unless it is deleted or expired.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId, id: FileId) -> Result<Option<File>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id, project_id, purpose, filename, bytes, sha256, object_key,
               report as "report: Json<FileReport>", created_at, expires_at
        from files
        where id = $1 and project_id = $2 and deleted_at is null and (expires_at is null or expires_at > now())
        "#,
        id.0,
        project.0
    )
    .fetch_optional(db)
    .await?;
    row.map(File::try_from).transpose()
}

/// A file that a job of the project names, even if it was deleted since.
pub async fn find_for_job(db: impl PgExecutor<'_>, project: ProjectId, id: FileId) -> Result<Option<File>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id, project_id, purpose, filename, bytes, sha256, object_key,
               report as "report: Json<FileReport>", created_at, expires_at
        from files where id = $1 and project_id = $2 and swept_at is null
        "#,
        id.0,
        project.0
    )
    .fetch_optional(db)
    .await?;
    row.map(File::try_from).transpose()
}

/// One page of a project's files. Of their reports there is what says whether a file can be read, and the first faults.
pub async fn list(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    purpose: Option<FilePurpose>,
    page: PageRequest<FileId>,
) -> Result<Page<File>> {
    let ascending = page.order == Order::Ascending;
    let rows = sqlx::query_as!(
        Row,
        r#"
        select id, project_id, purpose, filename, bytes, sha256, object_key,
               case when report is not null then jsonb_build_object(
                   'format', report -> 'format', 'rows', report -> 'rows',
                   'faults', jsonb_build_object(
                       'count', report -> 'faults' -> 'count',
                       'listed', jsonb_path_query_array(report -> 'faults' -> 'listed', '$[0 to 2]')
                   )
               ) end as "report: Json<FileReport>", created_at, expires_at
        from files
        where project_id = $1 and deleted_at is null and (expires_at is null or expires_at > now())
          and ($2::text is null or purpose = $2)
          and ($3::uuid is null or case when $4 then id > $3 else id < $3 end)
        order by case when $4 then id end asc, case when not $4 then id end desc
        limit $5
        "#,
        project.0,
        purpose.map(FilePurpose::as_str),
        page.after.map(|id| id.0),
        ascending,
        page.rows()
    )
    .fetch(db);
    pages::collect(rows, page.limit, Row::text_bytes, File::try_from).await
}

/// Makes a file invisible; false if there is none.
pub async fn delete(db: impl PgExecutor<'_>, project: ProjectId, id: FileId) -> Result<bool> {
    let done = sqlx::query!(
        r#"
        update files set deleted_at = now()
        where id = $1 and project_id = $2 and deleted_at is null and (expires_at is null or expires_at > now())
        "#,
        id.0,
        project.0
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Deleted and expired files whose bytes no active job needs: id and object key.
pub async fn to_sweep(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<(FileId, String)>> {
    let rows = sqlx::query!(
        r#"
        select id, object_key from files f
        where swept_at is null and (deleted_at is not null or expires_at < now())
          and not exists (
            select from jobs j
            where j.status in ('validating_files', 'queued', 'running', 'paused')
              and f.id in (j.training_file_id, j.validation_file_id, j.test_file_id)
          )
        order by id limit $1
        "#,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (FileId(row.id), row.object_key)).collect())
}

/// Records that a file's bytes are gone from the store.
pub async fn mark_swept(db: impl PgExecutor<'_>, id: FileId) -> Result<()> {
    sqlx::query!("update files set swept_at = now(), deleted_at = coalesce(deleted_at, now()) where id = $1", id.0)
        .execute(db)
        .await?;
    Ok(())
}
