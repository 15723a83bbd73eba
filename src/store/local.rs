//! The object store on a local disk: one file per object, durable when `put` returns.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use nix::libc;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;

use super::checked::{FoundWhole, Identity};
use super::{CHUNK, Content, ID_BYTES, ID_KEY, Listed, StoreError, Stored, hash, hash_of, id_in};
use crate::disk::Reserve;
use crate::private;

/// What keys begin with.
const PREFIXES: [&str; 3] = ["files", "jobs", "models"];

/// Objects below a folder.
#[derive(Clone, Debug)]
pub struct LocalStore {
    root: PathBuf,
    reserve: Reserve,
    found_whole: FoundWhole,
    verifying: Arc<Semaphore>,
}

/// How many objects are read at once for the sake of a part.
const VERIFIED_AT_ONCE: usize = 2;

impl LocalStore {
    /// The store in `root`, which is made if need be. Its folders are closed to other users. Copies leave the `reserve`
    /// free.
    ///
    /// # Errors
    /// A folder cannot be made or closed.
    pub fn open(root: &Path, reserve: Reserve) -> io::Result<Self> {
        private::make_folder(root, private::FOLDER)?;
        for prefix in PREFIXES {
            private::close(&root.join(prefix))?;
        }
        let verifying = Arc::new(Semaphore::new(VERIFIED_AT_ONCE));
        Ok(Self { root: root.canonicalize()?, reserve, found_whole: FoundWhole::default(), verifying })
    }

    /// Where an object lies; the key was checked.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Stores the file at `from`, which is ours, synced, and does not change any more, as `key`: by a hard link where
    /// that works. A second `put` of the same key leaves the first object in place.
    ///
    /// # Errors
    /// The object cannot be written.
    pub async fn put(&self, key: &str, from: &Path) -> Result<(), StoreError> {
        let (target, from, reserve) = (self.path(key), from.to_owned(), self.reserve);
        blocking(key, move || link_or_copy(&from, &target, reserve)).await
    }

    /// Stores what an open file holds now: one that a run has made.
    ///
    /// # Errors
    /// The file cannot be read, or the object cannot be written.
    pub async fn put_open(&self, key: &str, from: File) -> Result<Stored, StoreError> {
        let (target, reserve) = (self.path(key), self.reserve.of_runs());
        blocking(key, move || copy_to(&from, &target, reserve)).await
    }

    /// Stores a copy of a file that is not ours.
    ///
    /// # Errors
    /// The file cannot be read, or the object cannot be written.
    pub async fn put_copy(&self, key: &str, from: &Path) -> Result<Stored, StoreError> {
        let (target, from, reserve) = (self.path(key), from.to_owned(), self.reserve);
        blocking(key, move || copy_to(&File::open(from)?, &target, reserve)).await
    }

    /// Puts the object's bytes into the file `to`, which shares nothing with the object, and says what they are.
    ///
    /// # Errors
    /// The object is missing, or the file cannot be written.
    pub async fn fetch(&self, key: &str, to: &Path) -> Result<Stored, StoreError> {
        let (source, to, reserve) = (self.path(key), to.to_owned(), self.reserve);
        blocking(key, move || {
            let source = File::open(source)?;
            reserve.check(&to, source.metadata()?.len())?;
            copy(&source, &options().create(true).truncate(true).open(to)?)
        })
        .await
    }

