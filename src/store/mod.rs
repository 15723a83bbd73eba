//! Where bytes live: uploads, models, checkpoints, results. Objects are written once under keys that are never used
//! again; which of them count is for the database to say. A store is never asked to decide anything: not all of them
//! can, and PostgreSQL does.

mod checked;
mod local;
mod s3;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use sha2::{Digest, Sha256};

pub use local::LocalStore;
pub use s3::S3Store;

use crate::config::StoreLocation;
use crate::disk::Reserve;
use crate::domain::error::{Error, ErrorKind, is_storage_full};

/// How much is read and sent at a time.
const CHUNK: usize = 256 << 10;

/// The object that says whose a store is.
pub const ID_KEY: &str = "store-id";
/// What is read of it, in bytes.
const ID_BYTES: usize = 100;

/// An object could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("object {key} does not exist")]
    NotFound { key: String },
    #[error("object {key} has other bytes than were stored")]
    Corrupt { key: String },
    #[error("object key {key:?} is malformed")]
    Key { key: String },
    #[error("object {key}: {source}")]
    Io { key: String, source: io::Error },
    #[error("object {key}: {source}")]
    Unavailable { key: String, source: object_store::Error },
    #[error("the object store cannot be used: {0}")]
    Location(String),
}

impl StoreError {
    /// Whether the object itself is missing or damaged, so that trying again does not help.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Corrupt { .. })
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
            error if error.is_damage() => {
                Self::new(ErrorKind::Damaged, "What was stored is missing or damaged.").code("damaged")
            }
            StoreError::Io { source, .. } if is_storage_full(source) => out_of_storage(error),
            StoreError::Unavailable { .. } => Self::unavailable(error),
            _ => Self::internal(error),
        }
    }
}

/// The error for callers whose data did not fit.
pub fn out_of_storage(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = "The service has no room left to store this. Nothing was kept.";
    Error::new(ErrorKind::OutOfStorage, message).source(source)
}

/// What was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub bytes: u64,
    pub sha256: [u8; 32],
}

impl Stored {
    /// Fails unless this is what was found under `key`.
    fn compare(self, key: &str, found: Self) -> Result<()> {
        if found == self { Ok(()) } else { Err(StoreError::Corrupt { key: key.to_owned() }) }
    }

    /// The same of the size alone, which is known before anything is read.
    fn compare_size(self, key: &str, bytes: u64) -> Result<()> {
        self.compare(key, Self { bytes, ..self })
    }
}

/// An object's bytes, or a part of them.
pub type Content = BoxStream<'static, Result<Bytes>>;

/// An object that a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub modified: SystemTime,
}

/// A file with an object's bytes; a copy that was made for it is gone when this is dropped.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    is_copy: bool,
}

impl Opened {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.is_copy {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The object store of a service.
#[derive(Clone, Debug)]
pub enum Store {
    Local(LocalStore),
    S3(S3Store),
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// The store at a location. In a folder it leaves the `reserve` free.
    ///
    /// # Errors
    /// The folder cannot be made, or the bucket is not described well enough. Nothing is sent to a bucket yet.
    pub fn open(location: &StoreLocation, reserve: Reserve) -> Result<Self> {
        match location {
            StoreLocation::Folder(root) => LocalStore::open(root, reserve)
                .map(Self::Local)
                .map_err(|error| StoreError::Location(format!("{}: {error}", root.display()))),
            StoreLocation::S3 { url, options } => S3Store::open(url, options).map(Self::S3),
        }
    }

    /// Stores the file at `from`, which is ours, synced, and does not change any more, as `key`. Storing the same bytes
    /// again does no harm.
    ///
    /// # Errors
    /// The object cannot be written.
    pub async fn put(&self, key: &str, from: &Path) -> Result<()> {
        check_key(key)?;
        match self {
            Self::Local(store) => store.put(key, from).await,
            Self::S3(store) => store.put_path(key, from).await.map(drop),
        }
    }

    /// Stores what an open file holds now. Its maker, who may change it later, does not change the object.
    ///
    /// # Errors
    /// The file cannot be read, or the object cannot be written.
    pub async fn put_open(&self, key: &str, from: File) -> Result<Stored> {
        check_key(key)?;
        match self {
            Self::Local(store) => store.put_open(key, from).await,
            Self::S3(store) => store.put(key, from.into()).await,
        }
    }

    /// Stores a copy of a file that is not ours.
    ///
    /// # Errors
    /// The file cannot be read, or the object cannot be written.
    pub async fn put_copy(&self, key: &str, from: &Path) -> Result<Stored> {
        check_key(key)?;
        match self {
            Self::Local(store) => store.put_copy(key, from).await,
            Self::S3(store) => store.put_path(key, from).await,
        }
    }

    /// Puts the object's bytes into the file `to`, and checks that they are what was stored.
    ///
    /// # Errors
    /// The object is missing or damaged, or the file cannot be written.
    pub async fn fetch(&self, key: &str, stored: Stored, to: &Path) -> Result<()> {
        check_key(key)?;
        let found = match self {
            Self::Local(store) => {
                stored.compare_size(key, store.size(key).await?)?;
                store.fetch(key, to).await?
            }
            Self::S3(store) => store.fetch(key, to).await?,
        };
        let compared = stored.compare(key, found);
        if compared.is_err() {
            let _ = tokio::fs::remove_file(to).await;
        }
        compared
    }

