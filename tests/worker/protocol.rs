//! Trainers that were taken over by what they read and say anything: the service lives on, and so does its database.

use std::time::Duration;

use finetuned::failpoint::Failpoints;
use serde_json::{Value, json};

use super::recovery::{script, with_script};
use super::support::data;
use super::support::database;
use super::support::logs;
use super::support::service::{Service, eventually};

/// What a trainer of 200 steps begins with, and what ends the job with these words.
const STARTED: &str = concat!(
    r#"{"type":"started","device":"cpu","precision":"fp32","step":0,"total_steps":200,"training_examples":27,"#,
    r#""validation_examples":3,"truncated":0,"mean_tokens":5.0,"parameters":10}"#
);
const FAILED: &str = r#"{"type":"failed","error":{"code":"non_finite_loss","message":"all was heard","param":null}}"#;

async fn create(service: &Service) -> String {
    let file = service.client().upload("data.csv", data::csv(30)).await;
    service.client().create_job(&file, json!({})).await
}

/// Waits until the first attempt has ended, and cancels the job: the other attempts would end like it.
async fn first_attempt(service: &Service, id: &str) -> Value {
    let attempt = eventually("the end of the attempt", 30, async || {
        let attempt = service.client().job(id).await["attempts"][0].clone();
        attempt["outcome"].is_string().then_some(attempt)
    })
    .await;
    service.client().post(&format!("/v1/fine_tuning/jobs/{id}/cancel")).await.good();
    attempt
}

