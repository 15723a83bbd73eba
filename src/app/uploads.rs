//! Uploads in parts: beginning, adding, putting together.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use md5::{Digest, Md5};

use super::App;
use super::files::{self, Limit, NewFile, Spool, check_expiry, clean_filename};
use super::objects::Object;
use super::quotas::{self, Headroom};
use crate::db::{self, uploads};
use crate::domain::Timestamp;
use crate::domain::clip::clipped;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::file::File;
use crate::domain::hex::hex;
use crate::domain::id::{PartId, ProjectId, UploadId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::upload::{MAX_PART_BYTES, MAX_PARTS, PATIENCE, Part, Upload, UploadStatus};

/// What a client says of an upload before it begins.
pub struct NewUpload {
    /// The file that it will be.
    pub file: NewFile,
    pub mime_type: String,
    pub bytes: u64,
}

/// How an upload is put together.
pub struct Completion {
    /// Its parts in the order of the file.
    pub parts: Vec<PartId>,
    /// The hash that the file must have.
    pub md5: Option<[u8; 16]>,
}

/// Begins an upload.
///
/// # Errors
/// What is said about it is not allowed, or the project has no room for it.
pub async fn create(app: &App, project: ProjectId, new: NewUpload) -> Result<Upload> {
    let most = app.config.max_upload_bytes;
    if !(1..=most).contains(&new.bytes) {
        let message = format!("Invalid value for 'bytes': {}. Allowed: 1 to {most}.", new.bytes);
        return Err(Error::invalid("bytes", message));
    }
    let created_at = Timestamp::now_utc();
    let upload = Upload {
        id: UploadId::new(),
        project,
        purpose: new.file.purpose,
        filename: clean_filename(&new.file.filename),
        mime_type: new.mime_type,
        bytes: new.bytes,
        expires_after: new.file.expires_after.map(check_expiry).transpose()?,
        status: UploadStatus::Pending,
        created_at,
        expires_at: created_at + PATIENCE,
        file: None,
    };
    files::check_room(app, project, new.bytes).await?;
    let mut tx = app.db.begin().await?;
    quotas::admit_file(app, tx.connection(), project, new.bytes).await?;
    uploads::insert(&mut *tx.connection(), &upload).await?;
    tx.commit().await?;
    Ok(upload)
}

/// A project's upload.
///
/// # Errors
/// There is none of that id.
pub async fn get(app: &App, project: ProjectId, id: &str) -> Result<Upload> {
    let found = match id.parse() {
        Ok(id) => uploads::find(&mut *app.db.connection().await?, project, id).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("No such Upload object: {}", clipped(id))).param("upload_id")
    })
}

/// An upload that waits for parts, and what of its project a part may take.
///
/// # Errors
/// There is none of that id, it does not wait any more, or the project has no room.
pub async fn open(app: &App, project: ProjectId, id: &str, bytes: u64) -> Result<(Upload, Headroom)> {
    let upload = waiting(get(app, project, id).await?)?;
    Ok((upload, files::check_room(app, project, bytes).await?))
}

/// The most bytes of a part.
pub const PART_LIMIT: Limit = Limit { bytes: MAX_PART_BYTES, param: "data" };

/// Adds a part to an upload.
///
/// # Errors
/// It is empty or one too many, the upload does not wait any more, or the project has no room.
pub async fn add_part(app: &App, upload: &Upload, mut spool: Spool) -> Result<Part> {
    if spool.bytes() == 0 {
        return Err(Error::invalid("data", "The part is empty.").code("empty_file"));
    }
    if uploads::count_parts(app.db.pool(), upload.id).await? >= MAX_PARTS {
        return Err(Error::invalid("data", format!("An upload has at most {MAX_PARTS} parts; send larger ones.")));
    }
    let id = PartId::new();
    let object_key = format!("uploads/{}/{}", upload.id.0.simple(), id.0.simple());
    let (bytes, sha256) = (spool.bytes(), spool.store(app, &object_key).await?);
    let part = Part { id, upload: upload.id, bytes, sha256, object_key, created_at: Timestamp::now_utc() };
    if let Err(error) = record_part(app, upload, &part).await {
        let _ = app.store.delete(&part.object_key).await;
        return Err(error);
    }
    Ok(part)
}

async fn record_part(app: &App, upload: &Upload, part: &Part) -> Result<()> {
    let mut tx = app.db.begin().await?;
    quotas::admit_part(app, tx.connection(), upload.project, part.bytes).await?;
    if !uploads::add_part(tx.connection(), part).await? {
        drop(tx);
        return Err(get(app, upload.project, &upload.id.to_string())
            .await
            .map_or_else(|error| error, |now| over(&now)));
    }
    tx.commit().await
}

/// One page of an upload's parts, so that a client can go on with an upload that it lost sight of.
///
/// # Errors
/// There is no upload of that id.
pub async fn list_parts(app: &App, project: ProjectId, id: &str, page: PageRequest<PartId>) -> Result<Page<Part>> {
    let upload = get(app, project, id).await?;
    uploads::list_parts(app.db.pool(), upload.id, page).await
}

