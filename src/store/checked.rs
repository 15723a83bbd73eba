//! Bytes that are checked while they are read, and objects that were lately found whole.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::{Content, StoreError, Stored};

struct Reading<S> {
    content: S,
    key: String,
    expected: Stored,
    hasher: Sha256,
    bytes: u64,
    /// The latest chunk, which goes out once more came or all of it is known to be right.
    held: Option<Bytes>,
    is_done: bool,
}

/// The same content, of which the last chunk comes only if all of it is what was stored; else an error comes. What ends
/// in one chunk is therefore known to be right before any of it is passed on.
pub(super) fn checked<S>(content: S, key: &str, expected: Stored) -> Content
where
    S: Stream<Item = Result<Bytes, StoreError>> + Send + Unpin + 'static,
{
    let key = key.to_owned();
    let reading = Reading { content, key, expected, hasher: Sha256::new(), bytes: 0, held: None, is_done: false };
    stream::try_unfold(reading, |mut reading| async move { Ok(reading.next().await?.map(|chunk| (chunk, reading))) })
        .boxed()
}

impl<S: Stream<Item = Result<Bytes, StoreError>> + Unpin> Reading<S> {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        while !self.is_done {
            let Some(chunk) = self.content.try_next().await? else {
                self.is_done = true;
                self.verify()?;
                return Ok(self.held.take());
            };
            self.bytes += chunk.len() as u64;
            self.hasher.update(&chunk);
            if let Some(ready) = self.held.replace(chunk) {
                return Ok(Some(ready));
            }
        }
        Ok(None)
    }

    fn verify(&mut self) -> Result<(), StoreError> {
        let sha256 = std::mem::take(&mut self.hasher).finalize().into();
        self.expected.compare(&self.key, Stored { bytes: self.bytes, sha256 })
    }
}

/// How long an object that was found whole is taken to be so, as long as its file looks untouched.
const TRUSTED: Duration = Duration::from_mins(10);
/// How many of them are remembered.
const MOST: usize = 1024;

/// A file at one moment: whoever writes to it changes this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Identity {
    fn from(meta: &Metadata) -> Self {
        Self {
            inode: (meta.dev(), meta.ino()),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Objects that were lately found whole, by key: whoever reads one in many parts has it checked once.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundWhole(Arc<Mutex<HashMap<String, (Identity, Instant)>>>);

impl FoundWhole {
    pub(super) fn contains(&self, key: &str, identity: Identity) -> bool {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(key).is_some_and(|(known, since)| *known == identity && since.elapsed() < TRUSTED)
    }

    pub(super) fn insert(&self, key: &str, identity: Identity) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= MOST {
            found.retain(|_, (_, since)| since.elapsed() < TRUSTED);
        }
        if found.len() >= MOST {
            found.clear();
        }
        found.insert(key.to_owned(), (identity, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{TryStreamExt, stream};
    use sha2::{Digest, Sha256};

    use super::{FoundWhole, Identity, MOST, StoreError, Stored, checked};

    /// The chunks that came, and whether all did.
    async fn read(chunks: &[&'static str], expected: &str) -> (Vec<Bytes>, bool) {
        let stored = Stored { bytes: expected.len() as u64, sha256: Sha256::digest(expected).into() };
        let content: Vec<Result<Bytes, StoreError>> =
            chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        let mut content = checked(stream::iter(content), "a/b", stored);
        let mut came = Vec::new();
        loop {
            match content.try_next().await {
                Ok(Some(chunk)) => came.push(chunk),
                Ok(None) => return (came, true),
                Err(error) => {
                    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
                    return (came, false);
                }
            }
        }
    }

    #[tokio::test]
    async fn the_last_chunk_of_other_bytes_is_held_back() {
        assert_eq!(read(&["ab", "cd", "e"], "abcde").await, (vec!["ab".into(), "cd".into(), "e".into()], true));
        assert_eq!(read(&[], "").await, (vec![], true));
        for (chunks, came) in [
            (&["ab", "cd", "f"][..], vec!["ab".into(), "cd".into()]),
            (&["xb", "cd", "e"], vec!["ab".replace('a', "x").into(), "cd".into()]),
            (&["ab", "cd"], vec!["ab".into()]),
            (&["ab", "cd", "e", "f"], vec!["ab".into(), "cd".into(), "e".into()]),
            (&["abcdf"], vec![]),
            (&[], vec![]),
        ] {
            assert_eq!(read(chunks, "abcde").await, (came, false), "{chunks:?}");
        }
    }

    #[test]
    fn a_file_that_was_written_to_is_not_remembered_and_the_memory_is_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let identity = || Identity::from(&file.path().metadata().unwrap());
        let (whole, first) = (FoundWhole::default(), identity());
        whole.insert("a", first);
        assert!(whole.contains("a", first) && !whole.contains("b", first));
        std::fs::write(file.path(), "x").unwrap();
        assert!(!whole.contains("a", identity()));
        for number in 0..2 * MOST {
            whole.insert(&number.to_string(), first);
        }
        assert!(whole.0.lock().unwrap().len() <= MOST);
    }
}
