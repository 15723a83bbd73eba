//! What the log and the metrics say of jobs.

use finetuned::worker::upkeep::rescue;
use serde_json::{Value, json};

use super::support::client::Client;
use super::support::data;
use super::support::database;
use super::support::fleet::Fleet;
use super::support::logs;
use super::support::service::{Service, eventually};

/// The moves of a job, each with its attempt.
fn moves(id: &str) -> Vec<(String, u64)> {
    let lines = logs::lines_with(&format!("\"job\":\"{id}\"")).into_iter().map(|line| line["fields"].clone());
    let moves = lines.filter_map(|fields| {
        let word = fields["message"].as_str()?.strip_prefix("job ")?.to_owned();
        assert_eq!(fields["project"], "acme", "{fields}");
        Some((word, fields["attempt"].as_u64().unwrap()))
    });
    moves.collect()
}

fn as_text(moves: &[(String, u64)]) -> Vec<String> {
    moves.iter().map(|(word, attempt)| format!("{word} {attempt}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_move_of_a_job_is_a_line_under_the_id_that_clients_know() {
    logs::capture();
    let mut service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let bad = client.upload("bad.csv", format!("{}a,\n", data::csv(30))).await;

    let refused = client.create_job(&bad, json!({"n_epochs": 1})).await;
    let cancelled = client.create_job(&file, json!({"n_epochs": 1})).await;
    client.post(&format!("/v1/fine_tuning/jobs/{cancelled}/cancel")).await.good();
    client.post(&format!("/v1/fine_tuning/jobs/{cancelled}/cancel")).await.good();
    assert_eq!(as_text(&moves(&cancelled)), ["created 0", "cancelled 0"], "asking again is no move");

    service.start_worker();
    client.wait_for(&refused, &["failed"], 60).await;
    let told = logs::lines_with(&refused).into_iter().find(|line| line["fields"]["message"] == "job failed").unwrap();
    assert!(told["fields"]["detail"].as_str().unwrap().contains("line 32, label: is empty"), "{told}");
    assert_eq!(as_text(&moves(&refused)), ["created 0", "failed 0"]);

    let trained = client.create_job(&file, json!({"n_epochs": 1})).await;
    let model = client.wait_for_end(&trained).await["fine_tuned_model"].clone();
    let body = json!({"model": model, "test_file": file});
    let evaluation = client.post_json("/v1/evaluations", &body).await.good()["id"].as_str().unwrap().to_owned();
    eventually("the evaluation to end", 60, async || {
        let path = format!("/v1/evaluations/{evaluation}");
        (client.get(&path).await.good()["status"] == "succeeded").then_some(())
    })
    .await;
    for id in [&trained, &evaluation] {
        let told = eventually("the last line", 10, async || {
            let told = as_text(&moves(id));
            (told.len() >= 4).then_some(told)
        });
        // Who validates and who runs a job tell of it each for themselves, so their lines may change places.
        let mut told = told.await;
        told.sort();
        assert_eq!(told, ["created 0", "queued 0", "running 1", "succeeded 1"], "{id}");
    }
    let hidden = evaluation.replace("eval-", "ftjob-");
    assert!(logs::lines_with(&hidden).is_empty(), "an evaluation has no other id: {:?}", logs::lines_with(&hidden));

    let text = String::from_utf8(client.get("/metrics").await.bytes).unwrap();
    for series in [
        r#"finetuned_job_ends_total{kind="training",status="succeeded",cause="none"} "#,
        r#"finetuned_job_ends_total{kind="evaluation",status="succeeded",cause="none"} "#,
        r#"finetuned_job_ends_total{kind="training",status="failed",cause="invalid_training_file"} "#,
        r#"finetuned_job_ends_total{kind="training",status="cancelled",cause="none"} "#,
        r#"finetuned_attempts_total{kind="evaluation",outcome="succeeded",cause="none"} "#,
        r#"finetuned_queue_wait_seconds_count{kind="training"} "#,
        r#"finetuned_job_duration_seconds_count{kind="evaluation",status="succeeded"} "#,
        r#"finetuned_attempts_running{kind="training"} "#,
        r#"finetuned_leases_held{kind="training"} "#,
        r#"finetuned_processes{kind="training"} "#,
    ] {
        assert!(text.contains(series), "{series} is not in {text}");
    }
    let shown = eventually("the gauges", 20, async || {
        let text = String::from_utf8(client.get("/metrics").await.bytes).unwrap();
        text.contains(r#"finetuned_jobs{kind="evaluation",status="succeeded"} 1"#).then_some(text)
    })
    .await;
    for series in [
        r#"finetuned_jobs{kind="training",status="cancelled"} 1"#,
        r#"finetuned_jobs_longest_wait_seconds{status="queued"} 0"#,
        "finetuned_workers 1",
        r#"finetuned_disk_free_bytes{place="state"} "#,
        r#"finetuned_disk_free_bytes{place="store"} "#,
        r#"finetuned_disk_free_bytes{place="runs"} "#,
    ] {
        assert!(shown.contains(series), "{series} is not in {shown}");
    }
    service.stop_worker().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pausing_resuming_and_being_put_back_are_moves_too() {
    logs::capture();
    let mut service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(300)).await;
    service.start_worker();
    let id = client.create_job(&file, json!({"n_epochs": 50, "batch_size": 8})).await;
    let step = async || client.job(&id).await["progress"]["step"].as_u64().filter(|step| *step > 0);
    eventually("a step", 60, step).await;
    client.post(&format!("/v1/fine_tuning/jobs/{id}/pause")).await.good();
    client.wait_for(&id, &["paused"], 60).await;
    client.post(&format!("/v1/fine_tuning/jobs/{id}/resume")).await.good();
    eventually("a step", 60, step).await;
    service.stop_worker().await;
    client.post(&format!("/v1/fine_tuning/jobs/{id}/cancel")).await.good();
    // The service and the worker tell each for themselves, so their lines may change places; of a move that an owner asks
    // for the latest attempt is told, which may be the next one by then.
    let told = moves(&id);
    let runs: Vec<u64> = told.iter().filter(|(word, _)| word == "running").map(|(_, attempt)| *attempt).collect();
    assert_eq!(runs, [1, 2]);
    let mut words: Vec<&str> = told.iter().map(|(word, _)| word.as_str()).collect();
    words.sort_unstable();
    let mut expected =
        ["created", "queued", "running", "pausing", "paused", "resumed", "running", "put back", "cancelled"];
    expected.sort_unstable();
    assert_eq!(words, expected);
    assert!(!rescue::run_once(&service.app, None).await.unwrap(), "nothing is left to rescue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_alone_shows_its_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("DATABASE_URL".to_owned(), database::fresh().await)].into();
    let fleet = Fleet::new(folder.path(), settings);
    fleet.set_up();
    let worker = fleet.start("worker", &["worker"], &[("FINETUNED_WORKER_METRICS", "127.0.0.1:0")]);
    let address = eventually("the line that says where it listens", 60, async || {
        let log = std::fs::read_to_string(folder.path().join("worker.log")).ok()?;
        let line = log.lines().find(|line| line.contains("listening"))?.to_owned();
        Some(line.split_once("address=")?.1.trim().to_owned())
    })
    .await;
    let client = Client::new(&address, None);
    assert_eq!(client.get("/readyz").await.status, 200);
    eventually("its gauges", 60, async || {
        let text = String::from_utf8(client.get("/metrics").await.bytes).unwrap();
        (text.contains("finetuned_workers 1") && text.contains("finetuned_disk_free_bytes")).then_some(())
    })
    .await;
    assert_eq!(client.try_get("/v1/models").await, Some(404), "it has no API");
    assert!(worker.stop().success());
}

/// The fields of a line are what a machine reads; nothing of them stands in the message alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_move_has_its_parts_as_fields() {
    logs::capture();
    let service = Service::api().await;
    service.import_tiny_model().await;
    let file = service.client().upload("data.csv", data::csv(30)).await;
    let id = service.client().create_job(&file, json!({})).await;
    let line = logs::lines_with(&id).into_iter().find(|line| line["fields"]["message"] == "job created").unwrap();
    let fields: Vec<&String> = line["fields"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["attempt", "job", "message", "project"], "{line}");
    assert_eq!(line["fields"]["job"], Value::from(id));
}