/// Makes a file of an upload's parts. One that is complete is answered as it is.
///
/// # Errors
/// It was cancelled or has expired, a part is not its own or named twice, or the parts are not what was announced.
pub async fn complete(app: &App, project: ProjectId, id: &str, wanted: Completion) -> Result<Upload> {
    let upload = get(app, project, id).await?;
    if upload.status == UploadStatus::Completed {
        return Ok(upload);
    }
    let upload = waiting(upload)?;
    let parts = chosen(app, &upload, &wanted.parts).await?;
    let spool = joined(app, &upload, &parts, wanted.md5).await?;
    let new =
        NewFile { purpose: upload.purpose, filename: upload.filename.clone(), expires_after: upload.expires_after };
    let file = files::store(app, project, spool, new).await?;
    let recorded = record(app, &upload, &file).await;
    if !matches!(recorded, Ok(true)) {
        let _ = app.store.delete(&file.object_key).await;
    }
    recorded?;
    let now = get(app, project, id).await?;
    if now.status == UploadStatus::Completed { Ok(now) } else { Err(over(&now)) }
}

/// The parts of these ids, in their order.
async fn chosen(app: &App, upload: &Upload, ids: &[PartId]) -> Result<Vec<Part>> {
    let found = uploads::parts(app.db.pool(), upload.id, ids).await?;
    let mut found: HashMap<PartId, Part> = found.into_iter().map(|part| (part.id, part)).collect();
    let take = |(place, id): (usize, &PartId)| {
        found.remove(id).ok_or_else(|| {
            let message = format!("'part_ids[{place}]', {id}, is no part of {}, or is named twice.", upload.id);
            Error::invalid(format!("part_ids[{place}]"), message)
        })
    };
    let parts = ids.iter().enumerate().map(take).collect::<Result<Vec<_>>>()?;
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    if bytes == upload.bytes {
        return Ok(parts);
    }
    let message = format!("The parts have {bytes} bytes together, and {} were announced.", upload.bytes);
    Err(Error::invalid("part_ids", message).code("bytes_mismatch"))
}

/// The bytes of these parts, one after the other, read and written a piece at a time.
async fn joined(app: &App, upload: &Upload, parts: &[Part], md5: Option<[u8; 16]>) -> Result<Spool> {
    app.config.reserve.check(&app.scratch(), upload.bytes).map_err(files::write_failed)?;
    // The parts count already, and the file takes their place.
    let limit = Limit { bytes: upload.bytes, param: "part_ids" };
    let mut spool = Spool::new(app, upload.project, limit, Headroom::unlimited()).await?;
    let mut hasher = md5.map(|_| Md5::new());
    for part in parts {
        let mut content = Object::of_part(part).stream(app, None).await?;
        while let Some(chunk) = content.try_next().await? {
            if let Some(hasher) = &mut hasher {
                hasher.update(&chunk);
            }
            spool.write(&chunk).await?;
        }
    }
    let found: Option<[u8; 16]> = hasher.map(|hasher| hasher.finalize().into());
    match (found, md5) {
        (Some(found), Some(wanted)) if found != wanted => {
            let message = format!("The file's MD5 is {}, not the one that was given.", hex(&found));
            Err(Error::invalid("md5", message).code("md5_mismatch"))
        }
        _ => Ok(spool),
    }
}

/// Records the file of an upload; false if the upload has ended meanwhile.
async fn record(app: &App, upload: &Upload, file: &File) -> Result<bool> {
    let mut tx = app.db.begin().await?;
    // It takes the place of its parts, so no quota is asked.
    db::files::insert(&mut *tx.connection(), file).await?;
    if !uploads::end(&mut *tx.connection(), upload.id, UploadStatus::Completed, Some(file.id)).await? {
        return Ok(false);
    }
    // So that the parts' bytes go soon.
    db::hint(&mut *tx.connection(), None).await?;
    tx.commit().await?;
    Ok(true)
}

/// Ends an upload without a file.
///
/// # Errors
/// It is complete or has expired.
pub async fn cancel(app: &App, project: ProjectId, id: &str) -> Result<Upload> {
    let upload = get(app, project, id).await?;
    let mut tx = app.db.begin().await?;
    uploads::end(&mut *tx.connection(), upload.id, UploadStatus::Cancelled, None).await?;
    db::hint(&mut *tx.connection(), None).await?;
    tx.commit().await?;
    let now = get(app, project, id).await?;
    if now.status == UploadStatus::Cancelled { Ok(now) } else { Err(over(&now)) }
}

fn waiting(upload: Upload) -> Result<Upload> {
    if upload.status == UploadStatus::Pending { Ok(upload) } else { Err(over(&upload)) }
}

fn over(upload: &Upload) -> Error {
    let message = format!("The upload {} is {} and takes no more.", upload.id, upload.status);
    Error::invalid("upload_id", message).code("invalid_state")
}
