//! Uploads in parts.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{files, hash32, interval, known, signed, storable, unsigned};
use crate::db::Connection;
use crate::domain::error::Result;
use crate::domain::id::{FileId, PartId, ProjectId, UploadId};
use crate::domain::page::{Order, Page, PageRequest};
use crate::domain::upload::{PATIENCE, Part, Upload, UploadStatus};

struct PartRow {
    id: Uuid,
    upload_id: Uuid,
    bytes: i64,
    sha256: Vec<u8>,
    object_key: String,
    created_at: OffsetDateTime,
}

impl TryFrom<PartRow> for Part {
    type Error = crate::domain::error::Error;

    fn try_from(row: PartRow) -> Result<Self> {
        Ok(Self {
            id: PartId(row.id),
            upload: UploadId(row.upload_id),
            bytes: unsigned(row.bytes),
            sha256: hash32(&row.sha256)?,
            object_key: row.object_key,
            created_at: row.created_at,
        })
    }
}

/// Records a new upload.
pub async fn insert(db: impl PgExecutor<'_>, upload: &Upload) -> Result<()> {
    sqlx::query!(
        r#"
        insert into uploads (id, project_id, purpose, filename, mime_type, bytes, expires_after, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        upload.id.0,
        upload.project.0,
        upload.purpose.as_str(),
        storable(&upload.filename),
        storable(&upload.mime_type),
        signed(upload.bytes),
        upload.expires_after,
        upload.created_at,
        upload.expires_at
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A project's upload, with its file if it has become one.
pub async fn find(db: &mut Connection, project: ProjectId, id: UploadId) -> Result<Option<Upload>> {
    let row = sqlx::query!(
        r#"
        select purpose, filename, mime_type, bytes, expires_after, created_at, expires_at, file_id,
               case when status = 'pending' and expires_at <= now() then 'expired' else status end as "status!"
        from uploads where id = $1 and project_id = $2
        "#,
        id.0,
        project.0
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let file = match row.file_id {
        Some(file) => files::find(db, project, FileId(file)).await?,
        None => None,
    };
    Ok(Some(Upload {
        id,
        project,
        purpose: known("file purpose", &row.purpose)?,
        filename: row.filename,
        mime_type: row.mime_type,
        bytes: unsigned(row.bytes),
        expires_after: row.expires_after,
        status: known("status of uploads", &row.status)?,
        created_at: row.created_at,
        expires_at: row.expires_at,
        file,
    }))
}

/// Adds a part to an upload that waits for parts, and gives it time for the next one; false if it does not wait any more.
pub async fn add_part(db: &mut Connection, part: &Part) -> Result<bool> {
    let waits = sqlx::query!(
        r#"
        update uploads set expires_at = greatest(expires_at, now() + $2)
        where id = $1 and status = 'pending' and expires_at > now()
        "#,
        part.upload.0,
        interval(PATIENCE)
    )
    .execute(&mut *db)
    .await?;
    if waits.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "insert into upload_parts (id, upload_id, bytes, sha256, object_key, created_at) values ($1, $2, $3, $4, $5, $6)",
        part.id.0,
        part.upload.0,
        signed(part.bytes),
        &part.sha256[..],
        part.object_key,
        part.created_at
    )
    .execute(db)
    .await?;
    Ok(true)
}

/// How many parts an upload has.
pub async fn count_parts(db: impl PgExecutor<'_>, upload: UploadId) -> Result<u64> {
    let row = sqlx::query!(r#"select count(*) as "count!" from upload_parts where upload_id = $1"#, upload.0);
    Ok(unsigned(row.fetch_one(db).await?.count))
}

macro_rules! select_page {
    ($behind:literal, $order:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            PartRow,
            r#"
            select id, upload_id, bytes, sha256, object_key, created_at from upload_parts
            where upload_id = $1 and id "# + $behind + " $2 order by id " + $order + " limit $3",
            $($argument),*
        )
    };
}

/// One page of an upload's parts.
pub async fn list_parts(db: impl PgExecutor<'_>, upload: UploadId, page: PageRequest<PartId>) -> Result<Page<Part>> {
    let after = page.after.map(|id| id.0);
    // Each order is a query of its own, since each goes along the index.
    let rows = match page.order {
        Order::Ascending => {
            select_page!(">", "asc", upload.0, after.unwrap_or(Uuid::nil()), page.rows()).fetch_all(db).await?
        }
        Order::Descending => {
            select_page!("<", "desc", upload.0, after.unwrap_or(Uuid::max()), page.rows()).fetch_all(db).await?
        }
    };
    let parts = rows.into_iter().map(Part::try_from).collect::<Result<Vec<_>>>()?;
    Ok(Page::from_rows(parts, page.limit))
}

/// Those of `ids` that are parts of an upload.
pub async fn parts(db: impl PgExecutor<'_>, upload: UploadId, ids: &[PartId]) -> Result<Vec<Part>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query_as!(
        PartRow,
        r#"
        select id, upload_id, bytes, sha256, object_key, created_at from upload_parts
        where upload_id = $1 and id = any($2)
        "#,
        upload.0,
        &ids
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Part::try_from).collect()
}

/// Ends an upload that waits for parts; false if it does not wait any more.
pub async fn end(db: impl PgExecutor<'_>, id: UploadId, status: UploadStatus, file: Option<FileId>) -> Result<bool> {
    let done = sqlx::query!(
        r#"
        update uploads set status = $2, file_id = $3
        where id = $1 and status = 'pending' and (expires_at > now() or $2 = 'completed')
        "#,
        id.0,
        status.as_str(),
        file.map(|file| file.0)
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Parts that nothing needs any more, for their uploads have ended: id and object key.
pub async fn parts_to_sweep(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<(PartId, String)>> {
    let rows = sqlx::query!(
        r#"
        with late as (
            update uploads set status = 'expired' where status = 'pending' and expires_at <= now()
        )
        select p.id, p.object_key from upload_parts p join uploads u on u.id = p.upload_id
        where u.status <> 'pending' or u.expires_at <= now() limit $1
        "#,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (PartId(row.id), row.object_key)).collect())
}

/// Forgets a part whose bytes are gone.
pub async fn forget_part(db: impl PgExecutor<'_>, id: PartId) -> Result<()> {
    sqlx::query!("delete from upload_parts where id = $1", id.0).execute(db).await?;
    Ok(())
}