    /// The size of an object.
    ///
    /// # Errors
    /// The object is missing.
    pub(super) async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let meta = tokio::fs::metadata(self.path(key)).await.map_err(|error| failed(key, error))?;
        Ok(meta.len())
    }

    /// Reads the object to see whether it is what was stored.
    ///
    /// # Errors
    /// It is not, or is missing.
    pub(super) async fn verify(&self, key: &str, stored: Stored) -> Result<(), StoreError> {
        stored.compare_size(key, self.size(key).await?)?;
        let path = self.path(key);
        let found = blocking(key, move || hash(&path)).await?;
        stored.compare(key, found)
    }

    /// The same, unless it was found whole lately and its file is as it was then. Few are read at once; one that nobody
    /// waits for any more is read to its end, so that whoever asks again need not begin anew.
    ///
    /// # Errors
    /// It is damaged or missing.
    pub(super) async fn verify_lately(&self, key: &str, stored: Stored) -> Result<(), StoreError> {
        let path = self.path(key);
        let is_known = async || {
            let meta = tokio::fs::metadata(&path).await.map_err(|error| failed(key, error))?;
            Ok::<bool, StoreError>(self.found_whole.contains(key, Identity::from(&meta)))
        };
        if is_known().await? {
            return Ok(());
        }
        let place = Arc::clone(&self.verifying).acquire_owned().await;
        if is_known().await? {
            return Ok(());
        }
        let (found_whole, name) = (self.found_whole.clone(), key.to_owned());
        let found = blocking(key, move || {
            let _place = place;
            let identity = Identity::from(&path.metadata()?);
            let found = hash(&path)?;
            if found == stored {
                found_whole.insert(&name, identity);
            }
            Ok(found)
        });
        stored.compare(key, found.await?)
    }

    /// The bytes of an object from `start`, `length` of them, as a stream.
    ///
    /// # Errors
    /// The object is missing or cannot be opened.
    pub(super) async fn read(&self, key: &str, start: u64, length: u64) -> Result<Content, StoreError> {
        let path = self.path(key);
        let opened = async {
            let mut file = tokio::fs::File::open(path).await?;
            file.seek(io::SeekFrom::Start(start)).await?;
            Ok(ReaderStream::with_capacity(file.take(length), CHUNK))
        };
        let content = opened.await.map_err(|error| failed(key, error))?;
        let key = key.to_owned();
        Ok(content.map_err(move |source| StoreError::Io { key: key.clone(), source }).boxed())
    }

    /// All objects below a prefix that ends in a slash.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let (root, start) = (self.root.clone(), self.root.join(prefix));
        blocking(prefix, move || {
            let (mut found, mut folders) = (Vec::new(), vec![start]);
            while let Some(folder) = folders.pop() {
                let entries = match fs::read_dir(&folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    entries => entries?,
                };
                for entry in entries {
                    let path = entry?.path();
                    // Gone since, or being written: no object.
                    let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                    if meta.is_dir() {
                        folders.push(path);
                    } else if let Some(key) = path.strip_prefix(&root).ok().and_then(Path::to_str) {
                        found.push(Listed { key: key.to_owned(), modified: meta.modified()? });
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The object cannot be removed.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let (path, root) = (self.path(key), self.root.clone());
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

    /// See [`super::Store::id`].
    pub(super) async fn id(&self) -> Result<Option<String>, StoreError> {
        let path = self.path(ID_KEY);
        let read = blocking(ID_KEY, move || {
            let mut bytes = Vec::new();
            File::open(path)?.take(ID_BYTES as u64).read_to_end(&mut bytes)?;
            Ok(id_in(&bytes))
        });
        match read.await {
            Err(StoreError::NotFound { .. }) => Ok(None),
            read => read.map(Some),
        }
    }

    /// See [`super::Store::set_id`].
    pub(super) async fn set_id(&self, id: &str) -> Result<(), StoreError> {
        let (target, text) = (self.path(ID_KEY), format!("{id}\n"));
        let scratch = self.root.join(format!(".{ID_KEY}-{}", uuid::Uuid::new_v4().simple()));
        blocking(ID_KEY, move || {
            let written = File::create_new(&scratch).and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            });
            let named = written.and_then(|()| link_or_copy(&scratch, &target, Reserve::default()));
            let _ = fs::remove_file(&scratch);
            named
        })
        .await
    }

    /// Whether the store takes objects.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        // Of its own: many may check at once.
        let probe = self.root.join(format!(".probe-{}", uuid::Uuid::new_v4().simple()));
        blocking("probe", move || {
            let written = File::create_new(&probe).and_then(|mut file| file.write_all(b"ok"));
            fs::remove_file(&probe).and(written)
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

/// Gives the bytes of `from` the name `to` as well; copies them where links do not reach. A link takes no room.
fn link_or_copy(from: &Path, to: &Path, reserve: Reserve) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(_) => return copy_to(&File::open(from)?, to, reserve).map(drop),
    }
    sync_folders(folder)
}

/// Copies under another name first, so that `to` is never half a file.
fn copy_to(from: &File, to: &Path, reserve: Reserve) -> io::Result<Stored> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    reserve.check(folder, from.metadata()?.len())?;
    fs::create_dir_all(folder)?;
    let scratch = folder.join(format!(".{}", uuid::Uuid::new_v4().simple()));
    let copied = options().create_new(true).open(&scratch).and_then(|target| {
        let stored = copy(from, &target)?;
        target.sync_all()?;
        fs::rename(&scratch, to)?;
        Ok(stored)
    });
    if copied.is_err() {
        let _ = fs::remove_file(&scratch);
    }
    let stored = copied?;
    sync_folders(folder)?;
    Ok(stored)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

/// Copies all of `from`, as long as it is now, and says what was copied. Where the file system can, both share their
/// blocks until one of them is written to (`ioctl_ficlone(2)`).
fn copy(mut from: &File, mut to: &File) -> io::Result<Stored> {
    // SAFETY: a system call with two descriptors that are open.
    if unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) } == 0 {
        return hash_of(to, |_| Ok(()));
    }
    let length = from.metadata()?.len();
    from.rewind()?;
    hash_of(from.take(length), |bytes| to.write_all(bytes))
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

    use super::{LocalStore, Reserve, StoreError, Stored};

    fn store() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&folder.path().join("objects"), Reserve(0)).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn what_was_put_can_be_fetched_and_read_in_part() {
        let (folder, store) = store();
        let source = folder.path().join("source");
        std::fs::write(&source, b"0123456789").unwrap();
        let stored = store.put_open("a/b", std::fs::File::open(&source).unwrap()).await.unwrap();
        assert_eq!(stored.bytes, 10);
        let target = folder.path().join("target");
        assert_eq!(store.fetch("a/b", &target).await.unwrap(), stored);
        assert_eq!(std::fs::read(&target).unwrap(), b"0123456789");
        let part: Vec<bytes::Bytes> = store.read("a/b", 3, 4).await.unwrap().try_collect().await.unwrap();
        assert_eq!(part.concat(), b"3456");
    }

    #[tokio::test]
    async fn a_part_is_checked_with_the_whole_once_and_again_when_the_file_was_touched() {
        let (folder, store) = store();
        let source = folder.path().join("source");
        std::fs::write(&source, b"0123456789").unwrap();
        let stored = store.put_copy("a/b", &source).await.unwrap();
        store.verify_lately("a/b", stored).await.unwrap();
        // Nothing is read again: another hash is not noticed, another size is.
        store.verify_lately("a/b", Stored { sha256: [0; 32], ..stored }).await.unwrap();
        let path = folder.path().join("objects/a/b");
        let (before, file) = (path.metadata().unwrap(), std::fs::File::options().write(true).open(&path).unwrap());
        std::os::unix::fs::FileExt::write_at(&file, b"x", 4).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        assert!(matches!(store.verify_lately("a/b", stored).await, Err(StoreError::Corrupt { .. })));
        assert!(matches!(store.verify("a/b", stored).await, Err(StoreError::Corrupt { .. })));
    }

    #[tokio::test]
    async fn a_folder_goes_on_saying_whose_it_is() {
        let (folder, store) = store();
        assert_eq!(store.id().await.unwrap(), None);
        store.set_id("one").await.unwrap();
        store.set_id("two").await.unwrap();
        assert_eq!(store.id().await.unwrap().as_deref(), Some("one"));
        let names: Vec<_> = std::fs::read_dir(folder.path().join("objects")).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "nothing else is left: {names:?}");
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
}
