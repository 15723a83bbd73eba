//! Objects on S3, and several workers that share nothing but a database and a bucket.

use std::path::Path;
use std::time::Duration;

use finetuned::app::App;
use finetuned::app::ownership;
use finetuned::config::StoreLocation;
use finetuned::db::objects;
use finetuned::disk::Reserve;
use finetuned::domain::error::ErrorKind;
use finetuned::store::{ID_KEY, Store, StoreError, Stored};
use finetuned::worker::upkeep::orphans;
use futures_util::TryStreamExt;

use super::support::data;
use super::support::s3::Bucket;
use super::support::service::Service;

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
    assert_eq!(error.kind, ErrorKind::Unavailable);
}

/// A service over a database of its own and this store.
async fn over(store: &StoreLocation) -> Service {
    Service::with(|config| config.store = store.clone()).await
}

async fn put(app: &App, count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let source = write(folder.path(), "source", b"x");
    for _ in 0..count {
        app.store.put_copy(&format!("files/{}", uuid::Uuid::new_v4().simple()), &source).await.unwrap();
    }
}

async fn count(app: &App) -> usize {
    let mut count = 0;
    for prefix in ["files/", "jobs/", "models/"] {
        count += app.store.list(prefix).await.unwrap().len();
    }
    count
}

/// Looks for orphans of any age; how many objects are left.
async fn sweep(app: &App) -> usize {
    assert!(!orphans::run_once(app, Duration::ZERO).await.unwrap());
    count(app).await
}

async fn check_that_another_database_removes_nothing(store: &StoreLocation) {
    let first = over(store).await;
    ownership::claim(&first.app).await.unwrap();
    first.import_tiny_model().await;
    first.client().upload("data.csv", data::csv(30)).await;
    put(&first.app, 1).await;
    ownership::claim(&first.app).await.unwrap();
    let own = objects::store_id(first.app.db.pool()).await.unwrap().unwrap().to_string();
    assert_eq!(first.app.store.id().await.unwrap().as_deref(), Some(&*own));

    let other = over(store).await;
    let error = ownership::claim(&other.app).await.unwrap_err();
    let others = objects::store_id(other.app.db.pool()).await.unwrap().unwrap().to_string();
    assert_eq!(error.kind, ErrorKind::Conflict);
    for told in [&own, &others, "is not this database's", "FINETUNED_STORE_DIR", "DATABASE_URL", ID_KEY] {
        assert!(error.message.contains(told), "{told}: {}", error.message);
    }
    let before = count(&other.app).await;
    assert_eq!(sweep(&other.app).await, before);
    assert_eq!(sweep(&first.app).await, before - 1, "its own orphan goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_database_is_refused_and_nothing_in_it_removed() {
    let folder = tempfile::tempdir().unwrap();
    check_that_another_database_removes_nothing(&StoreLocation::Folder(folder.path().join("objects"))).await;
    check_that_another_database_removes_nothing(&Bucket::new().await.location()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_before_there_were_ids_is_that_of_the_database_that_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreLocation::Folder(folder.path().join("objects"));
    let first = over(&store).await;
    first.import_tiny_model().await;
    let other = over(&store).await;
    let error = ownership::claim(&other.app).await.unwrap_err();
    assert!(error.message.contains("objects that the database does not know"), "{}", error.message);
    assert_eq!(first.app.store.id().await.unwrap(), None, "nothing is written");
    assert!(sweep(&other.app).await > 0);
    ownership::claim(&first.app).await.unwrap();
    assert!(ownership::claim(&other.app).await.is_err());

    // The same database as a backup of that time has it.
    sqlx::query("delete from object_store").execute(first.app.db.pool()).await.unwrap();
    ownership::claim(&first.app).await.unwrap();
    let own = objects::store_id(first.app.db.pool()).await.unwrap().unwrap();
    assert_eq!(first.app.store.id().await.unwrap(), Some(own.to_string()));

    // What the error says is the way out.
    let others = objects::store_id(other.app.db.pool()).await.unwrap().unwrap();
    std::fs::write(folder.path().join("objects").join(ID_KEY), format!("{others}\n")).unwrap();
    ownership::claim(&other.app).await.unwrap();
    assert!(ownership::claim(&first.app).await.is_err());
}

/// As after an old backup of the database was restored, which says the same of whose the store is.
#[tokio::test(flavor = "multi_thread")]
async fn where_most_objects_have_no_row_none_is_removed() {
    let service = Service::api().await;
    ownership::claim(&service.app).await.unwrap();
    put(&service.app, 20).await;
    assert_eq!(sweep(&service.app).await, 0, "a few are orphans");
    put(&service.app, 21).await;
    assert_eq!(sweep(&service.app).await, 21);
    for _ in 0..21 {
        service.client().upload("data.csv", data::csv(30)).await;
    }
    assert_eq!(sweep(&service.app).await, 21, "they are no more than half now");
}
