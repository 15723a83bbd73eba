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

/// What a caller knows of a file: whose it is, and its id.
pub type FileKey = (ProjectId, FileId);

/// Those of these files that there are, but for deleted and expired ones.
pub async fn find_all(db: impl PgExecutor<'_>, keys: &[FileKey]) -> Result<Vec<File>> {
    let (projects, ids): (Vec<Uuid>, Vec<Uuid>) = keys.iter().map(|(project, id)| (project.0, id.0)).unzip();
    let rows = sqlx::query_as!(
        Row,
        r#"
        select f.id, f.project_id, f.purpose, f.filename, f.bytes, f.sha256, f.object_key,
               f.report as "report: Json<FileReport>", f.created_at, f.expires_at
        from unnest($1::uuid[], $2::uuid[]) as asked (project_id, id)
        join files f on f.id = asked.id and f.project_id = asked.project_id
        where f.deleted_at is null and (f.expires_at is null or f.expires_at > now())
        "#,
        &projects,
        &ids
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(File::try_from).collect()
}

/// A project's file, unless it is deleted or expired.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId, id: FileId) -> Result<Option<File>> {
    Ok(find_all(db, &[(project, id)]).await?.pop())
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

/// A page of files, in one order, of one purpose or of any.
macro_rules! select_page {
    ($purpose:literal, $behind:literal, $order:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
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
              and id "# + $behind + " $2 " + $purpose + " order by id " + $order + " limit $3",
            $($argument),*
        )
    };
}

/// One page of a project's files. Of their reports there is what says whether a file can be read, and the first faults.
pub async fn list(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    purpose: Option<FilePurpose>,
    page: PageRequest<FileId>,
) -> Result<Page<File>> {
    let (after, rows) = (page.after.map(|id| id.0), page.rows());
    // Each order is a query of its own, since each goes along the index; and each purpose has a stretch of another one.
    macro_rules! page {
        ($behind:literal, $order:literal, $none:expr) => {{
            let after = after.unwrap_or($none);
            match purpose.map(FilePurpose::as_str) {
                None => {
                    let rows = select_page!("", $behind, $order, project.0, after, rows).fetch(db);
                    pages::collect(rows, page.limit, Row::text_bytes, File::try_from).await
                }
                Some(purpose) => {
                    let rows =
                        select_page!("and purpose = $4", $behind, $order, project.0, after, rows, purpose).fetch(db);
                    pages::collect(rows, page.limit, Row::text_bytes, File::try_from).await
                }
            }
        }};
    }
    match page.order {
        Order::Ascending => page!(">", "asc", Uuid::nil()),
        Order::Descending => page!("<", "desc", Uuid::max()),
    }
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
        select id as "id!", object_key as "object_key!"
        from (
            select id, object_key from files where swept_at is null and deleted_at is not null
            union all
            select id, object_key from files where swept_at is null and deleted_at is null and expires_at < now()
        ) f
        where not exists (
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
