//! Disks that fill up: uploads and runs leave room for the database, whatever came is there, and all goes on.

use std::os::unix::fs::PermissionsExt;

use finetuned::config::{Config, StoreLocation};
use finetuned::disk::{Reserve, free_bytes};
use finetuned::failpoint::Failpoints;
use finetuned::worker::upkeep::sweep;
use serde_json::json;

use super::machines::SmallDisk;
use super::support::client::Client;
use super::support::data;
use super::support::fleet::Fleet;
use super::support::service::{Service, eventually};

const MIB: u64 = 1 << 20;

/// A small disk, or None where it cannot be had.
fn disk(mebibytes: u32) -> Option<SmallDisk> {
    let disk = SmallDisk::mount(mebibytes);
    if disk.is_none() {
        println!("skipped: mounting a small file system needs root");
    }
    disk
}

/// A service that has all it keeps, its database aside, on a small disk.
async fn service_on(disk: &SmallDisk, reserve: u64) -> Service {
    let folder = disk.folder.path().to_owned();
    let change = |config: &mut Config| {
        config.store = StoreLocation::Folder(folder.join("objects"));
        config.runs_dir = folder.join("runs");
        config.state_dir = folder;
        config.reserve = Reserve(reserve);
    };
    let service = Service::with(change).await;
    service.import_tiny_model().await;
    service
}

/// Starts a worker whose runs are slow, and a job that saves often; once it runs, gives its client and its id.
async fn start_slow_run(service: &mut Service) -> (Client, String) {
    service.app.failpoints = Failpoints::parse("trainer.step=slow").unwrap();
    service.start_worker();
    let client = service.client();
    let file = client.upload("data.csv", data::csv(100)).await;
    let hyperparameters = json!({"n_epochs": 2, "batch_size": 8, "precision": "fp32", "checkpoint_interval": 3});
    let id = client.create_job(&file, hyperparameters).await;
    client.wait_for(&id, &["running"], 60).await;
    (client, id)
}

/// Fills a disk until `left` bytes are free.
fn fill_up_to(disk: &SmallDisk, left: u64) {
    let free = free_bytes(disk.folder.path()).unwrap();
    std::fs::write(disk.filler(), vec![0; (free - left) as usize]).unwrap();
}

/// Uploads until there is no more room; what was acknowledged.
async fn upload_until_full(client: &Client, bytes: u64) -> Vec<(String, Vec<u8>)> {
    let mut kept = Vec::new();
    for number in 0_u64.. {
        let content: Vec<u8> = (0..bytes).map(|i| (i ^ (i >> 8) ^ number) as u8).collect();
        let answer = client.upload_as("user_data", "filler.bin", content.clone()).await;
        if answer.status == 507 {
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            break;
        }
        kept.push((answer.good()["id"].as_str().unwrap().to_owned(), content));
    }
    kept
}

