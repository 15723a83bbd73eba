//! The object store on a local disk: one file per object, durable when `put` returns.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::StoreError;

const CHUNK: usize = 256 << 10;

/// What was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// Objects below a folder.
#[derive(Clone, Debug)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// The store in `root`, which is made if need be.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self { root: root.canonicalize()? })
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        let plain = |segment: &str| !matches!(segment, "" | "." | "..");
        if !key.split('/').all(plain) || key.contains('\0') {
            return Err(StoreError::Key { key: key.to_owned() });
        }
        Ok(self.root.join(key))
    }

    /// Stores the file at `from`, which is ours, synced, and does not change any more, as `key`: by a hard link where
    /// that works. A second `put` of the same key leaves the first object in place.
    ///
    /// # Errors
    /// The object cannot be written.
    pub async fn put(&self, key: &str, from: &Path) -> Result<(), StoreError> {
        let (target, from) = (self.path(key)?, from.to_owned());
        blocking(key, move || link_or_copy(&from, &target)).await
    }

    /// Like [`Self::put`], for a file whose size and hash are not known yet.
    ///
    /// # Errors
    /// The file cannot be read, or the object cannot be written.
    pub async fn put_hashed(&self, key: &str, from: &Path) -> Result<Stored, StoreError> {
        let (target, from) = (self.path(key)?, from.to_owned());
        blocking(key, move || {
            let stored = hash(&from)?;
            File::open(&from)?.sync_all()?;
            link_or_copy(&from, &target)?;
            Ok(stored)
        })
        .await
    }

    /// Stores a copy of a file that is not ours.
    ///
    /// # Errors
    /// The file cannot be read, or the object cannot be written.
    pub async fn put_copy(&self, key: &str, from: &Path) -> Result<Stored, StoreError> {
        let (target, from) = (self.path(key)?, from.to_owned());
        blocking(key, move || {
            copy_to(&from, &target)?;
            hash(&target)
        })
        .await
    }

    /// Puts the object's bytes into the file `to`, and checks that they are what was stored.
    ///
    /// # Errors
    /// The object is missing or damaged, or the file cannot be written.
    pub async fn fetch(&self, key: &str, sha256: [u8; 32], to: &Path) -> Result<(), StoreError> {
        let (source, to) = (self.path(key)?, to.to_owned());
        let found = blocking(key, move || {
            let found = hash(&source)?;
            link_or_copy(&source, &to)?;
            Ok(found)
        })
        .await?;
        if found.sha256 == sha256 { Ok(()) } else { Err(StoreError::Corrupt { key: key.to_owned() }) }
    }

    /// The bytes of an object from `start`, `length` of them, as a stream.
    ///
    /// # Errors
    /// The object is missing or cannot be opened.
    pub async fn read(
        &self,
        key: &str,
        start: u64,
        length: u64,
    ) -> Result<ReaderStream<tokio::io::Take<tokio::fs::File>>, StoreError> {
        let path = self.path(key)?;
        let opened = async {
            let mut file = tokio::fs::File::open(path).await?;
            file.seek(io::SeekFrom::Start(start)).await?;
            Ok(ReaderStream::with_capacity(file.take(length), CHUNK))
        };
        opened.await.map_err(|error| failed(key, error))
    }

    /// A local path where the object can be read.
    ///
    /// # Errors
    /// The key is malformed.
    pub fn local_path(&self, key: &str) -> Result<PathBuf, StoreError> {
        self.path(key)
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The object cannot be removed.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let (path, root) = (self.path(key)?, self.root.clone());
        blocking(key, move || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Folders that this leaves empty go too.
            for folder in path.ancestors().skip(1).take_while(|folder| *folder != root) {
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    /// Whether the store takes objects.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        let probe = self.root.join(".probe");
        blocking("probe", move || {
            File::create(&probe)?.write_all(b"ok")?;
            fs::remove_file(&probe)
        })
        .await
    }
}

fn failed(key: &str, error: io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::NotFound {
        StoreError::NotFound { key: key.to_owned() }
    } else {
        StoreError::Io { key: key.to_owned(), source: error }
    }
}

async fn blocking<T: Send + 'static>(
    key: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let result = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    result.map_err(|error| failed(key, error))
}

/// The size and hash of a file that is not in the store.
///
/// # Errors
/// The file cannot be read.
pub async fn hash_file(path: &Path) -> Result<Stored, StoreError> {
    let file = path.to_owned();
    blocking(&path.to_string_lossy(), move || hash(&file)).await
}

fn hash(path: &Path) -> io::Result<Stored> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Stored { bytes, sha256: hasher.finalize().into() });
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// Gives the bytes of `from` the name `to` as well; copies them where links do not reach.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(_) => return copy_to(from, to),
    }
    sync_folders(folder)
}

/// Copies under another name first, so that `to` is never half a file.
fn copy_to(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let scratch = folder.join(format!(".{}", uuid::Uuid::new_v4().simple()));
    let copied = copy(from, &scratch).and_then(|()| fs::rename(&scratch, to));
    if copied.is_err() {
        let _ = fs::remove_file(&scratch);
    }
    copied?;
    sync_folders(folder)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

/// A new name, and the names of folders that were made for it, must outlive a crash.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for folder in folder.ancestors().take(4) {
        if let Ok(folder) = File::open(folder) {
            folder.sync_all()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::{LocalStore, StoreError};

    fn store() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&folder.path().join("objects")).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn what_was_put_can_be_fetched_and_read_in_part() {
        let (folder, store) = store();
        let source = folder.path().join("source");
        std::fs::write(&source, b"0123456789").unwrap();
        let stored = store.put_hashed("a/b", &source).await.unwrap();
        assert_eq!(stored.bytes, 10);
        let target = folder.path().join("target");
        store.fetch("a/b", stored.sha256, &target).await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"0123456789");
        let part: Vec<bytes::Bytes> = store.read("a/b", 3, 4).await.unwrap().try_collect().await.unwrap();
        assert_eq!(part.concat(), b"3456");
    }

    #[tokio::test]
    async fn damage_is_noticed() {
        let (folder, store) = store();
        let source = folder.path().join("source");
        std::fs::write(&source, b"good").unwrap();
        let stored = store.put_copy("a", &source).await.unwrap();
        std::fs::write(store.local_path("a").unwrap(), b"evil").unwrap();
        let fetched = store.fetch("a", stored.sha256, &folder.path().join("target")).await;
        assert!(matches!(fetched, Err(StoreError::Corrupt { .. })));
    }

    #[tokio::test]
    async fn deleting_takes_empty_folders_along_and_can_be_repeated() {
        let (folder, store) = store();
        let source = folder.path().join("source");
        std::fs::write(&source, b"x").unwrap();
        store.put("a/b/c", &source).await.unwrap();
        store.delete("a/b/c").await.unwrap();
        store.delete("a/b/c").await.unwrap();
        assert!(!folder.path().join("objects/a").exists());
        assert!(matches!(store.read("a/b/c", 0, 1).await, Err(StoreError::NotFound { .. })));
    }

    #[tokio::test]
    async fn keys_cannot_leave_the_store() {
        let (_folder, store) = store();
        for key in ["", "../x", "/etc/passwd", "a/../../x", "a/./b", "a\0b"] {
            assert!(store.local_path(key).is_err(), "{key:?}");
        }
    }
}