    /// A checked file to read the object from: its own, or a copy in the folder `scratch`.
    ///
    /// # Errors
    /// The object is missing or damaged, or the copy cannot be written.
    pub async fn open_file(&self, key: &str, stored: Stored, scratch: &Path) -> Result<Opened> {
        check_key(key)?;
        match self {
            Self::Local(store) => {
                store.verify(key, stored).await?;
                Ok(Opened { path: store.path(key), is_copy: false })
            }
            Self::S3(_) => {
                let path = scratch.join(uuid::Uuid::new_v4().simple().to_string());
                let opened = Opened { path, is_copy: true };
                self.fetch(key, stored, opened.path()).await?;
                Ok(opened)
            }
        }
    }

    /// Whether [`Self::open_file`] makes copies.
    pub fn opens_copies(&self) -> bool {
        matches!(self, Self::S3(_))
    }

    /// The whole object. Its last chunk comes only if all of it is what was stored, so damaged bytes never look whole.
    ///
    /// # Errors
    /// The object is missing, of another size, or cannot be opened; within the stream, that it is damaged.
    pub async fn read(&self, key: &str, stored: Stored) -> Result<Content> {
        self.check_size(key, stored).await?;
        let content = self.content(key, 0, stored.bytes).await?;
        Ok(checked::checked(content, key, stored))
    }

    /// `length` bytes of an object from `start`. A part has no hash of its own: an object on a disk is read once as a
    /// whole to check it, and again only after a while or once its file was touched. A bucket guards its objects by
    /// checksums of its own, and reading all of one for each part would cost its owner: only the size is checked.
    ///
    /// # Errors
    /// The object is missing or damaged, or cannot be opened.
    pub async fn read_part(&self, key: &str, stored: Stored, start: u64, length: u64) -> Result<Content> {
        match self {
            Self::Local(store) => {
                check_key(key)?;
                store.verify_lately(key, stored).await?;
            }
            Self::S3(_) => self.check_size(key, stored).await?,
        }
        self.content(key, start, length).await
    }

    async fn content(&self, key: &str, start: u64, length: u64) -> Result<Content> {
        match self {
            Self::Local(store) => store.read(key, start, length).await,
            Self::S3(store) => store.read(key, start, length).await,
        }
    }

    /// Whether the object is there with the size that was stored.
    ///
    /// # Errors
    /// It is not, or the store is away.
    pub async fn check_size(&self, key: &str, stored: Stored) -> Result<()> {
        check_key(key)?;
        let found = match self {
            Self::Local(store) => store.size(key).await?,
            Self::S3(store) => store.size(key).await?,
        };
        stored.compare_size(key, found)
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The object cannot be removed.
    pub async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        match self {
            Self::Local(store) => store.delete(key).await,
            Self::S3(store) => store.delete(key).await,
        }
    }

    /// All objects whose keys start with `prefix`, which ends in a slash.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        match self {
            Self::Local(store) => store.list(prefix).await,
            Self::S3(store) => store.list(prefix).await,
        }
    }

    /// What the store says of whose it is; None if it says nothing.
    ///
    /// # Errors
    /// The store is away.
    pub async fn id(&self) -> Result<Option<String>> {
        match self {
            Self::Local(store) => store.id().await,
            Self::S3(store) => store.id().await,
        }
    }

    /// Lets the store say so. A folder that says something already goes on saying that; a bucket cannot be asked to.
    ///
    /// # Errors
    /// The object cannot be written.
    pub async fn set_id(&self, id: &str) -> Result<()> {
        match self {
            Self::Local(store) => store.set_id(id).await,
            Self::S3(store) => store.set_id(id).await,
        }
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<()> {
        match self {
            Self::Local(store) => store.check().await,
            Self::S3(store) => store.check().await,
        }
    }
}

/// Keys are plain paths that lead nowhere else.
fn check_key(key: &str) -> Result<()> {
    let plain = |segment: &str| !matches!(segment, "" | "." | "..");
    if key.split('/').all(plain) && !key.contains('\0') { Ok(()) } else { Err(StoreError::Key { key: key.to_owned() }) }
}

/// What a store's own object says.
fn id_in(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// The size and hash of a file that is not in the store.
///
/// # Errors
/// The file cannot be read.
pub async fn hash_file(path: &Path) -> Result<Stored> {
    let file = path.to_owned();
    let hashed =
        tokio::task::spawn_blocking(move || hash(&file)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    hashed.map_err(|source| StoreError::Io { key: path.display().to_string(), source })
}

fn hash(path: &Path) -> io::Result<Stored> {
    hash_of(File::open(path)?, |_| Ok(()))
}

/// Reads to the end, and hands on what it read.
fn hash_of(mut from: impl io::Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Stored> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(Stored { bytes, sha256: hasher.finalize().into() });
        }
        hasher.update(&buffer[..read]);
        each(&buffer[..read])?;
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::check_key;

    #[test]
    fn keys_cannot_leave_the_store() {
        for key in ["", "../x", "/etc/passwd", "a/../../x", "a/./b", "a\0b", "a//b"] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        assert!(check_key("jobs/1/model/config.json").is_ok());
    }
}