async fn is_there(client: &Client, files: &[(String, Vec<u8>)]) {
    for (id, content) in files {
        let answer = client.get(&format!("/v1/files/{id}/content")).await;
        assert!(answer.status == 200 && answer.bytes == *content, "{id}: {}", answer.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_stop_at_the_reserve_and_runs_wait_for_room() {
    let Some(disk) = disk(96) else { return };
    let mut service = service_on(&disk, 32 * MIB).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let id = client.create_job(&file, json!({"n_epochs": 1})).await;
    while finetuned::app::validation::run_once(&service.app).await.unwrap() {}

    let kept = upload_until_full(&client, 5 * MIB).await;
    let free = free_bytes(disk.folder.path()).unwrap();
    assert!((27 * MIB..=37 * MIB).contains(&free), "{free}");
    assert!(kept.len() >= 8, "{}", kept.len());
    is_there(&client, &kept).await;
    assert_eq!(std::fs::read_dir(service.app.scratch()).unwrap().count(), 0);
    client.get("/readyz").await.good();

    // No upload, but something else takes a little more: no job is started.
    std::fs::write(disk.filler(), vec![0; (free - 30 * MIB) as usize]).unwrap();
    service.start_worker();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let waits = client.job(&id).await;
    assert_eq!((&waits["status"], &waits["attempts"]), (&json!("queued"), &json!([])));

    for (id, _) in &kept[..4] {
        client.delete(&format!("/v1/files/{id}")).await.good();
    }
    let job = client.wait_for_end(&id).await;
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert_eq!(job["attempts"].as_array().unwrap().len(), 1, "{job:#}");
    is_there(&client, &kept[4..]).await;
    client.upload_as("user_data", "more.bin", vec![7; 4 << 20]).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_saves_no_checkpoint_that_would_use_the_reserve() {
    let Some(disk) = disk(160) else { return };
    let runs = disk.folder.path().to_owned();
    let change = |config: &mut Config| {
        config.runs_dir = runs;
        config.reserve = Reserve(80 * MIB);
    };
    let mut service = Service::with(change).await;
    service.import_tiny_model().await;
    let (client, id) = start_slow_run(&mut service).await;
    fill_up_to(&disk, 38 * MIB);
    eventually("a warning", 60, async || {
        let warning = "was not saved: no room is left on the disk";
        client.messages(&id).await.iter().any(|message| message.contains(warning)).then_some(())
    })
    .await;
    assert!(free_bytes(disk.folder.path()).unwrap() > 30 * MIB);
    disk.free();
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["status"], job["attempts"].as_array().unwrap().len()), (&json!("succeeded"), 1), "{job:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_before_it_takes_the_databases_room_and_goes_on_when_there_is_some() {
    let Some(disk) = disk(96) else { return };
    let mut service = service_on(&disk, 40 * MIB).await;
    let (client, id) = start_slow_run(&mut service).await;
    fill_up_to(&disk, 6 * MIB);
    let job = client.wait_for(&id, &["queued"], 30).await;
    let attempt = &job["attempts"][0];
    assert_eq!((&attempt["outcome"], &attempt["cause"]), (&json!("crashed"), &json!("out_of_storage")), "{job:#}");
    disk.free();
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["status"], job["attempts"].as_array().unwrap().len()), (&json!("succeeded"), 2), "{job:#}");
}

/// The whole service with its private database on a disk of 400 MB, which uploads and a run fill to the reserve, and then
/// something else to the last byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_nothing_that_was_acknowledged() {
    let Some(disk) = disk(400) else { return };
    let folder = disk.folder.path();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
    let settings = [("FINETUNED_MIN_FREE_BYTES", 100 * MIB)].map(|(name, value)| (name.to_owned(), value.to_string()));
    let fleet = Fleet::new(folder, settings.into());
    let key = fleet.set_up_in("site");
    let (service, address) = fleet.start_service("site", "127.0.0.1:0").await;
    let client = Client::new(&address, Some(&key));
    let file = client.upload("data.csv", data::csv(100)).await;
    let hyperparameters = json!({"n_epochs": 4, "batch_size": 8, "precision": "fp32", "checkpoint_interval": 2});
    let running = client.create_job(&file, hyperparameters.clone()).await;
    let kept = upload_until_full(&client, 8 * MIB).await;
    assert!(free_bytes(folder).unwrap() > 85 * MIB, "PostgreSQL has room");
    is_there(&client, &kept).await;
    let ended = client.wait_for_end(&running).await;
    assert_eq!(ended["status"], "succeeded", "uploads do not make a run fail: {ended:#}");

    // Now something that knows of no reserve. PostgreSQL may die of it, and comes back.
    disk.fill();
    for _ in 0..5 {
        let body = json!({"model": "tiny-bert", "training_file": file});
        let create = client.request(reqwest::Method::POST, "/v1/fine_tuning/jobs").json(&body);
        let _ = client.send(create).await;
    }
    disk.free();
    eventually("the service to be back", 90, async || (client.try_get("/readyz").await == Some(200)).then_some(()))
        .await;
    is_there(&client, &kept).await;
    for (id, _) in &kept[..kept.len() - 2] {
        client.delete(&format!("/v1/files/{id}")).await.good();
    }
    is_there(&client, &kept[kept.len() - 2..]).await;
    let after = client.create_job(&file, json!({"n_epochs": 1})).await;
    let job = client.wait_for_end(&after).await;
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert!(service.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_files_make_room_at_once() {
    let Some(disk) = disk(64) else { return };
    let service = service_on(&disk, 24 * MIB).await;
    let client = service.client();
    let kept = upload_until_full(&client, 6 * MIB).await;
    client.delete(&format!("/v1/files/{}", kept[0].0)).await.good();
    sweep::run_once(&service.app).await.unwrap();
    client.upload_as("user_data", "again.bin", vec![1; 5 << 20]).await.good();
}