/// The trainer is read no further than to its end, which it reaches: its worker is still there.
async fn is_heard_to_the_end(service: &Service, id: &str) {
    let job = service.client().wait_for_end(id).await;
    assert_eq!((&job["status"], &job["error"]["message"]), (&json!("failed"), &json!("all was heard")), "{job:#}");
    assert_eq!(job["attempts"].as_array().unwrap().len(), 1, "{job:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_says_what_no_trainer_says_is_ended_and_the_cause_is_told() {
    let step = r#"{"type":"step","step":201,"epoch":1.0,"seconds":0.1,"metrics":{}}"#;
    // It would go on for ever.
    let (service, _folder) = with_script(&format!("echo '{STARTED}'; yes '{step}'")).await;
    let id = create(&service).await;
    let attempt = first_attempt(&service, &id).await;
    assert_eq!((&attempt["outcome"], &attempt["cause"]), (&json!("crashed"), &json!("engine_error")), "{attempt}");
    assert_eq!(attempt["detail"], "the training process said what it must not: step 201 of 200");
    let rows: i64 = sqlx::query_scalar("select count(*) from metrics").fetch_one(service.app.db.pool()).await.unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_took_longer_than_the_world_is_old_is_no_fault() {
    let step = r#"{"type":"step","step":1,"epoch":1.0,"seconds":1e18,"metrics":{"train_loss":1.0}}"#;
    let (service, _folder) = with_script(&format!("echo '{STARTED}'; echo '{step}'; sleep 2; echo '{FAILED}'")).await;
    let id = create(&service).await;
    is_heard_to_the_end(&service, &id).await;
    let rows = service.client().get(&format!("/v1/fine_tuning/jobs/{id}/metrics")).await.good();
    assert_eq!(rows["data"].as_array().unwrap().len(), 1, "{rows}");
}

/// More than may wait: the rest waits in the trainer's pipe, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_that_come_faster_than_they_are_stored_wait_their_turn() {
    let body = format!(
        r#"echo '{STARTED}'
        for step in $(seq 60); do
            echo '{{"type":"step","step":'$step',"epoch":1.0,"seconds":0.1,"metrics":{{"train_loss":1.0}}}}'
            echo '{{"type":"checkpoint","step":'$step',"directory":"checkpoints/none","metrics":{{}}}}'
        done
        echo '{FAILED}'"#
    );
    let (service, _folder) = with_script(&body).await;
    let id = create(&service).await;
    is_heard_to_the_end(&service, &id).await;
    let messages = service.client().messages(&id).await;
    let refused = messages.iter().filter_map(|message| message.strip_prefix("The checkpoint at step "));
    let steps: Vec<u64> = refused.map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(steps.iter().copied().eq(1..=60), "{steps:?}");
    let rows = service.client().get(&format!("/v1/fine_tuning/jobs/{id}/metrics?limit=1000")).await.good();
    assert_eq!(rows["data"].as_array().unwrap().len(), 60);
}

/// 950 steps of 64 metrics, from when it is told to go.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_a_trainer_waits_with_what_it_has_to_say() {
    let started = STARTED.replace("200", "950");
    let body = format!(
        r#"echo '{started}'
        metrics=$(seq 64 | sed 's/.*/"m&":1.5/' | paste -sd, -)
        until [ -e go ]; do sleep 0.05; done
        for step in $(seq 950); do
            echo '{{"type":"step","step":'$step',"epoch":1.0,"seconds":0.1,"metrics":{{'$metrics'}}}}'
        done
        touch said
        echo '{FAILED}'"#
    );
    let (url, _, proxy) = database::behind_proxy().await;
    let folder = tempfile::tempdir().unwrap();
    let trainer = script(folder.path(), &body);
    let mut service = Service::over(&url, |config| config.trainer = trainer).await;
    service.import_tiny_model().await;
    service.start_worker();
    let id = create(&service).await;
    eventually("the start", 30, async || {
        (service.client().job(&id).await["progress"]["total_steps"] == 950).then_some(())
    })
    .await;
    let mut runs = std::fs::read_dir(service.app.runs()).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.find(|path| path.join("spec.json").exists()).unwrap();
    proxy.refuse();
    std::fs::write(run.join("go"), "").unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!run.join("said").exists(), "it has said no more than the service and the pipe hold");
    proxy.pass();
    eventually("readiness", 20, async || (service.client().get("/readyz").await.status == 200).then_some(())).await;
    is_heard_to_the_end(&service, &id).await;
    let rows: i64 = sqlx::query_scalar("select count(*) from metrics").fetch_one(service.app.db.pool()).await.unwrap();
    assert_eq!(rows, 950);
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_are_cut_and_beyond_some_left_out() {
    let body = format!(
        r#"echo '{STARTED}'
        long=$(head -c 3000000 /dev/zero | tr '\0' x)
        echo '{{"type":"notice","warning":false,"message":"'$long'"}}'
        yes '{{"type":"notice","warning":true,"message":"again"}}' | head -n 3000
        echo '{FAILED}'"#
    );
    let (service, _folder) = with_script(&body).await;
    let id = create(&service).await;
    is_heard_to_the_end(&service, &id).await;
    let messages = service.client().messages(&id).await;
    let longest = messages.iter().map(|message| message.chars().count()).max().unwrap();
    assert_eq!(longest, 4001);
    assert_eq!(messages.iter().filter(|message| *message == "again").count(), 199);
    assert_eq!(messages.iter().filter(|message| message.contains("the rest is left out")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_is_no_progress_and_does_not_fill_the_log() {
    logs::capture();
    let folder = tempfile::tempdir().unwrap();
    let trainer = script(folder.path(), "yes 'no message'");
    let mut service = Service::with(|config| {
        config.trainer = trainer;
        config.stall = Duration::from_secs(2);
    })
    .await;
    service.import_tiny_model().await;
    service.start_worker();
    let id = create(&service).await;
    let attempt = first_attempt(&service, &id).await;
    assert_eq!((&attempt["outcome"], &attempt["cause"]), (&json!("crashed"), &json!("stalled")), "{attempt}");
    service.stop_worker().await;
    let lines = logs::lines_with(&id);
    let with = |words: &str| lines.iter().filter(|line| line["fields"]["message"] == words).collect::<Vec<_>>();
    assert!((5..=10).contains(&with("the trainer printed what is no message").len()), "{lines:?}");
    let counted = with("the trainer printed more lines that are no message");
    assert!(counted[0]["fields"]["lines"].as_u64().unwrap() > 100, "{counted:?}");
}

/// A fault of the worker itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_at_which_the_worker_panics_costs_an_attempt_and_no_slot() {
    let mut service = Service::api().await;
    service.import_tiny_model().await;
    service.app.failpoints = Failpoints::parse("worker.spawned=panic@1").unwrap();
    service.start_worker();
    let file = service.client().upload("data.csv", data::csv(30)).await;
    let id = service.client().create_job(&file, json!({"n_epochs": 1, "precision": "fp32"})).await;
    let job = service.client().wait_for_end(&id).await;
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let attempts = job["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["outcome"]), (2, &json!("crashed")), "{job:#}");
    assert_eq!(attempts[0]["detail"], "the worker failed at the run; its log has the details");
}
