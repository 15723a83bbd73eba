//! A training that was interrupted gives the same bits as one that was not: the model, every metric and what is known of
//! each example, wherever it was interrupted and in whatever way.

use futures_util::StreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use finetuned::domain::hex::hex;
use finetuned::failpoint::Failpoints;

use super::support::data;
use super::support::service::{Service, eventually};

const STEPS: u64 = 30;
/// Services side by side; each waits most of the time.
const LANES: usize = 6;

/// What must not depend on interruptions: the hash of the weights, of all metrics, and of the statistics of all examples.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits {
    model: String,
    metrics: String,
    examples: String,
}

/// A service whose worker starts with these failpoints when it is told to.
async fn service() -> Service {
    let service = Service::api().await;
    service.import_tiny_model().await;
    service
}

fn start_worker(service: &mut Service, failpoints: &str) {
    service.app.failpoints = Failpoints::parse(failpoints).unwrap();
    service.start_worker();
}

/// A job of 30 steps, two batches each, that saves every 4 and evaluates every 7.
async fn create_job(service: &Service, precision: &str) -> String {
    let client = service.client();
    let (training, validation) =
        (client.upload("data.csv", data::csv(80)).await, client.upload("validation.csv", data::csv(12)).await);
    let hyperparameters = json!({
        "n_epochs": 3, "batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 5e-3,
        "checkpoint_interval": 4, "eval_interval": 7, "precision": precision,
    });
    let body = json!({"model": "tiny-bert", "training_file": training, "validation_file": validation, "seed": 7,
                      "hyperparameters": hyperparameters});
    client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned()
}

/// Waits for the job to succeed and says what it made.
async fn bits(service: &Service, id: &str) -> (Bits, Value) {
    let client = service.client();
    let job = client.wait_for_end(id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let name = job["fine_tuned_model"].as_str().unwrap().replace('/', "%2F");
    let weights = client.get(&format!("/v1/models/{name}/files/model.safetensors")).await;
    assert_eq!(weights.status, 200);
    let rows = client.metrics(id).await;
    assert_eq!(rows.as_array().unwrap().len() as u64, STEPS, "every step once");
    let examples = client.get(&format!("/v1/fine_tuning/jobs/{id}/examples?limit=1000")).await.good()["data"].clone();
    assert_eq!(examples.as_array().unwrap().iter().filter(|example| example["epochs"] == 3).count(), 80);
    let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    let (metrics, examples) = (hash(rows.to_string().as_bytes()), hash(examples.to_string().as_bytes()));
    (Bits { model: hash(&weights.bytes), metrics, examples }, job)
}

/// What an uninterrupted job makes.
async fn uninterrupted(precision: &str) -> Bits {
    let mut service = service().await;
    start_worker(&mut service, "");
    let id = create_job(&service, precision).await;
    let (bits, job) = bits(&service, &id).await;
    assert_eq!(job["attempts"].as_array().unwrap().len(), 1);
    bits
}

/// Kills the trainer after each step in turn.
async fn killed_after_every_step(precision: &'static str) {
    let expected = &uninterrupted(precision).await;
    let same = futures_util::stream::iter(1..=STEPS)
        .map(|step| async move {
            let mut service = service().await;
            start_worker(&mut service, &format!("1:trainer.step=kill@{step}"));
            let id = create_job(&service, precision).await;
            let (bits, job) = bits(&service, &id).await;
            let attempts = job["attempts"].as_array().unwrap();
            assert_eq!((attempts.len(), &attempts[0]["signal"]), (2, &json!(9)), "step {step}");
            let start = attempts[1]["start_step"].as_u64().unwrap();
            assert!(start <= step && start.is_multiple_of(4), "killed after {step}, went on from {start}");
            assert_eq!(&bits, expected, "killed after step {step}, went on from {start}");
            service.stop_worker().await;
        })
        .buffer_unordered(LANES)
        .count()
        .await;
    println!("{precision}: killed after each of {same} steps, {same} times the same bits");
    assert_eq!(same as u64, STEPS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_after_any_step_ends_with_the_same_bits_in_fp32() {
    killed_after_every_step("fp32").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_after_any_step_ends_with_the_same_bits_in_bf16() {
    killed_after_every_step("bf16").await;
}

/// Waits for a step, or for the job to be done.
async fn wait_for_step(service: &Service, id: &str, step: u64) {
    eventually("a step", 60, async || {
        let job = service.client().job(id).await;
        (job["status"] == "succeeded" || job["progress"]["step"].as_u64().unwrap_or(0) >= step).then_some(())
    })
    .await;
}

/// How often a job is tried that ends before it is interrupted, as on a machine with much else to do.
const TRIES: usize = 5;

/// Interrupts a job at five places of its run, with steps slow enough to hit them. `interrupt` says whether it was in time.
async fn interrupted_five_times(interrupt: impl AsyncFn(&mut Service, &str) -> bool) {
    for precision in ["fp32", "bf16"] {
        let expected = uninterrupted(precision).await;
        let mut service = service().await;
        let mut in_time = false;
        for _ in 0..TRIES {
            start_worker(&mut service, "trainer.step=slow");
            let id = create_job(&service, precision).await;
            in_time = true;
            for step in [2, 7, 13, 19, 26] {
                wait_for_step(&service, &id, step).await;
                in_time = interrupt(&mut service, &id).await;
                if !in_time {
                    break;
                }
            }
            let (bits, job) = bits(&service, &id).await;
            assert_eq!(bits, expected, "{precision}");
            service.stop_worker().await;
            if in_time {
                assert_eq!(job["attempts"].as_array().unwrap().len(), 6, "{job}");
                break;
            }
        }
        assert!(in_time, "{precision}: each of {TRIES} runs ended before it was interrupted five times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_paused_and_resumed_ends_with_the_same_bits() {
    interrupted_five_times(async |service, id| {
        let client = service.client();
        let paused = client.post(&format!("/v1/fine_tuning/jobs/{id}/pause")).await;
        if client.job(id).await["status"] == "succeeded" {
            return false;
        }
        assert_eq!(paused.good()["status"], "paused");
        let resumed = client.post(&format!("/v1/fine_tuning/jobs/{id}/resume")).await.good();
        assert_eq!(resumed["status"], "queued");
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_drained_from_its_worker_ends_with_the_same_bits() {
    interrupted_five_times(async |service, id| {
        service.stop_worker().await;
        let job = service.client().job(id).await;
        if job["status"] == "succeeded" {
            return false;
        }
        assert_eq!(
            (&job["status"], job["attempts"].as_array().unwrap().last().unwrap()["cause"].as_str()),
            (&json!("queued"), Some("worker_shut_down"))
        );
        start_worker(service, "trainer.step=slow");
        true
    })
    .await;
}
