//! Objects that are not what was stored: no answer gives their bytes as if they were whole.

use std::path::PathBuf;

use reqwest::Method;
use reqwest::header::RANGE;
use serde_json::{Value, json};

use super::support::client::{Answer, Client};
use super::support::data;
use super::support::service::Service;

/// Flips a bit of the object's byte at this place.
pub fn flip(object: &PathBuf, at: usize) {
    let mut bytes = std::fs::read(object).unwrap();
    bytes[at] ^= 1;
    std::fs::write(object, bytes).unwrap();
}

/// Where a file's bytes lie.
fn of_file(service: &Service, id: &str) -> PathBuf {
    service.objects().join("files").join(id.trim_start_matches("file-").replace('-', ""))
}

/// Where a file of the only base model lies.
fn of_base(service: &Service, name: &str) -> PathBuf {
    let mut models = std::fs::read_dir(service.objects().join("models")).unwrap();
    models.next().unwrap().unwrap().path().join(name)
}

#[track_caller]
fn is_damaged(answer: &Answer, code: &str, message: &str) {
    let (status, _, found, text) = answer.error();
    assert_eq!((status, found.as_deref()), (500, Some(code)), "{text}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!(text.contains(message), "{text}");
}

/// The answer's head said 200 and a length, and the connection was cut before all of it had come; or before the head
/// itself was on its way.
async fn is_cut(client: &Client, path: &str) {
    let mut response = match client.request(Method::GET, path).send().await {
        Ok(response) => response,
        Err(error) => return assert!(!error.is_connect() && !error.is_timeout(), "{path}: {error}"),
    };
    assert_eq!(response.status(), 200, "{path}");
    let (length, mut came) = (response.content_length().unwrap(), 0);
    let ended = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => came += chunk.len() as u64,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(ended.is_err() && came < length, "{path}: {came} of {length} bytes came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_told_before_its_first_byte_or_cut_before_its_last() {
    let service = Service::api().await;
    let client = service.client();
    let large: Vec<u8> = (0..3_u32 << 20).map(|i| (i ^ (i >> 9)) as u8).collect();
    for (what, bytes) in [("small", data::csv(30).into_bytes()), ("large", large)] {
        let id = client.upload_as("user_data", what, bytes.clone()).await.good()["id"].as_str().unwrap().to_owned();
        let (path, object) = (format!("/v1/files/{id}/content"), of_file(&service, &id));
        let part = async || client.send(client.request(Method::GET, &path).header(RANGE, "bytes=5-9")).await;
        assert_eq!((client.get(&path).await.bytes, part().await.bytes), (bytes.clone(), bytes[5..10].to_vec()));
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            flip(&object, at);
            if what == "small" {
                is_damaged(&client.get(&path).await, "file_damaged", "are damaged. Upload the file again.");
            } else {
                is_cut(&client, &path).await;
            }
            // A part is not given either, wherever the damage is.
            is_damaged(&part().await, "file_damaged", "are damaged");
            flip(&object, at);
            assert_eq!((client.get(&path).await.bytes.len(), part().await.status), (bytes.len(), 206));
        }
        std::fs::write(&object, &bytes[..bytes.len() - 1]).unwrap();
        is_damaged(&client.get(&path).await, "file_damaged", "are damaged");
        std::fs::remove_file(&object).unwrap();
        is_damaged(&client.get(&path).await, "file_damaged", "are missing");
        is_damaged(&part().await, "file_damaged", "are missing");
    }
    let metrics = String::from_utf8(client.get("/metrics").await.bytes).unwrap();
    for fault in ["damaged", "missing"] {
        assert!(metrics.contains(&format!("finetuned_damaged_objects_total{{fault=\"{fault}\"}}")), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_member_cuts_an_archive_and_a_missing_one_is_told() {
    let service = Service::api().await;
    let client = service.client();
    service.import_tiny_model().await;
    let path = "/v1/models/tiny-bert/archive";
    let whole = client.get(path).await;
    assert_eq!(whole.header("content-length"), Some(whole.bytes.len().to_string().as_str()));
    for name in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        let object = of_base(&service, name);
        let bytes = std::fs::read(&object).unwrap();
        flip(&object, bytes.len() - 1);
        is_cut(&client, path).await;
        std::fs::write(&object, &bytes[1..]).unwrap();
        is_damaged(&client.get(path).await, "model_damaged", "is damaged");
        std::fs::remove_file(&object).unwrap();
        is_damaged(&client.get(path).await, "model_damaged", &format!("'{name}' of the model 'tiny-bert' is missing"));
        std::fs::write(&object, &bytes).unwrap();
    }
    assert!(client.get(path).await.bytes == whole.bytes);
}

async fn dry_run(client: &Client, file: &str) -> Value {
    let body = json!({"model": "tiny-bert", "training_file": file, "dry_run": true});
    client.post_json("/v1/fine_tuning/jobs", &body).await.good()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_that_a_file_or_a_model_is_damaged() {
    let service = Service::api().await;
    let client = service.client();
    service.import_tiny_model().await;
    let id = client.upload("data.csv", data::csv(30)).await;
    assert_eq!(dry_run(&client, &id).await["error"], json!(null));

    let file = of_file(&service, &id);
    flip(&file, 20);
    let found = dry_run(&client, &id).await;
    let message = format!("The stored bytes of {id} are damaged. Upload the file again.");
    let error = json!({"code": "file_damaged", "message": message, "param": "training_file"});
    assert_eq!((&found["ready"], &found["error"]), (&json!(false), &error));
    flip(&file, 20);

    std::fs::remove_file(of_base(&service, "model.safetensors")).unwrap();
    let error = dry_run(&client, &id).await["error"].clone();
    assert_eq!((&error["code"], &error["param"]), (&json!("model_damaged"), &json!("model")), "{error}");
    assert!(error["message"].as_str().unwrap().ends_with("can remove the model and import it again."), "{error}");

    // What is read of a model to answer at once.
    flip(&of_base(&service, "config.json"), 3);
    let body = json!({"model": "tiny-bert", "test_file": id});
    is_damaged(&client.post_json("/v1/evaluations", &body).await, "model_damaged", "'config.json'");
    let body = json!({"model": "tiny-bert", "input": "where is my card"});
    is_damaged(&client.post_json("/v1/classifications", &body).await, "model_damaged", "'config.json'");
}
