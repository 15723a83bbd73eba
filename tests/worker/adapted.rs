//! Checkpoints of adapters: small, and models all the same, for as long as they are kept.

use std::path::Path;

use finetuned::app::models;
use finetuned::db::projects;
use finetuned::domain::id::ProjectId;
use finetuned::domain::quota::Quotas;
use finetuned::worker::upkeep::sweep;
use serde_json::{Value, json};

use super::evaluations::{ended, evaluate};
use super::support::client::Client;
use super::support::data;
use super::support::service::{Service, eventually};
use super::tasks::{create, service, succeeded};

const LORA: &str = r#"{"type": "lora", "r": 2, "target_modules": ["query", "dense"]}"#;

fn settings(checkpoints: usize) -> Value {
    let lora: Value = serde_json::from_str(LORA).unwrap();
    json!({"adapter": lora, "n_epochs": 3, "learning_rate": 2e-2, "precision": "fp32", "keep_checkpoints": checkpoints})
}

/// The names of a job's checkpoints, latest first.
async fn checkpoints(client: &Client, job: &str) -> Vec<String> {
    let listed = client.get(&format!("/v1/fine_tuning/jobs/{job}/checkpoints")).await.good();
    let name = |checkpoint: &Value| checkpoint["fine_tuned_model_checkpoint"].as_str().unwrap().to_owned();
    listed["data"].as_array().unwrap().iter().map(name).collect()
}

/// The files of a model and their bytes.
async fn files(client: &Client, model: &str) -> Vec<(String, u64)> {
    let listed = client.get(&format!("/v1/models/{model}/files")).await.good();
    let file = |file: &Value| (file["path"].as_str().unwrap().to_owned(), file["bytes"].as_u64().unwrap());
    listed["data"].as_array().unwrap().iter().map(file).collect()
}

async fn scores(client: &Client, model: &str, file: &str) -> Value {
    let evaluation = ended(client, &evaluate(client, &json!(model), file, json!({})).await.good()).await;
    assert_eq!(evaluation["status"], "succeeded", "{evaluation}");
    evaluation["scores"].clone()
}

async fn delete(client: &Client, model: &str) {
    client.delete(&format!("/v1/models/{model}")).await.good();
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    entries
        .map(|entry| if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

async fn sweep_all(service: &Service) {
    while sweep::run_once(&service.app).await.unwrap() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_adapters_is_small_and_a_model_with_its_base() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(60)).await;
    let id = create(&client, "tiny-bert", &file, "text_classification", settings(1), json!({})).await;
    let model = succeeded(&client, &id).await["fine_tuned_model"].as_str().unwrap().to_owned();
    let latest = checkpoints(&client, &id).await.swap_remove(0);

    let (whole, kept) = (files(&client, &model).await, files(&client, &latest).await);
    let bytes = |files: &[(String, u64)]| files.iter().map(|file| file.1).sum::<u64>();
    let paths: Vec<&str> = kept.iter().map(|file| file.0.as_str()).collect();
    assert!(paths.contains(&"adapter/adapter_model.safetensors") && paths.contains(&"tokenizer.json"), "{paths:?}");
    assert!(!paths.iter().any(|path| path.starts_with("model") || path.starts_with("base")), "{paths:?}");
    assert!(bytes(&kept) * 2 < bytes(&whole), "{} of {}", bytes(&kept), bytes(&whole));
    assert_eq!(client.get(&format!("/v1/models/{latest}/files/base%2Fmodel.safetensors")).await.status, 404);

    // It scores and answers as the model that was made of it.
    assert_eq!(scores(&client, &latest, &file).await, scores(&client, &model, &file).await);
    let answer = async |model: &str| {
        let asked = json!({"model": model, "input": "my card was declined"});
        client.post_json("/v1/classifications", &asked).await.good()["data"].clone()
    };
    assert_eq!(answer(&latest).await, answer(&model).await);
    // Whatever is trained on it has all that was learned.
    let id = create(&client, &latest, &file, "text_classification", settings(1), json!({})).await;
    let second = succeeded(&client, &id).await["fine_tuned_model"].as_str().unwrap().to_owned();
    let further = checkpoints(&client, &id).await.swap_remove(0);
    let expected = scores(&client, &second, &file).await;
    assert_eq!(scores(&client, &further, &file).await, expected);

    // What is the operator's, or stored once, is not counted, or not twice.
    sweep_all(&service).await;
    let own = bytes_below(&service.objects().join("jobs")) + bytes_below(&service.objects().join("files"));
    let db = service.app.db.pool();
    let project =
        sqlx::query_scalar("select project_id from models where kind = 'fine_tuned' limit 1").fetch_one(db).await;
    let used = projects::stored(db, ProjectId(project.unwrap()), Quotas::default()).await.unwrap();
    assert_eq!(used.stored_bytes, own);

    // With everything gone that it was made from it is the same model; its base's weights go with it.
    let before = bytes_below(&service.objects().join("models"));
    models::remove_base(&service.app, "tiny-bert").await.unwrap();
    for gone in [&model, &latest, &second] {
        delete(&client, gone).await;
    }
    sweep_all(&service).await;
    let after = bytes_below(&service.objects().join("models"));
    assert!(after > 0 && after < before, "its weights stay, its tokenizer does not: {after} of {before}");
    assert_eq!(scores(&client, &further, &file).await, expected);
    let listed = "select name from models where kind = 'checkpoint' and deleted_at is null";
    let rest: Vec<String> = sqlx::query_scalar(listed).fetch_all(db).await.unwrap();
    assert!(rest.contains(&further), "{rest:?}");
    for gone in &rest {
        delete(&client, gone).await;
    }
    let bytes = || bytes_below(&service.objects().join("models"));
    eventually("the base's weights to go", 20, async || {
        sweep_all(&service).await;
        (bytes() == 0).then_some(())
    })
    .await;
}
