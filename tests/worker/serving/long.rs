//! Requests of more inputs than a process is handed at once.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{classify, close, fp32, refused, service, trained, urls};
use crate::support::client::Client;
use crate::support::data;
use crate::support::fleet::processes_in;
use crate::tasks::{create, images, succeeded};

/// So many texts, every tenth longer than a model reads.
fn texts(count: usize) -> Vec<String> {
    let rows = data::rows(count).into_iter().enumerate();
    rows.map(|(i, (text, _))| if i % 10 == 9 { format!("{text} ").repeat(400) } else { text }).collect()
}

/// A fine-tuned model of this client, and a checkpoint of it.
async fn models(client: &Client) -> (Value, Value) {
    let file = client.upload("data.csv", data::csv(30)).await;
    let id = create(client, "tiny-bert", &file, "text_classification", fp32(json!({})), json!({})).await;
    let job = succeeded(client, &id).await;
    let checkpoints = client.get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
    (job["fine_tuned_model"].clone(), checkpoints["data"][0]["fine_tuned_model_checkpoint"].clone())
}

/// Batches of other sizes add up in another order, so probabilities are close, and no more.
#[track_caller]
fn agree(found: &Value, expected: &Value) {
    for field in ["label", "truncated"] {
        assert_eq!(found[field], expected[field]);
    }
    close(&found["probability"], &expected["probability"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_request_is_answered_as_its_inputs_are_one_by_one() {
    let service = service(&["tiny-bert"], |_| {}).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(60)).await;
    let (job, _) = trained(&client, "tiny-bert", "text_classification", &file, fp32(json!({}))).await;
    let model = &job["fine_tuned_model"];
    let texts = texts(100);
    let answer = classify(&client, model, json!(texts)).await.good();
    let found = answer["data"].as_array().unwrap();
    assert_eq!(found.len(), texts.len());
    let mut tokens = 0;
    for (index, (found, text)) in found.iter().zip(&texts).enumerate() {
        let alone = classify(&client, model, json!(text)).await.good();
        assert_eq!((&found["index"], &found["truncated"]), (&json!(index), &json!(index % 10 == 9)));
        agree(found, &alone["data"][0]);
        tokens += alone["usage"]["total_tokens"].as_u64().unwrap();
    }
    assert_eq!(answer["usage"]["total_tokens"], json!(tokens));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_input_of_a_long_request_is_named_by_its_place_in_it() {
    let service = service(&["tiny-vit"], |_| {}).await;
    let client = service.client();
    let archive = images(40);
    let file = client.upload("images.tar", archive.clone()).await;
    let h = fp32(json!({"n_epochs": 1, "learning_rate": 2e-3}));
    let id = create(&client, "tiny-vit", &file, "image_classification", h, json!({})).await;
    let job = succeeded(&client, &id).await;
    let mut urls = urls(&archive);
    urls.extend_from_within(..30);
    urls[65] = "data:image/png;base64,AAEC".to_owned();
    let answer = classify(&client, &job["fine_tuned_model"], json!(urls)).await;
    refused(&answer, 400, "input[65]", "input[65] ");
}

/// There is one place, and the process in it is stopped in the first slice for longer than a turn.
#[tokio::test(flavor = "multi_thread")]
async fn another_model_is_answered_while_a_long_request_is_under_way() {
    let service = service(&["tiny-bert"], |_| {}).await;
    let (client, stranger) = (service.client(), service.stranger().await);
    let (model, checkpoint) = models(&client).await;
    let (strangers, _) = models(&stranger).await;
    let texts = json!(texts(256));
    for (other, name) in [(stranger, strangers), (client.clone(), checkpoint)] {
        let expected = classify(&client, &model, texts.clone()).await.good();
        let process = Pid::from_raw(processes_in(&service.app.served())[0]);
        kill(process, Signal::SIGSTOP).unwrap();
        let (asking, own, input) = (client.clone(), model.clone(), texts.clone());
        let long = tokio::spawn(async move { classify(&asking, &own, input).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let short = tokio::spawn(async move { classify(&other, &name, json!("where is my card")).await });
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!short.is_finished());
        kill(process, Signal::SIGCONT).unwrap();
        short.await.unwrap().good();
        assert!(!long.is_finished(), "the other one was answered after it");
        let answer = long.await.unwrap().good();
        let (found, expected) = (answer["data"].as_array().unwrap(), expected["data"].as_array().unwrap());
        assert_eq!(found.len(), 256);
        for (found, expected) in found.iter().zip(expected) {
            agree(found, expected);
        }
    }
}
