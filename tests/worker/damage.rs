//! Jobs and models at work whose stored bytes are damaged: told once, and not tried again.

use serde_json::{Value, json};

use super::support::data;
use super::support::service::{Service, eventually};

/// Flips a bit in the middle of an object.
fn flip(service: &Service, key: &str) {
    let path = service.objects().join(key);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

fn remove(service: &Service, key: &str) {
    std::fs::remove_file(service.objects().join(key)).unwrap();
}

/// The object of the weights of the model of that name.
async fn weights(service: &Service, model: &str) -> String {
    let query = "select object_key from model_files join models on id = model_id \
                 where name = $1 and path = 'model.safetensors'";
    sqlx::query_scalar(query).bind(model).fetch_one(service.app.db.pool()).await.unwrap()
}

fn of_file(id: &str) -> String {
    format!("files/{}", id.trim_start_matches("file-").replace('-', ""))
}

/// A job of an API without a worker; its id and that of its file.
async fn created(service: &Service) -> (String, String) {
    let file = service.client().upload("data.csv", data::csv(30)).await;
    (service.client().create_job(&file, json!({"n_epochs": 1})).await, file)
}

/// The same, with its files checked.
async fn queued(service: &Service) -> (String, String) {
    let (id, file) = created(service).await;
    eventually("validation", 30, async || {
        finetuned::app::validation::run_once(&service.app).await.unwrap();
        (service.client().job(&id).await["status"] == "queued").then_some(())
    })
    .await;
    (id, file)
}

#[track_caller]
fn failed(job: &Value, code: &str, param: &str, attempts: usize) {
    let error = &job["error"];
    assert_eq!((&job["status"], &error["code"], &error["param"]), (&json!("failed"), &json!(code), &json!(param)));
    assert_eq!(job["attempts"].as_array().unwrap().len(), attempts, "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_file_is_damaged_or_missing_fails_when_it_is_validated() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let (damaged, file) = created(&service).await;
    flip(&service, &of_file(&file));
    let (missing, file) = created(&service).await;
    remove(&service, &of_file(&file));
    for id in [damaged, missing] {
        eventually("the end", 20, async || {
            finetuned::app::validation::run_once(&service.app).await.unwrap();
            (service.client().job(&id).await["status"] == "failed").then_some(())
        })
        .await;
        failed(&service.client().job(&id).await, "file_damaged", "training_file", 0);
        let tries: i32 = sqlx::query_scalar("select max(validation_tries) from jobs")
            .fetch_one(service.app.db.pool())
            .await
            .unwrap();
        assert_eq!(tries, 1, "nothing was tried again");
        let messages = service.client().messages(&id).await;
        assert!(messages.last().unwrap().ends_with("Upload the file again."), "{messages:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_while_a_job_waits_fails_its_first_attempt_for_good() {
    let mut service = Service::api().await;
    service.import_tiny_model().await;
    let ((first, damaged), (second, missing)) = (queued(&service).await, queued(&service).await);
    flip(&service, &of_file(&damaged));
    remove(&service, &of_file(&missing));
    let (third, _) = queued(&service).await;
    service.start_worker();
    let client = service.client();
    for id in [first, second] {
        let job = client.wait_for_end(&id).await;
        failed(&job, "file_damaged", "training_file", 1);
        assert_eq!(job["attempts"][0]["outcome"], "failed");
    }
    assert_eq!(client.wait_for_end(&third).await["status"], "succeeded", "others go on");

    service.stop_worker().await;
    let (fourth, _) = queued(&service).await;
    flip(&service, &weights(&service, "tiny-bert").await);
    service.start_worker();
    failed(&service.client().wait_for_end(&fourth).await, "model_damaged", "model", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_damaged_answers_nothing() {
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let (id, _) = created(&service).await;
    let client = service.client();
    let job = client.wait_for_end(&id).await;
    let model = job["fine_tuned_model"].as_str().unwrap();
    flip(&service, &weights(&service, model).await);
    let body = json!({"model": model, "input": "where is my card"});
    let answer = client.post_json("/v1/classifications", &body).await;
    let (status, param, code, message) = answer.error();
    assert_eq!((status, param.as_deref(), code.as_deref()), (500, Some("model"), Some("model_damaged")));
    assert!(message.ends_with("is damaged. Use another one, or train it again."), "{message}");
}
