//! Where bytes live: uploads, models, checkpoints, results. Objects are written once under keys that are never used
//! again; which of them count is for the database to say. A store is never asked to decide anything: not all of them
//! can, and PostgreSQL does.

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
use crate::domain::error::{Error, ErrorKind, is_storage_full};

/// How much is read and sent at a time.
const CHUNK: usize = 256 << 10;

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

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
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
    /// The store at a location.
    ///
    /// # Errors
    /// The folder cannot be made, or the bucket is not described well enough. Nothing is sent to a bucket yet.
    pub fn open(location: &StoreLocation) -> Result<Self> {
        match location {
            StoreLocation::Folder(root) => LocalStore::open(root)
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
    pub async fn fetch(&self, key: &str, sha256: [u8; 32], to: &Path) -> Result<()> {
        check_key(key)?;
        let found = match self {
            Self::Local(store) => store.fetch(key, to).await?,
            Self::S3(store) => store.fetch(key, to).await?,
        };
        if found.sha256 == sha256 {
            return Ok(());
        }
        let _ = tokio::fs::remove_file(to).await;
        Err(StoreError::Corrupt { key: key.to_owned() })
    }

    /// A file to read the object from: its own, or a checked copy in the folder `scratch`.
    ///
    /// # Errors
    /// The object is missing or damaged, or the copy cannot be written.
    pub async fn open_file(&self, key: &str, sha256: [u8; 32], scratch: &Path) -> Result<Opened> {
        check_key(key)?;
        match self {
            Self::Local(store) => Ok(Opened { path: store.path(key), is_copy: false }),
            Self::S3(_) => {
                let path = scratch.join(uuid::Uuid::new_v4().simple().to_string());
                let opened = Opened { path, is_copy: true };
                self.fetch(key, sha256, opened.path()).await?;
                Ok(opened)
            }
        }
    }

    /// The bytes of an object from `start`, `length` of them, as a stream.
    ///
    /// # Errors
    /// The object is missing or cannot be opened.
    pub async fn read(&self, key: &str, start: u64, length: u64) -> Result<BoxStream<'static, io::Result<Bytes>>> {
        check_key(key)?;
        match self {
            Self::Local(store) => store.read(key, start, length).await,
            Self::S3(store) => store.read(key, start, length).await,
        }
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
