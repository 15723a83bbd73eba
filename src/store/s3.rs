//! The object store on an S3-compatible endpoint. Uploads are checked part by part by the protocol's own checksums,
//! and an object appears whole or not at all.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path as Location;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{CHUNK, Content, ID_BYTES, ID_KEY, Listed, StoreError, Stored, id_in};

/// Files up to this size are sent in one request, larger ones in parts of it.
const PART: usize = 16 << 20;
/// Parts on their way at once: bounds the memory of an upload.
const PARTS_AT_ONCE: usize = 2;
/// How long a connection may take, and how long it may then be silent.
const CONNECT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(30);
/// How long one request is tried again before the caller hears of it.
const RETRY: Duration = Duration::from_secs(20);

/// Objects below a prefix of a bucket.
#[derive(Clone, Debug)]
pub struct S3Store {
    bucket: Arc<AmazonS3>,
    prefix: String,
}

impl S3Store {
    /// The store at `s3://bucket/prefix`, with credentials, region and endpoint in `options`, under the names that the
    /// AWS tools give them (`AWS_ACCESS_KEY_ID` …).
    ///
    /// # Errors
    /// The URL or an option is malformed.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        // Whoever comes first sets it, for this process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = |error: &dyn std::fmt::Display| StoreError::Location(error.to_string());
        let rest = url.strip_prefix("s3://").ok_or_else(|| wrong(&"the URL does not start with s3://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let client = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_read_timeout(SILENCE)
            .with_timeout_disabled()
            .with_allow_http(options.get("AWS_ENDPOINT_URL").is_some_and(|url| url.starts_with("http://")));
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 5, retry_timeout: RETRY };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(retry)
            .with_checksum_algorithm(Checksum::SHA256);
        for (name, value) in options {
            // Other variables of that prefix are for other tools.
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self { bucket: Arc::new(builder.build().map_err(|error| wrong(&error))?), prefix })
    }

    fn location(&self, key: &str) -> Location {
        if self.prefix.is_empty() { Location::from(key) } else { Location::from(format!("{}/{key}", self.prefix)) }
    }

    /// Stores the file at `from`, and says what was stored.
    pub(super) async fn put_path(&self, key: &str, from: &Path) -> Result<Stored, StoreError> {
        let opened = tokio::fs::File::open(from).await;
        self.put(key, opened.map_err(|source| StoreError::Io { key: key.to_owned(), source })?).await
    }

    /// Stores what is left to read of a file, and says what was stored.
    pub(super) async fn put(&self, key: &str, mut file: tokio::fs::File) -> Result<Stored, StoreError> {
        let reading = |source| StoreError::Io { key: key.to_owned(), source };
        let size = file.metadata().await.map_err(reading)?.len();
        let (mut hasher, location) = (Sha256::new(), self.location(key));
        if size <= PART as u64 {
            let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
            file.read_to_end(&mut content).await.map_err(reading)?;
            hasher.update(&content);
            let bytes = content.len() as u64;
            self.bucket.put(&location, content.into()).await.map_err(failed(key))?;
            return Ok(Stored { bytes, sha256: hasher.finalize().into() });
        }
        let upload = self.bucket.put_multipart(&location).await.map_err(failed(key))?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        match send(&mut file, &mut writer, &mut hasher).await {
            Ok(bytes) => {
                writer.finish().await.map_err(failed(key))?;
                Ok(Stored { bytes, sha256: hasher.finalize().into() })
            }
            Err(error) => {
                // Parts of an upload that nobody ends are paid for and never seen.
                let _ = writer.abort().await;
                Err(match error {
                    SendError::Read(source) => reading(source),
                    SendError::Store(source) => failed(key)(source),
                })
            }
        }
    }

    /// Puts the object's bytes into the file `to`, and says what they are.
    pub(super) async fn fetch(&self, key: &str, to: &Path) -> Result<Stored, StoreError> {
        let writing = |source| StoreError::Io { key: key.to_owned(), source };
        let mut content = self.bucket.get(&self.location(key)).await.map_err(failed(key))?.into_stream();
        let mut file = tokio::fs::File::create(to).await.map_err(writing)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        while let Some(chunk) = content.try_next().await.map_err(failed(key))? {
            hasher.update(&chunk);
            bytes += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(writing)?;
        }
        file.flush().await.map_err(writing)?;
        Ok(Stored { bytes, sha256: hasher.finalize().into() })
    }

    /// See [`super::Store::read`].
    pub(super) async fn read(&self, key: &str, start: u64, length: u64) -> Result<Content, StoreError> {
        if length == 0 {
            return Ok(futures_util::stream::empty().boxed());
        }
        let range = GetOptions { range: Some(GetRange::Bounded(start..start + length)), ..GetOptions::default() };
        let found = self.bucket.get_opts(&self.location(key), range).await.map_err(failed(key))?;
        let key = key.to_owned();
        Ok(found.into_stream().map_err(move |source| failed(&key)(source)).boxed())
    }

    /// The size of an object.
    pub(super) async fn size(&self, key: &str) -> Result<u64, StoreError> {
        Ok(self.bucket.head(&self.location(key)).await.map_err(failed(key))?.size)
    }

    /// See [`super::Store::delete`].
    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.bucket.delete(&self.location(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(key)(error)),
        }
    }

    /// See [`super::Store::list`].
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let below = self.location(prefix.trim_end_matches('/'));
        let strip = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let listed = self.bucket.list(Some(&below)).map_ok(|meta| {
            let key = meta.location.as_ref();
            Listed { key: key.strip_prefix(&strip).unwrap_or(key).to_owned(), modified: meta.last_modified.into() }
        });
        listed.try_collect().await.map_err(failed(prefix))
    }

    /// See [`super::Store::id`].
    pub(super) async fn id(&self) -> Result<Option<String>, StoreError> {
        let found = match self.bucket.get(&self.location(ID_KEY)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(failed(ID_KEY))?,
        };
        let (mut content, mut bytes) = (found.into_stream(), Vec::new());
        while bytes.len() < ID_BYTES {
            let Some(chunk) = content.try_next().await.map_err(failed(ID_KEY))? else { break };
            bytes.extend_from_slice(&chunk);
        }
        bytes.truncate(ID_BYTES);
        Ok(Some(id_in(&bytes)))
    }

    /// See [`super::Store::set_id`].
    pub(super) async fn set_id(&self, id: &str) -> Result<(), StoreError> {
        let text = format!("{id}\n").into_bytes();
        self.bucket.put(&self.location(ID_KEY), text.into()).await.map_err(failed(ID_KEY))?;
        Ok(())
    }

    /// See [`super::Store::check`]. An answer that there is no such object is an answer.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        match self.bucket.head(&self.location("probe")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("probe")(error)),
        }
    }
}

enum SendError {
    Read(io::Error),
    Store(object_store::Error),
}

async fn send(file: &mut tokio::fs::File, writer: &mut WriteMultipart, hasher: &mut Sha256) -> Result<u64, SendError> {
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
    loop {
        let read = file.read(&mut buffer).await.map_err(SendError::Read)?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes += read as u64;
        hasher.update(&buffer[..read]);
        writer.wait_for_capacity(PARTS_AT_ONCE).await.map_err(SendError::Store)?;
        writer.write(&buffer[..read]);
    }
}

fn failed(key: &str) -> impl FnOnce(object_store::Error) -> StoreError + '_ {
    move |source| match source {
        object_store::Error::NotFound { .. } => StoreError::NotFound { key: key.to_owned() },
        source => StoreError::Unavailable { key: key.to_owned(), source },
    }
}
