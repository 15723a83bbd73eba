//! Several workers as processes of their own, over one database and one store, with no disk in common.

use std::collections::BTreeMap;
use std::time::Duration;

use finetuned::domain::hex::hex;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::client::Client;
use super::support::data;
use super::support::database;
use super::support::fleet::{Fleet, Member};
use super::support::s3::Bucket;
use super::support::service::eventually;

struct Site {
    fleet: Fleet,
    client: Client,
    _api: Member,
    _folder: tempfile::TempDir,
    _bucket: Bucket,
}

/// An API node over a fresh database and a bucket; no worker yet.
async fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::new().await;
    let mut settings: BTreeMap<String, String> = bucket.options.clone();
    settings.insert("DATABASE_URL".to_owned(), database::fresh().await);
    settings.insert("FINETUNED_STORE_URL".to_owned(), bucket.url.clone());
    let fleet = Fleet::new(folder.path(), settings);
    let key = fleet.set_up();
    let (api, address) = fleet.start_api("api", "127.0.0.1:0").await;
    Site { client: Client::new(&address, Some(&key)), fleet, _api: api, _folder: folder, _bucket: bucket }
}

const SLOW: (&str, &str) = ("FINETUNED_FAILPOINTS", "trainer.step=slow");

async fn create_job(client: &Client) -> String {
    let file = client.upload("data.csv", data::csv(100)).await;
    let hyperparameters = json!({"n_epochs": 4, "batch_size": 8, "precision": "fp32", "checkpoint_interval": 5});
    let body = json!({"model": "tiny-bert", "training_file": file, "seed": 7, "hyperparameters": hyperparameters});
    client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned()
}

async fn wait_for_checkpoint(client: &Client, id: &str) {
    eventually("a checkpoint", 60, async || {
        let checkpoints = client.get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
        (!checkpoints["data"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
}

/// Hashes of the finished model's weights and of all metrics.
pub async fn bits(client: &Client, id: &str) -> (String, String, Value) {
    let job = client.wait_for_end(id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let name = job["fine_tuned_model"].as_str().unwrap().replace('/', "%2F");
    let weights = client.get(&format!("/v1/models/{name}/files/model.safetensors")).await;
    let rows = client.metrics(id).await;
    let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    (hash(&weights.bytes), hash(rows.to_string().as_bytes()), job)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_worker_is_killed_ends_on_another_machine_with_the_same_bits() {
    let site = site().await;
    let client = &site.client;
    let first = site.fleet.start("first", &["worker"], &[SLOW]);
    let whole = create_job(client).await;
    let (model, metrics, _) = bits(client, &whole).await;

    let id = create_job(client).await;
    wait_for_checkpoint(client, &id).await;
    let second = site.fleet.start("second", &["worker"], &[SLOW]);
    let orphans = first.state.clone();
    first.kill();
    eventually("its trainer to notice", 5, async || {
        super::support::fleet::trainers_of(&orphans).is_empty().then_some(())
    })
    .await;
    let (same_model, same_metrics, job) = bits(client, &id).await;
    let attempts = job["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["cause"]), (2, &json!("lease_lost")), "{job}");
    assert!(attempts[1]["start_step"].as_u64().unwrap() >= 5, "{job}");
    assert_eq!((same_model, same_metrics), (model, metrics));
    assert!(!site.fleet.folder.join("first/objects").exists(), "nothing lies on a worker's own disk");
    assert!(second.stop().success());
}

/// What the kernel does to a machine without memory: its worker stands still, and its trainer is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_died_while_its_worker_was_asleep_counts_as_a_crash() {
    let site = site().await;
    let client = &site.client;
    let first = site.fleet.start("first", &["worker"], &[SLOW]);
    let id = create_job(client).await;
    wait_for_checkpoint(client, &id).await;
    first.signal(Signal::SIGSTOP);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first.trainers()[0]), Signal::SIGKILL).unwrap();
    let second = site.fleet.start("second", &["worker"], &[SLOW]);
    eventually("the other worker to take over", 60, async || {
        (client.job(&id).await["attempts"].as_array().unwrap().len() >= 2).then_some(())
    })
    .await;
    assert_eq!(client.job(&id).await["attempts"][0]["cause"], "lease_lost");
    first.signal(Signal::SIGCONT);
    let attempt = eventually("the sleeper to tell", 60, async || {
        Some(client.job(&id).await["attempts"][0].clone()).filter(|attempt| attempt["outcome"] != "lost")
    })
    .await;
    assert_eq!((&attempt["outcome"], &attempt["signal"]), (&json!("crashed"), &json!(9)), "{attempt}");
    assert_eq!(client.wait_for_end(&id).await["status"], "succeeded");
    drop(second);
}

/// A worker that is stopped for longer than its lease comes back to find its job another's.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_asleep_past_its_lease_finds_its_trainer_gone_and_changes_nothing() {
    let site = site().await;
    let client = &site.client;
    let first = site.fleet.start("first", &["worker"], &[SLOW]);
    let id = create_job(client).await;
    wait_for_checkpoint(client, &id).await;
    let second = site.fleet.start("second", &["worker"], &[SLOW]);
    first.signal(Signal::SIGSTOP);
    let asleep = std::time::Instant::now();
    // The trainer has been told until when it may live, and ends by itself before the job is given away.
    eventually("its trainer to end by itself", 12, async || first.trainers().is_empty().then_some(())).await;
    assert_eq!(client.job(&id).await["attempts"].as_array().unwrap().len(), 1, "before the other worker starts");
    eventually("the other worker to take over", 30, async || {
        (client.job(&id).await["attempts"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(18).saturating_sub(asleep.elapsed())).await;
    let second_attempt = |job: &Value| job["attempts"][1].clone();
    let before = second_attempt(&client.job(&id).await);
    first.signal(Signal::SIGCONT);
    let (model, metrics, job) = bits(client, &id).await;
    assert_eq!(job["attempts"].as_array().unwrap().len(), 2, "{job}");
    assert_eq!(second_attempt(&job)["started_at"], before["started_at"]);
    assert_eq!(job["attempts"][0]["cause"], "lease_lost");

    // What the sleeper wrote late changed nothing: the bits are those of an undisturbed run.
    let whole = create_job(client).await;
    let (whole_model, whole_metrics, _) = bits(client, &whole).await;
    assert_eq!((model, metrics), (whole_model, whole_metrics));
    drop(second);
}
