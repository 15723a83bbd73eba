//! Objects on S3, and several workers that share nothing but a database and a bucket.

use std::path::Path;

use finetuned::disk::Reserve;
use finetuned::store::{Store, StoreError, Stored};
use futures_util::TryStreamExt;

use super::support::s3::Bucket;

const NOTHING: Stored = Stored { bytes: 0, sha256: [0; 32] };

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_stored_read_in_part_listed_and_removed() {
    let bucket = Bucket::new().await;
    let store = Store::open(&bucket.location(), Reserve::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    store.check().await.unwrap();
    // One request, and several parts.
    let large: Vec<u8> = (0..40_u32 << 20).map(|i| (i ^ (i >> 11)) as u8).collect();
    for (key, bytes) in [("jobs/a/config.json", b"0123456789".to_vec()), ("jobs/a/model.safetensors", large)] {
        let path = write(folder.path(), "source", &bytes);
        let stored = store.put_open(key, std::fs::File::open(&path).unwrap()).await.unwrap();
        assert_eq!(stored.bytes, bytes.len() as u64);
        assert_eq!(stored, store.put_copy(key, &path).await.unwrap(), "again does no harm");
        let target = folder.path().join("target");
        store.fetch(key, stored, &target).await.unwrap();
        assert!(std::fs::read(&target).unwrap() == bytes);
        let part: Vec<bytes::Bytes> = store.read_part(key, stored, 3, 4).await.unwrap().try_collect().await.unwrap();
        assert_eq!(part.concat(), &bytes[3..7]);
        let none: Vec<bytes::Bytes> = store.read_part(key, stored, 0, 0).await.unwrap().try_collect().await.unwrap();
        assert!(none.is_empty());
        let whole: Vec<bytes::Bytes> = store.read(key, stored).await.unwrap().try_collect().await.unwrap();
        assert!(whole.concat() == bytes);
        let other = Stored { sha256: [7; 32], ..stored };
        let read: Result<Vec<bytes::Bytes>, _> = store.read(key, other).await.unwrap().try_collect().await;
        assert!(matches!(read, Err(StoreError::Corrupt { .. })));
        let longer = Stored { bytes: stored.bytes + 1, ..stored };
        assert!(matches!(store.read(key, longer).await.err(), Some(StoreError::Corrupt { .. })));

        let wrong = store.fetch(key, other, &target).await;
        assert!(matches!(wrong, Err(StoreError::Corrupt { .. })));
        assert!(!target.exists(), "damaged bytes are not left lying about");

        let opened = store.open_file(key, stored, folder.path()).await.unwrap();
        assert!(std::fs::read(opened.path()).unwrap() == bytes);
        let copy = opened.path().to_owned();
        drop(opened);
        assert!(!copy.exists());
    }
    let mut listed: Vec<String> = store.list("jobs/").await.unwrap().into_iter().map(|object| object.key).collect();
    listed.sort();
    assert_eq!(listed, ["jobs/a/config.json", "jobs/a/model.safetensors"]);
    assert!(store.list("files/").await.unwrap().is_empty());
    for key in listed {
        store.delete(&key).await.unwrap();
        store.delete(&key).await.unwrap();
        let gone = store.fetch(&key, NOTHING, &folder.path().join("target")).await;
        assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_reached_is_unavailable_and_not_empty() {
    let mut bucket = Bucket::new().await;
    bucket.options.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "wrong".to_owned());
    let store = Store::open(&bucket.location(), Reserve::default()).unwrap();
    assert!(matches!(store.check().await, Err(StoreError::Unavailable { .. })));
    let fetched = store.fetch("a", NOTHING, Path::new("/nonexistent/file")).await;
    assert!(matches!(fetched, Err(StoreError::Unavailable { .. })), "{fetched:?}");
    let error = finetuned::domain::error::Error::from(fetched.unwrap_err());
    assert_eq!(error.kind, finetuned::domain::error::ErrorKind::Unavailable);
}
