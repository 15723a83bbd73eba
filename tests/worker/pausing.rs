//! Pausing and resuming: whatever a job is doing, and however often it is asked for.

use finetuned::failpoint::Failpoints;
use serde_json::{Value, json};

use super::support::data;
use super::support::fleet::trainers_in;
use super::support::service::{Service, eventually};

/// A service with a worker whose steps take a while, and one job.
async fn with_job() -> (Service, String) {
    let mut service = Service::api().await;
    service.import_tiny_model().await;
    service.app.failpoints = Failpoints::parse("trainer.step=slow").unwrap();
    service.start_worker();
    let id = create(&service).await;
    (service, id)
}

async fn create(service: &Service) -> String {
    let file = service.client().upload("data.csv", data::csv(100)).await;
    service.client().create_job(&file, json!({"n_epochs": 4, "batch_size": 8, "precision": "fp32"})).await
}

async fn call(service: &Service, id: &str, what: &str) -> Value {
    service.client().post(&format!("/v1/fine_tuning/jobs/{id}/{what}")).await.good()
}

async fn wait_for_step(service: &Service, id: &str, step: u64) {
    eventually("a step", 60, async || {
        (service.client().job(id).await["progress"]["step"].as_u64().unwrap_or(0) >= step).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_job_rests_with_a_checkpoint_and_without_a_slot() {
    let (service, id) = with_job().await;
    wait_for_step(&service, &id, 3).await;
    let paused = call(&service, &id, "pause").await;
    assert_eq!((&paused["status"], &paused["phase"], &paused["error"]), (&json!("paused"), &json!(null), &json!(null)));
    let attempt = &paused["attempts"][0];
    assert_eq!((&attempt["outcome"], &attempt["cause"]), (&json!("paused"), &json!("pause_requested")));
    assert!(trainers_in(&service.app.runs()).is_empty());
    let checkpoints = service.client().get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
    let step = checkpoints["data"][0]["step_number"].as_u64().unwrap();
    assert!(step >= 3, "{checkpoints}");
    assert_eq!(call(&service, &id, "pause").await["status"], "paused", "asking again is no error");

    // Its slot serves others meanwhile.
    let other = create(&service).await;
    assert_eq!(service.client().wait_for_end(&other).await["status"], "succeeded");
    assert_eq!(service.client().job(&id).await["status"], "paused");

    assert_eq!(call(&service, &id, "resume").await["status"], "queued");
    let job = service.client().wait_for_end(&id).await;
    assert_eq!((&job["status"], &job["attempts"][1]["start_step"]), (&json!("succeeded"), &json!(step)), "{job}");
    let messages = service.client().messages(&id).await;
    for message in ["Fine-tuning job paused", "Fine-tuning job resumed"] {
        assert_eq!(messages.iter().filter(|m| *m == message).count(), 1, "{messages:#?}");
    }
    for late in ["pause", "resume", "cancel"] {
        let answer = service.client().post(&format!("/v1/fine_tuning/jobs/{id}/{late}")).await;
        let (status, param, code, message) = answer.error();
        assert_eq!((status, param.as_deref(), code.as_deref()), (400, Some("fine_tune_id"), Some("invalid_state")));
        assert!(message.contains("is succeeded and cannot be"), "{message}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_paused_before_it_runs_and_cancelled_while_it_rests() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let id = create(&service).await;
    let early = service.client().post(&format!("/v1/fine_tuning/jobs/{id}/pause")).await.error();
    assert_eq!((early.0, early.2.as_deref()), (400, Some("invalid_state")), "its files are not checked yet");
    while finetuned::app::validation::run_once(&service.app).await.unwrap() {}
    assert_eq!(call(&service, &id, "pause").await["status"], "paused");
    assert_eq!(call(&service, &id, "resume").await["status"], "queued");
    assert_eq!(call(&service, &id, "resume").await["status"], "queued", "what is so already is no error");
    assert_eq!(call(&service, &id, "pause").await["status"], "paused");
    let cancelled = call(&service, &id, "cancel").await;
    assert_eq!((&cancelled["status"], &cancelled["attempts"]), (&json!("cancelled"), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_resumed_while_it_pauses_goes_on() {
    let (service, id) = with_job().await;
    wait_for_step(&service, &id, 2).await;
    let (paused, resumed) = tokio::join!(call(&service, &id, "pause"), async {
        eventually("the request", 10, async || {
            let job = service.client().job(&id).await;
            (job["phase"] == "pausing" || job["status"] == "paused").then_some(())
        })
        .await;
        call(&service, &id, "resume").await
    });
    assert!(["paused", "running", "queued"].contains(&paused["status"].as_str().unwrap()), "{paused}");
    assert!(["running", "queued"].contains(&resumed["status"].as_str().unwrap()), "{resumed}");
    assert_eq!(service.client().wait_for_end(&id).await["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_dies_while_its_job_pauses_leaves_a_paused_job() {
    let (mut service, id) = with_job().await;
    service.client().wait_for_end(&id).await;
    service.stop_worker().await;
    // The trainer hangs in its second step and hears no command.
    service.app.failpoints = Failpoints::parse("1:trainer.step=hang@2").unwrap();
    service.start_worker();
    let id = create(&service).await;
    let runs = service.app.runs();
    wait_for_step(&service, &id, 1).await;
    let (paused, ()) = tokio::join!(call(&service, &id, "pause"), async {
        eventually("the request", 10, async || (service.client().job(&id).await["phase"] == "pausing").then_some(()))
            .await;
        for pid in trainers_in(&runs) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    });
    assert_eq!(paused["status"], "paused", "{paused}");
    assert_eq!(call(&service, &id, "resume").await["status"], "queued");
    assert_eq!(service.client().wait_for_end(&id).await["status"], "succeeded");
}
