//! Trainers that wait for a job.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::support::data;
use super::support::fleet::{processes_in, spares_in, trainers_in};
use super::support::service::{Service, eventually};

/// A service with a worker that keeps a trainer waiting.
async fn with_spare() -> Service {
    let mut service = Service::with(|config| config.spare_trainers = true).await;
    service.import_tiny_model().await;
    service.start_worker();
    service
}

async fn spare(service: &Service) -> i32 {
    let runs = service.app.runs();
    eventually("a trainer that waits", 30, async || spares_in(&runs).first().copied()).await
}

/// A job on one file, and the trainer that works on it.
async fn begun(service: &Service, epochs: u32) -> (String, i32) {
    let file = service.client().upload("data.csv", data::csv(300)).await;
    let hyperparameters = json!({"n_epochs": epochs, "batch_size": 8, "precision": "fp32"});
    let id = service.client().create_job(&file, hyperparameters).await;
    let runs = service.app.runs();
    let trainer = eventually("the trainer", 60, async || trainers_in(&runs).first().copied()).await;
    (id, trainer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_trained_by_the_trainer_that_waited_and_the_next_one_finds_another() {
    let mut service = with_spare().await;
    let runs = service.app.runs();
    let first = spare(&service).await;
    let (id, trainer) = begun(&service, 2).await;
    assert_eq!(trainer, first);
    assert_eq!(service.client().wait_for_end(&id).await["status"], "succeeded");
    let second = spare(&service).await;
    assert_ne!(second, first);
    assert!(trainers_in(&runs).is_empty());
    let (id, trainer) = begun(&service, 2).await;
    assert_eq!(trainer, second);
    assert_eq!(service.client().wait_for_end(&id).await["status"], "succeeded");
    service.stop_worker().await;
    assert!(processes_in(&runs).is_empty());
    assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 0, "no folder is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_may_die() {
    let service = with_spare().await;
    let waiting = spare(&service).await;
    kill(Pid::from_raw(waiting), Signal::SIGKILL).unwrap();
    let (id, trainer) = begun(&service, 1).await;
    assert_ne!(trainer, waiting);
    let job = service.client().wait_for_end(&id).await;
    assert_eq!((&job["status"], job["attempts"].as_array().unwrap().len()), (&json!("succeeded"), 1), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn none_waits_where_none_is_wanted() {
    let mut service = Service::api().await;
    service.import_tiny_model().await;
    service.start_worker();
    let (id, _) = begun(&service, 1).await;
    assert!(spares_in(&service.app.runs()).is_empty());
    assert_eq!(service.client().wait_for_end(&id).await["status"], "succeeded");
    assert!(spares_in(&service.app.runs()).is_empty());
}
