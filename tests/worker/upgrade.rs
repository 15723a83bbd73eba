//! What an older version left: its jobs come to their ends under this one, and its models answer. The fixtures were made by
//! `tests/fixtures/upgrade/make.py` with a build of the first version.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use finetuned::app::ownership;
use finetuned::db::Db;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::support::database;
use super::support::service::Service;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/upgrade").join(name)
}

fn unpacked(name: &str) -> GzDecoder<std::fs::File> {
    GzDecoder::new(std::fs::File::open(fixture(name)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_version_left_goes_on_and_answers() {
    let mut dump = String::new();
    unpacked("database.sql.gz").read_to_string(&mut dump).unwrap();
    let url = database::restored(&dump).await;
    let db = Db::connect(&url, 2).await.unwrap();
    db.migrate().await.unwrap();
    db.close().await;
    let mut service = Service::over(&url, |_| ()).await;
    tar::Archive::new(unpacked("objects.tar.gz")).unpack(service.objects()).unwrap();
    // Stores did not say yet whose they are.
    ownership::claim(&service.app).await.unwrap();

    let jobs: BTreeMap<String, String> = serde_json::from_slice(&std::fs::read(fixture("jobs.json")).unwrap()).unwrap();
    let client = service.client();
    let status = async |name: &str| client.job(&jobs[name]).await["status"].clone();
    for (name, stands) in
        [("succeeded", "succeeded"), ("paused", "paused"), ("interrupted", "running"), ("queued", "queued")]
    {
        assert_eq!(status(name).await, stands, "{name}");
    }
    service.start_worker();
    client.post(&format!("/v1/fine_tuning/jobs/{}/resume", jobs["paused"])).await.good();
    for (name, attempts) in [("paused", 2), ("interrupted", 2), ("queued", 1)] {
        let job = client.wait_for_end(&jobs[name]).await;
        assert_eq!(job["status"], "succeeded", "{name}: {job:#}");
        let made = job["attempts"].as_array().unwrap();
        assert_eq!(made.len(), attempts, "{name}: {job:#}");
        // From the checkpoint that the old trainer saved.
        let start = made[attempts - 1]["start_step"].as_u64().unwrap();
        assert_eq!(start > 0, attempts > 1, "{name}: {job:#}");
    }
    let model = &client.job(&jobs["succeeded"]).await["fine_tuned_model"];
    let asked = json!({"model": model, "input": "where is my new card"});
    let answer: Value = client.post_json("/v1/classifications", &asked).await.good();
    assert_eq!(answer["data"][0]["label"], "card", "{answer:#}");
    service.stop_worker().await;
}
