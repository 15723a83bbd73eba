//! What a project may have at once.

use std::collections::BTreeMap;

use finetuned::app::quotas;
use finetuned::domain::quota::Quota;
use finetuned::worker::upkeep::sweep;
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt, stream};
use reqwest::multipart::{Form, Part};
use serde_json::json;

use super::support::client::{Answer, Client};
use super::support::data;
use super::support::service::{Service, eventually};

/// Refused, and told which quota and whether to come again.
#[track_caller]
fn refused(answer: &Answer, quota: &str, comes_again: bool) {
    let (status, param, code, message) = answer.error();
    assert_eq!((status, param.as_deref()), (429, Some(quota)), "{message}");
    let kind = answer.json()["error"]["type"].clone();
    let told = (answer.header("x-should-retry"), answer.header("retry-after").is_some());
    if comes_again {
        assert_eq!((kind, code.as_deref()), (json!("rate_limit_error"), Some("too_many_at_once")));
        assert_eq!(told, (None, true));
    } else {
        assert_eq!((kind, code.as_deref()), (json!("insufficient_quota"), Some("quota_exceeded")));
        assert_eq!(told, (Some("false"), false));
    }
}

async fn limited(changes: &[(Quota, u64)]) -> (Service, Client) {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let changes: Vec<_> = changes.iter().map(|&(quota, limit)| (quota, Some(limit))).collect();
    quotas::set(&service.app, "acme", &changes).await.unwrap();
    let client = service.client();
    (service, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_bytes_are_limited_until_some_are_deleted() {
    let (service, client) = limited(&[(Quota::StoredBytes, 10_000)]).await;
    let first = client.upload_as("user_data", "a", vec![1; 6000]).await.good();
    refused(&client.upload_as("user_data", "b", vec![1; 6000]).await, "stored_bytes", false);
    let left = std::fs::read_dir(service.app.scratch()).unwrap().count();
    assert_eq!(left, 0, "a refused upload leaves nothing");
    client.upload_as("user_data", "c", vec![1; 4000]).await.good();
    service.stranger().await.upload_as("user_data", "b", vec![1; 6000]).await.good();

    let file = client.upload_as("fine-tune", "data.csv", data::csv(30)).await;
    refused(&file, "stored_bytes", false);
    client.delete(&format!("/v1/files/{}", first["id"].as_str().unwrap())).await.good();
    refused(&client.upload_as("user_data", "b", vec![1; 6000]).await, "stored_bytes", false);
    sweep::run_once(&service.app).await.unwrap();
    client.upload_as("user_data", "b", vec![1; 6000]).await.good();

    // A job would store a model.
    quotas::set(&service.app, "acme", &[(Quota::StoredBytes, None)]).await.unwrap();
    let file = client.upload("data.csv", data::csv(30)).await;
    client.create_job(&file, json!({})).await;
    quotas::set(&service.app, "acme", &[(Quota::StoredBytes, Some(10_000))]).await.unwrap();
    let body = json!({"model": "tiny-bert", "training_file": file});
    refused(&client.post_json("/v1/fine_tuning/jobs", &body).await, "stored_bytes", false);
}

/// A form whose file comes in pieces of one mebibyte, and does not say how many there will be.
fn form_of(pieces: impl Stream<Item = Vec<u8>> + Send + Sync + 'static) -> Form {
    let pieces = reqwest::Body::wrap_stream(pieces.map(Ok::<_, std::convert::Infallible>));
    Form::new().text("purpose", "user_data").part("file", Part::stream(pieces).file_name("a"))
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_on_their_way_count() {
    const MIB: usize = 1 << 20;
    let (service, client) = limited(&[(Quota::StoredBytes, 4 * MIB as u64)]).await;
    let endless = stream::iter(0..200).map(|_| vec![1; MIB]);
    refused(&client.send_form(form_of(endless)).await, "stored_bytes", false);

    let begun = stream::iter(0..3).map(|_| vec![1; MIB]).chain(stream::pending());
    let sleeping = tokio::spawn({
        let client = client.clone();
        async move { client.send_form(form_of(begun)).await }
    });
    let spooled = || {
        std::fs::read_dir(service.app.scratch())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    eventually("three mebibytes to arrive", 10, async || (3 * MIB as u64 <= spooled()).then_some(())).await;
    refused(&client.upload_as("user_data", "b", vec![1; 2 * MIB]).await, "stored_bytes", false);
    service.stranger().await.upload_as("user_data", "b", vec![1; 2 * MIB]).await.good();
    sleeping.abort();
    eventually("what is left to go", 10, async || (spooled() == 0).then_some(())).await;
    client.upload_as("user_data", "b", vec![1; 2 * MIB]).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_do_not_pass_a_quota_together() {
    let (service, client) = limited(&[(Quota::Files, 5), (Quota::QueuedJobs, 3)]).await;
    let uploads = (0..50).map(|_| client.upload_as("fine-tune", "data.csv", data::csv(30)));
    let answers = join_all(uploads).await;
    let (good, full): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(good.len(), 5);
    for answer in full {
        refused(answer, "files", false);
    }

    let file = good[0].good()["id"].clone();
    let create = async |body: serde_json::Value| client.post_json("/v1/fine_tuning/jobs", &body).await;
    let answers = join_all((0..50).map(|_| create(json!({"model": "tiny-bert", "training_file": file})))).await;
    let (good, full): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(good.len(), 3);
    for answer in full {
        refused(answer, "queued_jobs", false);
    }
    assert_eq!(client.get("/v1/fine_tuning/jobs").await.good()["data"].as_array().unwrap().len(), 3);

    let id = good[0].good()["id"].as_str().unwrap().to_owned();
    client.post(&format!("/v1/fine_tuning/jobs/{id}/cancel")).await.good();
    // Many tries of one request are one job.
    let body = json!({"model": "tiny-bert", "training_file": file});
    let once = || {
        let request = client.request(reqwest::Method::POST, "/v1/fine_tuning/jobs");
        client.send(request.header("idempotency-key", "once").json(&body))
    };
    let ids: Vec<_> =
        join_all((0..20).map(|_| once())).await.iter().map(|answer| answer.good()["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(service.stranger().await.get("/v1/files").await.good()["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_by_itself_is_to_be_tried_again() {
    let (_service, client) = limited(&[(Quota::Evaluations, 1), (Quota::DryRuns, 1)]).await;
    let file = client.upload("pairs.jsonl", "{\"anchor\": \"a b\", \"positive\": \"b c\"}\n".repeat(12)).await;
    let evaluation = json!({"model": "tiny-bert", "test_file": file, "method": {"type": "embedding"}});
    let first = client.post_json("/v1/evaluations", &evaluation).await.good();
    refused(&client.post_json("/v1/evaluations", &evaluation).await, "evaluations", true);
    client.post(&format!("/v1/evaluations/{}/cancel", first["id"].as_str().unwrap())).await.good();
    client.post_json("/v1/evaluations", &evaluation).await.good();

    let large = client.upload("large.csv", data::csv(50_000)).await;
    let dry = json!({"model": "tiny-bert", "training_file": large, "dry_run": true});
    let answers = join_all((0..8).map(|_| client.post_json("/v1/fine_tuning/jobs", &dry))).await;
    let mut by_status: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in &answers {
        *by_status.entry(answer.status).or_default() += 1;
        if answer.status != 200 {
            refused(answer, "dry_runs", true);
        }
    }
    assert!(by_status.contains_key(&200) && by_status.contains_key(&429), "{by_status:?}");
    assert_eq!(client.post_json("/v1/fine_tuning/jobs", &dry).await.good()["ready"], json!(true));
}
