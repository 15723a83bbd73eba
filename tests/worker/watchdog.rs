//! Trainers that get nowhere, and trainers that run out of memory.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use finetuned::failpoint::Failpoints;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::support::data;
use super::support::fleet::trainers_in;
use super::support::service::{Service, eventually, trainer};

/// A service that calls so many seconds without progress a stall.
async fn impatient(stall: u64, failpoints: &str) -> Service {
    let mut service = Service::with(|config| config.stall = Duration::from_secs(stall)).await;
    service.import_tiny_model().await;
    service.app.failpoints = Failpoints::parse(failpoints).unwrap();
    service.start_worker();
    service
}

/// More seconds than a trainer needs to load where the machine does much else.
const LOADING: u64 = 15;

async fn create(service: &Service) -> String {
    let file = service.client().upload("data.csv", data::csv(100)).await;
    let hyperparameters = json!({"n_epochs": 4, "batch_size": 8, "precision": "fp32", "checkpoint_interval": 5});
    service.client().create_job(&file, hyperparameters).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_hangs_is_ended_with_its_stack_and_the_job_goes_on() {
    let service = impatient(LOADING, "trainer.step=slow,1:trainer.step=hang@12").await;
    let id = create(&service).await;
    let job = service.client().wait_for_end(&id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let first = &job["attempts"][0];
    assert_eq!((&first["outcome"], &first["cause"]), (&json!("crashed"), &json!("stalled")));
    assert!(first["detail"].as_str().unwrap().starts_with("the training process made no progress for 15 s"));
    let stack = first["stderr_tail"].as_str().unwrap();
    assert!(stack.contains("the training thread is at:") && stack.contains("training.rs"), "{stack}");
    // The checkpoint of step 10 was being written beside the steps, and may not have been whole when they ended.
    assert!([5, 10].contains(&job["attempts"][1]["start_step"].as_u64().unwrap()), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_was_stopped_is_ended_too() {
    let service = impatient(LOADING, "trainer.step=slow").await;
    let id = create(&service).await;
    let runs = service.app.runs();
    eventually("a step", 60, async || {
        (service.client().job(&id).await["progress"]["step"].as_u64().unwrap_or(0) >= 1).then_some(())
    })
    .await;
    kill(Pid::from_raw(trainers_in(&runs)[0]), Signal::SIGSTOP).unwrap();
    let job = service.client().wait_for_end(&id).await;
    assert_eq!((&job["status"], &job["attempts"][0]["cause"]), (&json!("succeeded"), &json!("stalled")), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_always_hangs_fails_and_says_so() {
    let service = impatient(2, "trainer.begin=hang@1").await;
    let id = create(&service).await;
    let job = service.client().wait_for_end(&id).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("training_stalled")), "{job}");
    assert_eq!(job["attempts"].as_array().unwrap().len(), 3);
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains("in attempt 1") && message.contains("in attempt 3"), "{message}");
}

/// The real trainer, allowed less memory than it needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_runs_out_of_memory_says_so_with_its_peak() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trainer.sh");
    let script = format!("#!/bin/sh\n[ \"$1\" = run ] && ulimit -d 170000\nexec {} \"$@\"\n", trainer().display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut service = Service::with(|config| config.trainer = path).await;
    service.import_tiny_model().await;
    service.start_worker();
    let long = "where is my new card ".repeat(20);
    let rows: String = (0..3000).map(|i| format!("{long},{}\n", if i % 2 == 0 { "card" } else { "rate" })).collect();
    let file = service.client().upload("data.csv", format!("text,label\n{rows}")).await;
    let hyperparameters =
        json!({"n_epochs": 1, "batch_size": 256, "gradient_accumulation_steps": 1, "precision": "fp32"});
    let id = service.client().create_job(&file, hyperparameters).await;
    let job = service.client().wait_for_end(&id).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("out_of_memory")), "{job:#}");
    let attempts = job["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3, "tried again within the budget");
    assert_eq!(attempts[0]["cause"], "out_of_host_memory", "{}", attempts[0]);
    assert!(attempts[0]["peak_memory_bytes"].as_u64().unwrap() > 100 << 20, "{}", attempts[0]);
}
