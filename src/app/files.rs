//! Files: uploading, reading, deleting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::App;
use super::quotas::{self, Headroom};
use super::tally::Share;
use crate::dataset::inspect;
use crate::db::{self, files, readings};
use crate::disk::Reserve;
use crate::domain::Timestamp;
use crate::domain::clip::clipped;
use crate::domain::error::{Error, ErrorKind, Result, is_storage_full};
use crate::domain::file::{EXPIRY_SECONDS, File, FilePurpose, MAX_FILENAME};
use crate::domain::id::{FileId, ProjectId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::report::FileReport;
use crate::store::out_of_storage;

/// After how many bytes an upload looks again whether there is room.
const LOOK_EVERY: u64 = 1 << 20;

/// An upload on its way in: bytes go to disk as they come, with their hash. Dropped unfinished, it leaves nothing.
pub struct Spool {
    path: PathBuf,
    reserve: Reserve,
    file: tokio::fs::File,
    hasher: Sha256,
    bytes: u64,
    limit: Limit,
    headroom: Headroom,
    /// What of the bytes counts as under way.
    counted: Share,
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The most bytes that an upload may have, and which part of the request they are.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub bytes: u64,
    pub param: &'static str,
}

impl Limit {
    /// Of a file that comes as a whole.
    pub fn of_files(app: &App) -> Self {
        Self { bytes: app.config.max_file_bytes, param: "file" }
    }

    /// What whoever sends more is told.
    pub fn error(self) -> Error {
        let message = format!("The {} is larger than the allowed {} bytes.", self.param, self.bytes);
        Error::new(ErrorKind::TooLarge, message).param(self.param).code("file_too_large")
    }
}

impl Spool {
    /// An empty one, of a project with so much room.
    ///
    /// # Errors
    /// The scratch folder takes no file.
    pub async fn new(app: &App, project: ProjectId, limit: Limit, headroom: Headroom) -> Result<Self> {
        let reserve = app.config.reserve;
        let path = app.scratch().join(uuid::Uuid::new_v4().simple().to_string());
        reserve.check(&path, 0).map_err(write_failed)?;
        let file = tokio::fs::File::create_new(&path).await.map_err(write_failed)?;
        let counted = app.uploading.share(project);
        Ok(Self { path, reserve, file, hasher: Sha256::new(), bytes: 0, limit, headroom, counted })
    }

    /// How many bytes have come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts what has come into the store.
    ///
    /// # Errors
    /// The disk or the store does not take it.
    pub async fn store(&mut self, app: &App, key: &str) -> Result<[u8; 32]> {
        let sha256 = self.finish().await?;
        app.store.put(key, &self.path).await?;
        Ok(sha256)
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// The upload is larger than allowed, or the disk or the project has no room.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<()> {
        let before = self.bytes;
        self.bytes += chunk.len() as u64;
        if self.bytes > self.limit.bytes {
            return Err(self.limit.error());
        }
        if before / LOOK_EVERY != self.bytes / LOOK_EVERY {
            self.reserve.check(&self.path, 0).map_err(write_failed)?;
            let more = self.bytes - self.counted.amount();
            self.counted.grow(more, |under_way| self.headroom.check(under_way, more))?;
        }
        self.hasher.update(chunk);
        self.file.write_all(chunk).await.map_err(write_failed)
    }

    async fn finish(&mut self) -> Result<[u8; 32]> {
        self.file.flush().await.map_err(write_failed)?;
        self.file.sync_all().await.map_err(write_failed)?;
        Ok(std::mem::take(&mut self.hasher).finalize().into())
    }
}

pub(in crate::app) fn write_failed(error: std::io::Error) -> Error {
    if is_storage_full(&error) { out_of_storage(error) } else { Error::internal(error) }
}

/// Whether there is room for an upload of so many bytes, on the disk and in the project: asked before the bytes come.
///
/// # Errors
/// There is not.
pub async fn check_room(app: &App, project: ProjectId, bytes: u64) -> Result<Headroom> {
    app.config.reserve.check(&app.scratch(), bytes).map_err(write_failed)?;
    quotas::check_upload(app, project, bytes).await
}

/// What a client says about a file besides its bytes.
pub struct NewFile {
    pub purpose: FilePurpose,
    pub filename: String,
    /// Seconds from now.
    pub expires_after: Option<i64>,
}

/// Whether a file may be kept for so many seconds.
///
/// # Errors
/// It may not; the error names the field.
pub fn check_expiry(seconds: i64) -> Result<i64> {
    if EXPIRY_SECONDS.contains(&seconds) {
        return Ok(seconds);
    }
    let (min, max) = (EXPIRY_SECONDS.start(), EXPIRY_SECONDS.end());
    let message = format!("Invalid value for 'expires_after[seconds]': {seconds}. Allowed: {min} to {max}.");
    Err(Error::invalid("expires_after[seconds]", message))
}

/// Keeps a complete upload. Files for fine-tuning are read once, and what is wrong with them is in the report.
///
/// # Errors
/// The file is empty, what is said about it is not allowed, or the project has as much as it may.
pub async fn create(app: &App, project: ProjectId, spool: Spool, new: NewFile) -> Result<File> {
    let file = store(app, project, spool, new).await?;
    if let Err(error) = record(app, &file).await {
        let _ = app.store.delete(&file.object_key).await;
        return Err(error);
    }
    Ok(file)
}

/// Puts a complete upload into the store and reads it, and leaves it to the caller to record it.
///
/// # Errors
/// The file is empty, what is said about it is not allowed, or the store does not take it.
pub(in crate::app) async fn store(app: &App, project: ProjectId, mut spool: Spool, new: NewFile) -> Result<File> {
    if spool.bytes == 0 {
        return Err(Error::invalid("file", "The file is empty.").code("empty_file"));
    }
    let created_at = Timestamp::now_utc();
    let expires_after = new.expires_after.map(check_expiry).transpose()?;
    let expires_at = expires_after.map(|seconds| created_at + Duration::from_secs(seconds.unsigned_abs()));
    let filename = clean_filename(&new.filename);
    let sha256 = spool.finish().await?;
    let report = if new.purpose == FilePurpose::FineTune {
        Some(inspect_file(app, project, &spool.path, &filename).await?)
    } else {
        None
    };
    let id = FileId::new();
    let file = File {
        id,
        project,
        purpose: new.purpose,
        filename,
        bytes: spool.bytes,
        sha256,
        object_key: format!("files/{}", id.0.simple()),
        report,
        created_at,
        expires_at,
    };
    app.store.put(&file.object_key, &spool.path).await?;
    metrics::counter!(crate::telemetry::UPLOADED_BYTES).increment(file.bytes);
    Ok(file)
}

async fn record(app: &App, file: &File) -> Result<()> {
    let mut tx = app.db.begin().await?;
    quotas::admit_file(app, tx.connection(), file.project, file.bytes).await?;
    files::insert(&mut *tx.connection(), file).await?;
    tx.commit().await
}

async fn inspect_file(app: &App, project: ProjectId, path: &Path, filename: &str) -> Result<FileReport> {
    let _place = app.reading.enter(project).await?;
    let (path, filename) = (path.to_owned(), filename.to_owned());
    let (bounds, _guard) = app.bounds(project);
    tokio::task::spawn_blocking(move || inspect::inspect(&path, &filename, &bounds))
        .await
        .map_err(Error::internal)?
        .map_err(Error::internal)
}

/// A filename is shown and nothing else: its last segment, without control characters, not too long.
pub(in crate::app) fn clean_filename(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut clean: String = last.chars().filter(|c| !c.is_control()).collect();
    while clean.len() > MAX_FILENAME {
        clean.pop();
    }
    if clean.is_empty() { "upload".to_owned() } else { clean }
}

/// A project's file.
///
/// # Errors
/// There is none of that id.
pub async fn get(app: &App, project: ProjectId, id: &str) -> Result<File> {
    let found = match id.parse() {
        Ok(id) => app.lookups.files.find((project, id)).await?,
        Err(_) => None,
    };
    found.map(Arc::unwrap_or_clone).ok_or_else(|| not_found(id))
}

/// No such file.
pub fn not_found(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such File object: {}", clipped(id))).param("id")
}

/// One page of a project's files.
pub async fn list(
    app: &App,
    project: ProjectId,
    purpose: Option<FilePurpose>,
    page: PageRequest<FileId>,
) -> Result<Page<File>> {
    files::list(app.db.pool(), project, purpose, page).await
}

/// Makes a file invisible at once; its bytes go when no active job needs them.
///
/// # Errors
/// There is none of that id.
pub async fn delete(app: &App, project: ProjectId, id: &str) -> Result<FileId> {
    let file = get(app, project, id).await?;
    let mut tx = app.db.begin().await?;
    if !files::delete(&mut *tx.connection(), project, file.id).await? {
        return Err(not_found(id));
    }
    readings::forget(&mut *tx.connection(), file.id).await?;
    // So that its bytes go soon.
    db::hint(&mut *tx.connection(), None).await?;
    tx.commit().await?;
    Ok(file.id)
}

#[cfg(test)]
mod tests {
    use super::clean_filename;

    #[test]
    fn filenames_are_never_paths() {
        assert_eq!(clean_filename("../../etc/passwd"), "passwd");
        assert_eq!(clean_filename("C:\\data\\train.csv"), "train.csv");
        assert_eq!(clean_filename("a\0b\n.csv"), "ab.csv");
        assert_eq!(clean_filename("/"), "upload");
        assert_eq!(clean_filename(&"ä".repeat(300)).len(), 254);
    }
}
