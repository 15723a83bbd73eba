//! Runs that do not fit: told before they start, with figures; and disks that fill up.

use std::time::Duration;

use finetuned::worker::upkeep::unattended;
use serde_json::{Value, json};

use super::support::data;
use super::support::service::{Service, eventually};

fn set_machine(
    memory: Option<i64>,
    disk: Option<i64>,
) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
    sqlx::query("insert into workers (id, host, memory, free_disk) values (gen_random_uuid(), 'small', $1, $2)")
        .bind(memory)
        .bind(disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fits_on_no_worker_fails_before_it_is_queued() {
    for (memory, disk, code, part) in [
        (Some(64 << 20), Some(1 << 40), "insufficient_memory", "of memory"),
        (Some(1 << 40), Some(1 << 10), "insufficient_storage", "of disk"),
    ] {
        let service = Service::api().await;
        service.import_tiny_model().await;
        set_machine(memory, disk).execute(service.app.db.pool()).await.unwrap();
        let file = service.client().upload("data.csv", data::csv(30)).await;
        let id = service.client().create_job(&file, json!({})).await;
        while finetuned::app::validation::run_once(&service.app).await.unwrap() {}
        let job = service.client().job(&id).await;
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!(code)), "{job}");
        let message = job["error"]["message"].as_str().unwrap();
        assert!(message.contains(part) && message.matches("GiB").count() == 2, "{message}");
        assert_eq!(job["attempts"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_while_the_disk_that_it_needs_is_full() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    set_machine(Some(1 << 40), Some(1 << 10)).execute(service.app.db.pool()).await.unwrap();
    let set = async |what: &'static str| sqlx::query(what).execute(service.app.db.pool()).await.unwrap();
    set("update workers set disk = 1::bigint << 40").await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let id = client.create_job(&file, json!({})).await;
    while finetuned::app::validation::run_once(&service.app).await.unwrap() {}
    assert_eq!(client.job(&id).await["status"], "queued", "room may come");
    unattended::run_once(&service.app, Duration::ZERO).await.unwrap();
    let waits = "The job waits: no worker has the memory and the disk that it needs. It starts when there is one";
    assert!(client.messages(&id).await.contains(&waits.to_owned()));

    // Where there is room nothing is told.
    set("update workers set free_disk = disk").await;
    let id = client.create_job(&file, json!({"n_epochs": 1})).await;
    while finetuned::app::validation::run_once(&service.app).await.unwrap() {}
    unattended::run_once(&service.app, Duration::ZERO).await.unwrap();
    assert!(client.messages(&id).await.iter().all(|message| !message.starts_with("The job waits")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_no_job_that_its_machine_has_no_room_for() {
    let mut service = Service::api().await;
    service.import_tiny_model().await;
    let file = service.client().upload("data.csv", data::csv(30)).await;
    let large = service.client().create_job(&file, json!({"n_epochs": 1})).await;
    let small = service.client().create_job(&file, json!({"n_epochs": 1})).await;
    while finetuned::app::validation::run_once(&service.app).await.unwrap() {}
    let needs = async |id: &str, bytes: i64| {
        let id = uuid::Uuid::parse_str(id.trim_start_matches("ftjob-")).unwrap();
        let update = sqlx::query("update jobs set needed_memory = $2 where id = $1").bind(id).bind(bytes);
        update.execute(service.app.db.pool()).await.unwrap();
    };
    needs(&large, 1 << 50).await;
    service.start_worker();
    assert_eq!(service.client().wait_for_end(&small).await["status"], "succeeded");
    assert_eq!(service.client().job(&large).await["status"], "queued", "it waits for a larger machine");
}

async fn dry_run(service: &Service, body: Value) -> Value {
    let mut whole = json!({"model": "tiny-bert", "dry_run": true, "seed": 3});
    whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    service.client().post_json("/v1/fine_tuning/jobs", &whole).await.good()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_everything_and_creates_nothing() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let (good, bad) = (
        client.upload("data.csv", data::csv(100)).await,
        client.upload("bad.csv", format!("{}x,\n", data::csv(30))).await,
    );
    let hyperparameters = json!({"n_epochs": 2, "batch_size": 8});
    let dry = dry_run(&service, json!({"training_file": good, "hyperparameters": hyperparameters})).await;
    assert_eq!(
        (&dry["object"], &dry["ready"], &dry["error"]),
        (&json!("fine_tuning.job.dry_run"), &json!(true), &json!(null))
    );
    assert_eq!((&dry["hyperparameters"]["n_epochs"], &dry["seed"]), (&json!(2), &json!(3)));
    assert!(dry["method"]["text_classification"]["hyperparameters"]["learning_rate"].is_f64());
    assert_eq!(dry["labels"], json!(["card", "rate", "top up"]));
    let estimate = &dry["estimate"];
    assert_eq!((&estimate["training_examples"], &estimate["validation_examples"]), (&json!(90), &json!(10)));
    assert_eq!((&estimate["steps_per_epoch"], &estimate["total_steps"]), (&json!(12), &json!(24)));
    assert!(
        estimate["peak_memory_bytes"].as_u64().unwrap() > 100 << 20
            && estimate["disk_bytes"].as_u64().unwrap() > 1 << 20
    );

    let dry = dry_run(&service, json!({"training_file": bad})).await;
    assert_eq!((&dry["ready"], &dry["error"]["code"]), (&json!(false), &json!("invalid_training_file")));
    assert_eq!(dry["validation"]["training"]["faults"]["listed"][0]["line"], 32);

    set_machine(Some(64 << 20), None).execute(service.app.db.pool()).await.unwrap();
    let dry = dry_run(&service, json!({"training_file": good})).await;
    assert_eq!((&dry["ready"], &dry["error"]["code"]), (&json!(false), &json!("insufficient_memory")));
    assert!(dry["estimate"]["total_steps"].is_u64(), "what does not fit is shown all the same");

    let wrong =
        json!({"model": "tiny-bert", "dry_run": true, "training_file": good, "hyperparameters": {"n_epochs": 0}});
    assert_eq!(client.post_json("/v1/fine_tuning/jobs", &wrong).await.error().0, 400);
    assert_eq!(client.get("/v1/fine_tuning/jobs").await.good()["data"], json!([]));
    let events: i64 = sqlx::query_scalar("select count(*) from events").fetch_one(service.app.db.pool()).await.unwrap();
    assert_eq!(events, 0);
}

/// A file system of its own, so small that a run fills it. Only root can mount one; others skip this.
pub struct SmallDisk {
    pub folder: tempfile::TempDir,
}

impl SmallDisk {
    pub fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "none"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { folder })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

impl SmallDisk {
    pub fn filler(&self) -> std::path::PathBuf {
        self.folder.path().join("filler")
    }

    pub fn fill(&self) {
        let mut filler = std::fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        while std::io::Write::write(&mut filler, &[1; 4096]).is_ok_and(|written| written > 0) {}
    }

    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

async fn service_on(disk: &SmallDisk) -> Service {
    let runs = disk.folder.path().to_owned();
    let change = |config: &mut finetuned::config::Config| {
        config.runs_dir = runs;
        config.reserve = finetuned::disk::Reserve(0);
    };
    let service = Service::with(change).await;
    service.import_tiny_model().await;
    service
}

async fn create_job(service: &Service) -> String {
    let file = service.client().upload("data.csv", data::csv(100)).await;
    let hyperparameters = json!({"n_epochs": 2, "batch_size": 8, "precision": "fp32", "checkpoint_interval": 3});
    service.client().create_job(&file, hyperparameters).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_costs_a_checkpoint_and_not_the_run() {
    let Some(disk) = SmallDisk::mount(48) else {
        println!("skipped: mounting a small file system needs root");
        return;
    };
    let mut service = service_on(&disk).await;
    service.app.failpoints = finetuned::failpoint::Failpoints::parse("trainer.step=slow").unwrap();
    service.start_worker();
    let id = create_job(&service).await;
    eventually("steps", 60, async || {
        (service.client().job(&id).await["progress"]["step"].as_u64().unwrap_or(0) >= 2).then_some(())
    })
    .await;
    let warning = "was not saved: no room is left on the disk";
    eventually("a warning", 30, async || {
        // Again and again: a checkpoint that was stored leaves room behind.
        disk.fill();
        service.client().messages(&id).await.iter().any(|message| message.contains(warning)).then_some(())
    })
    .await;
    disk.free();
    let job = service.client().wait_for_end(&id).await;
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert_eq!(job["attempts"].as_array().unwrap().len(), 1, "{job:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_room_fails_and_says_so_and_others_run_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(48) else {
        println!("skipped: mounting a small file system needs root");
        return;
    };
    let mut service = service_on(&disk).await;
    let id = create_job(&service).await;
    while finetuned::app::validation::run_once(&service.app).await.unwrap() {}
    // As if there had been room when the job was looked at.
    sqlx::query("update jobs set needed_disk = null").execute(service.app.db.pool()).await.unwrap();
    disk.fill();
    service.start_worker();
    let job = service.client().wait_for_end(&id).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("out_of_storage")), "{job:#}");
    assert_eq!(job["attempts"][0]["cause"], "out_of_storage");
    service.client().get("/readyz").await.good();
    disk.free();
    eventually("the worker to notice", 20, async || {
        let free: Option<i64> =
            sqlx::query_scalar("select max(free_disk) from workers").fetch_one(service.app.db.pool()).await.unwrap();
        (free.unwrap() > 20 << 20).then_some(())
    })
    .await;
    let id = create_job(&service).await;
    assert_eq!(service.client().wait_for_end(&id).await["status"], "succeeded");
}
