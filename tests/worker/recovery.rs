//! A worker with real trainers that are killed, cancelled, and shut down, and with trainers that misbehave by script.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::support::data;
use super::support::fleet::trainers_in;
use super::support::service::{Service, eventually};

/// A job that trains for a while: some hundred steps, with a checkpoint every `checkpoints` of them.
async fn long_job(service: &Service, checkpoints: u64) -> String {
    let file = service.client().upload("data.csv", data::csv(300)).await;
    let hyperparameters =
        json!({"n_epochs": 12, "batch_size": 8, "checkpoint_interval": checkpoints, "precision": "fp32"});
    service.client().create_job(&file, hyperparameters).await
}

/// Waits until a job has stored a checkpoint and has done at least `step` steps.
async fn wait_for_checkpoint(service: &Service, id: &str, step: u64) {
    wait_for_step(service, id, step).await;
    eventually("a checkpoint", 60, async || {
        let checkpoints = service.client().get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
        (!checkpoints["data"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
}

/// Waits until a job has done at least `step` steps.
async fn wait_for_step(service: &Service, id: &str, step: u64) -> Value {
    eventually("steps", 60, async || {
        let job = service.client().job(id).await;
        assert!(!["succeeded", "failed"].contains(&job["status"].as_str().unwrap()), "it ended early: {job}");
        (job["progress"]["step"].as_u64().unwrap_or(0) >= step).then_some(job)
    })
    .await
}

async fn free_slots(service: &Service) -> i64 {
    sqlx::query_scalar("select count(*) from slots where job_id is null")
        .fetch_one(service.app.db.pool())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_trainer_is_recorded_and_the_job_goes_on_from_its_checkpoint() {
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let id = long_job(&service, 40).await;
    wait_for_checkpoint(&service, &id, 60).await;
    let trainers = trainers_in(&service.app.runs());
    assert_eq!(trainers.len(), 1);
    kill(Pid::from_raw(trainers[0]), Signal::SIGKILL).unwrap();
    let job = service.client().wait_for_end(&id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let (first, second) = (&job["attempts"][0], &job["attempts"][1]);
    assert_eq!(
        (&first["outcome"], &first["cause"], &first["signal"]),
        (&json!("crashed"), &json!("signal"), &json!(9))
    );
    assert_eq!(first["detail"], "the training process was killed by SIGKILL");
    assert_eq!(second["outcome"], "succeeded");
    assert!(second["start_step"].as_u64().unwrap() >= 40, "{second}");
    let messages = service.client().messages(&id).await;
    assert!(
        messages.iter().any(|m| m.starts_with("Attempt 1 ended early: the training process was killed")),
        "{messages:#?}"
    );
    assert!(messages.iter().any(|m| m.starts_with("Fine-tuning job goes on from step")), "{messages:#?}");
    let rows = service.client().get(&format!("/v1/fine_tuning/jobs/{id}/metrics")).await.good();
    let steps: Vec<u64> = rows["data"].as_array().unwrap().iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert!(steps.iter().copied().eq(1..=steps.len() as u64), "no gap, no step twice");
    assert!(trainers_in(&service.app.runs()).is_empty());
    assert_eq!(free_slots(&service).await, 1);
}

/// A cancelled job is cancelled at once, its trainer gone and its slot free soon after, and nothing of it comes later.
async fn cancel_and_check(service: &Service, id: &str) {
    let job = service.client().post(&format!("/v1/fine_tuning/jobs/{id}/cancel")).await.good();
    assert_eq!(job["status"], "cancelled");
    let runs = service.app.runs();
    eventually("the trainer to be gone", 5, async || trainers_in(&runs).is_empty().then_some(())).await;
    eventually("the slot to be free", 5, async || (free_slots(service).await == 1).then_some(())).await;
    let after = service.client().job(id).await;
    assert_eq!(
        (&after["status"], &after["fine_tuned_model"], &after["error"]),
        (&json!("cancelled"), &json!(null), &json!(null))
    );
    if let Some(attempt) = after["attempts"].as_array().unwrap().last() {
        assert_eq!(attempt["outcome"], "cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_can_be_cancelled_while_it_is_queued_running_and_evaluating() {
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let client = service.client();
    let running = long_job(&service, 1000).await;
    let queued = long_job(&service, 1000).await;
    wait_for_step(&service, &running, 5).await;
    client.wait_for(&queued, &["queued"], 10).await;
    let job = client.post(&format!("/v1/fine_tuning/jobs/{queued}/cancel")).await.good();
    assert_eq!((&job["status"], &job["attempts"]), (&json!("cancelled"), &json!([])));
    assert_eq!(client.job(&running).await["status"], "running");
    cancel_and_check(&service, &running).await;

    let training = client.upload("data.csv", data::csv(30)).await;
    let validation = client.upload("large.csv", data::csv(60_000)).await;
    let body = json!({"model": "tiny-bert", "training_file": training, "validation_file": validation,
                      "hyperparameters": {"n_epochs": 2, "precision": "fp32"}});
    let evaluating = client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned();
    eventually("the evaluation", 60, async || {
        let job = client.job(&evaluating).await;
        assert!(job["finished_at"].is_null(), "it ended early: {job}");
        (job["phase"] == "evaluating").then_some(())
    })
    .await;
    cancel_and_check(&service, &evaluating).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_shuts_down_saves_a_checkpoint_and_the_next_one_goes_on() {
    let mut service = Service::with_worker().await;
    service.import_tiny_model().await;
    let id = long_job(&service, 1000).await;
    wait_for_step(&service, &id, 20).await;
    service.stop_worker().await;
    let db = finetuned::db::Db::connect(&service.app.config.database_url.as_ref().unwrap().0, 2).await.unwrap();
    let (status, step): (String, i64) = sqlx::query_as("select status, (select max(step) from checkpoints) from jobs")
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(status, "queued");
    assert!(step >= 20, "{step}");
    assert!(trainers_in(&service.app.runs()).is_empty());

    let shutdown = tokio_util::sync::CancellationToken::new();
    let identity = finetuned::worker::Identity::take(service.state.path()).unwrap();
    let next = tokio::spawn(finetuned::worker::run(service.app.clone(), identity, shutdown.clone()));
    eventually("the job to end", 60, async || {
        let (status,): (String,) = sqlx::query_as("select status from jobs").fetch_one(db.pool()).await.unwrap();
        (status == "succeeded").then_some(())
    })
    .await;
    let attempts: Vec<(String, i64)> =
        sqlx::query_as("select outcome, start_step from attempts order by attempt").fetch_all(db.pool()).await.unwrap();
    assert_eq!(attempts, [("shut_down".to_owned(), 0), ("succeeded".to_owned(), step)]);
    shutdown.cancel();
    next.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_lease_is_taken_kills_its_trainer_and_writes_nothing_more() {
    let mut service = Service::with(|config| config.lease = Duration::from_secs(20)).await;
    service.start_worker();
    service.import_tiny_model().await;
    let id = long_job(&service, 20).await;
    wait_for_step(&service, &id, 30).await;
    // As if the database had given the job to a worker that is not there.
    sqlx::query(
        "update jobs set lease_token = gen_random_uuid(), worker_id = null, lease_until = now() + interval '1 hour'",
    )
    .execute(service.app.db.pool())
    .await
    .unwrap();
    let runs = service.app.runs();
    eventually("the trainer to be gone", 6, async || trainers_in(&runs).is_empty().then_some(())).await;
    let count = async || -> (i64, i64) {
        sqlx::query_as("select (select count(*) from metrics), (select count(*) from checkpoints)")
            .fetch_one(service.app.db.pool())
            .await
            .unwrap()
    };
    let before = count().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(count().await, before);
    assert_eq!(service.client().job(&id).await["status"], "running", "the other holder's job is left alone");
}

/// A stand-in for the trainer: a shell script.
pub fn script(folder: &Path, body: &str) -> std::path::PathBuf {
    let path = folder.join("trainer.sh");
    let probe = r#"if [ "$1" = devices ]; then echo '{"cuda":0,"cpu_bf16":false}'; exit; fi"#;
    let check = format!("if [ \"$1\" = check ]; then echo '{}'; exit; fi", data::TINY_CHECKED);
    std::fs::write(&path, format!("#!/bin/sh\n{probe}\n{check}\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

pub async fn with_script(body: &str) -> (Service, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let trainer = script(folder.path(), body);
    let mut service = Service::with(|config| config.trainer = trainer).await;
    service.import_tiny_model().await;
    service.start_worker();
    (service, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_always_crashes_fails_with_its_causes_and_others_go_on() {
    let (service, _folder) = with_script("echo 'no such tensor' >&2; kill -SEGV $$").await;
    let file = service.client().upload("data.csv", data::csv(30)).await;
    let (first, second) =
        (service.client().create_job(&file, json!({})).await, service.client().create_job(&file, json!({})).await);
    for id in [first, second] {
        let job = service.client().wait_for_end(&id).await;
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("training_crashed")));
        assert!(job["error"]["message"].as_str().unwrap().contains("SIGSEGV"), "{}", job["error"]);
        let attempts = job["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 3);
        for attempt in attempts {
            assert_eq!((&attempt["outcome"], &attempt["signal"]), (&json!("crashed"), &json!(11)));
            assert_eq!(attempt["stderr_tail"], "no such tensor");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_the_trainer_reports_is_final() {
    let message = r#"{"type":"failed","error":{"code":"non_finite_loss","message":"too large","param":null}}"#;
    let (service, _folder) = with_script(&format!("echo '{message}'; exit 1")).await;
    let file = service.client().upload("data.csv", data::csv(30)).await;
    let id = service.client().create_job(&file, json!({})).await;
    let job = service.client().wait_for_end(&id).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"], &job["error"]["message"]),
        (&json!("failed"), &json!("non_finite_loss"), &json!("too large"))
    );
    assert_eq!(job["attempts"].as_array().unwrap().len(), 1);
    assert_eq!((&job["attempts"][0]["outcome"], &job["attempts"][0]["exit_code"]), (&json!("failed"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_ignores_everything_is_killed_with_its_children() {
    let (service, _folder) =
        with_script("trap '' TERM INT; sleep 600 & echo noise; while true; do sleep 600; done").await;
    let file = service.client().upload("data.csv", data::csv(30)).await;
    let id = service.client().create_job(&file, json!({})).await;
    let runs = service.app.runs();
    eventually("the trainer", 20, async || (trainers_in(&runs).len() >= 3).then_some(())).await;
    cancel_and_check(&service, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finish_without_a_model_is_a_crash() {
    let message = r#"{"type":"finished","step":1,"trained_tokens":1,"evaluation":{}}"#;
    let (service, _folder) = with_script(&format!("echo '{message}'")).await;
    let file = service.client().upload("data.csv", data::csv(30)).await;
    let id = service.client().create_job(&file, json!({})).await;
    let job = service.client().wait_for_end(&id).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("training_crashed")));
    assert!(job["error"]["message"].as_str().unwrap().contains("results could not be stored"), "{}", job["error"]);
}

/// A service whose worker was stopped in the middle of a job with several checkpoints.
struct Interrupted {
    service: Service,
    db: finetuned::db::Db,
}

impl Interrupted {
    async fn new() -> Self {
        let mut service = Service::with_worker().await;
        service.import_tiny_model().await;
        let id = long_job(&service, 20).await;
        wait_for_step(&service, &id, 70).await;
        service.stop_worker().await;
        let url = &service.app.config.database_url.as_ref().unwrap().0;
        let db = finetuned::db::Db::connect(url, 2).await.unwrap();
        Self { service, db }
    }

    /// Flips a bit in the weights of every checkpoint that could be gone on from, but for the `spared` oldest; returns
    /// their steps, latest first.
    async fn damage_checkpoints(&self, spared: usize) -> Vec<i64> {
        let resumable: Vec<(i64, String)> = sqlx::query_as(
            "select c.step, f.object_key from checkpoints c join model_files f using (model_id) \
             where c.resumable and c.dropped_at is null and f.path = 'model.safetensors' order by c.step desc",
        )
        .fetch_all(self.db.pool())
        .await
        .unwrap();
        for (_, key) in &resumable[..resumable.len() - spared] {
            let path = self.service.objects().join(key);
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        resumable.into_iter().map(|(step, _)| step).collect()
    }

    /// Runs a new worker until the job has ended, and returns its status and error.
    async fn run_to_end(&self) -> (String, Option<Value>) {
        let shutdown = tokio_util::sync::CancellationToken::new();
        let identity = finetuned::worker::Identity::take(self.service.state.path()).unwrap();
        let worker = tokio::spawn(finetuned::worker::run(self.service.app.clone(), identity, shutdown.clone()));
        let ended = eventually("the job to end", 60, async || {
            let (status, error): (String, Option<Value>) =
                sqlx::query_as("select status, error from jobs").fetch_one(self.db.pool()).await.unwrap();
            ["succeeded", "failed"].contains(&status.as_str()).then_some((status, error))
        })
        .await;
        shutdown.cancel();
        worker.await.unwrap().unwrap();
        ended
    }

    async fn warnings(&self) -> i64 {
        sqlx::query_scalar("select count(*) from events where message like '%is damaged and is passed over'")
            .fetch_one(self.db.pool())
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_passed_over() {
    let job = Interrupted::new().await;
    let steps = job.damage_checkpoints(1).await;
    assert_eq!(steps.len(), 2, "the latest two can be gone on from");
    assert_eq!(job.run_to_end().await.0, "succeeded");
    let start: i64 = sqlx::query_scalar("select max(start_step) from attempts").fetch_one(job.db.pool()).await.unwrap();
    assert_eq!((start, job.warnings().await), (steps[1], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_checkpoints_are_all_damaged_fails_rather_than_starting_over() {
    let job = Interrupted::new().await;
    job.damage_checkpoints(0).await;
    let (status, error) = job.run_to_end().await;
    assert_eq!((status.as_str(), &error.unwrap()["code"]), ("failed", &json!("invalid_checkpoint")));
    assert_eq!(job.warnings().await, 2);
}
