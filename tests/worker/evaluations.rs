//! Evaluations: what they find, what they leave behind, and what people are told where there is nothing to find.

use finetuned::failpoint::Failpoints;
use serde_json::{Value, json};

use super::support::client::{Answer, Client};
use super::support::data;
use super::support::service::{Service, eventually};
use super::tasks::{create, images, model_file, service, succeeded};

pub async fn evaluate(client: &Client, model: &Value, file: &str, more: Value) -> Answer {
    let mut body = json!({"model": model, "test_file": file});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.post_json("/v1/evaluations", &body).await
}

/// An evaluation that has ended.
pub async fn ended(client: &Client, created: &Value) -> Value {
    let path = format!("/v1/evaluations/{}", created["id"].as_str().unwrap());
    eventually("the end of an evaluation", 60, async || {
        let found = client.get(&path).await.good();
        ["succeeded", "failed", "cancelled"].contains(&found["status"].as_str().unwrap()).then_some(found)
    })
    .await
}

pub async fn result_file(client: &Client, evaluation: &Value, number: usize) -> Vec<u8> {
    let id = evaluation["result_files"][number].as_str().unwrap();
    client.get(&format!("/v1/files/{id}/content")).await.bytes
}

#[track_caller]
pub fn refused(answer: &Answer, param: &str, message: &str) {
    let (status, at, _, text) = answer.error();
    assert_eq!((status, at.as_deref()), (400, Some(param)), "{text}");
    assert!(text.contains(message), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_finds_what_the_job_of_the_model_found() {
    let service = service(&["tiny-bert", "tiny-vit"]).await;
    let client = service.client();
    let csv = client.upload("data.csv", data::csv(60)).await;
    let tar = client.upload("images.tar", images(30)).await;
    let values: String = data::rows(40)
        .iter()
        .map(|(text, label)| format!("{}\n", json!({"text": text, "label": label.len()})))
        .collect();
    let values = client.upload("values.jsonl", values).await;
    for (model, method, file, h) in [
        ("tiny-bert", "text_classification", &csv, json!({"max_sequence_length": 8, "n_epochs": 4})),
        ("tiny-bert", "text_classification", &values, json!({"problem_type": "regression", "n_epochs": 2})),
        ("tiny-bert", "masked_lm", &csv, json!({"n_epochs": 2})),
        ("tiny-vit", "image_classification", &tar, json!({"n_epochs": 2})),
    ] {
        let id = create(&client, model, file, method, h.clone(), json!({"test_file": file})).await;
        let job = succeeded(&client, &id).await;
        let created = evaluate(&client, &job["fine_tuned_model"], file, json!({"seed": job["seed"]})).await.good();
        assert!(created["id"].as_str().unwrap().starts_with("eval-"), "{created}");
        let found = ended(&client, &created).await;
        assert_eq!(found["status"], "succeeded", "{found}");
        assert_eq!((&found["method"]["type"], &found["test_file"]), (&json!(method), &json!(file)));
        assert_eq!(found["scores"], job["evaluation"]["test"], "{method}");
        assert_eq!(found["report"]["loss"], found["scores"]["loss"]);
        let report: Value = serde_json::from_slice(&result_file(&client, &found, 1).await).unwrap();
        assert_eq!(report, found["report"]);
        let predictions = model_file(&client, &job, "evaluation/predictions.jsonl").await;
        assert_eq!(result_file(&client, &found, 0).await, predictions, "{method}");
        // Texts are cut as in the model's training, and people are told.
        let events = client.get(&format!("/v1/evaluations/{}/events", found["id"].as_str().unwrap())).await.good();
        let is_cut = events.to_string().contains("test texts were cut to 8 tokens");
        assert_eq!(is_cut, h["max_sequence_length"] == 8, "{events}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_and_jobs_are_kept_apart_and_their_files_are_the_projects_own() {
    let service = service(&["tiny-modernbert"]).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(40)).await;
    // What a base model was made for is read from its files.
    let metadata = json!({"metadata": {"round": "1"}});
    let created = evaluate(&client, &json!("tiny-modernbert"), &file, metadata).await.good();
    let found = ended(&client, &created).await;
    assert_eq!((&found["status"], &found["method"]["type"]), (&json!("succeeded"), &json!("masked_lm")), "{found}");
    assert!(found["scores"]["perplexity"].as_f64().unwrap() > 1.0);
    assert_eq!((&found["attempts"][0]["outcome"], &found["validation"]["examples"]), (&json!("succeeded"), &json!(40)));

    let id = created["id"].as_str().unwrap();
    let as_job = id.replace("eval-", "ftjob-");
    for path in ["", "/events", "/metrics", "/checkpoints"] {
        assert_eq!(client.get(&format!("/v1/fine_tuning/jobs/{as_job}{path}")).await.status, 404, "{path}");
    }
    for action in ["cancel", "pause", "resume"] {
        assert_eq!(client.post(&format!("/v1/fine_tuning/jobs/{as_job}/{action}")).await.status, 404, "{action}");
    }
    assert_eq!(client.get("/v1/fine_tuning/jobs").await.good()["data"], json!([]));
    let listed = client.get("/v1/evaluations?metadata[round]=1").await.good();
    assert_eq!((&listed["data"][0]["id"], listed["data"][0].get("report")), (&created["id"], None));
    assert_eq!(client.get(&format!("/v1/evaluations?after={id}")).await.good()["data"], json!([]));
    let events = client.get(&format!("/v1/evaluations/{id}/events")).await.good();
    assert_eq!(events["data"][0]["message"], "The evaluation has successfully completed");
    let stranger = service.stranger().await;
    for path in [format!("/v1/evaluations/{id}"), format!("/v1/evaluations/{id}/events")] {
        assert_eq!(stranger.get(&path).await.status, 404, "{path}");
    }
    let (status, param, code, _) = client.post(&format!("/v1/evaluations/{id}/cancel")).await.error();
    assert_eq!((status, param.as_deref(), code.as_deref()), (400, Some("evaluation_id"), Some("invalid_state")));

    let report = found["result_files"][1].as_str().unwrap();
    client.delete(&format!("/v1/files/{report}")).await.good();
    let without = client.get(&format!("/v1/evaluations/{id}")).await.good();
    assert!(without.get("report").is_none() && without["scores"] == found["scores"], "{without}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_evaluated_is_refused_by_name() {
    let service = service(&["tiny-bert", "tiny-resnet"]).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(40)).await;
    let base = json!("tiny-bert");
    let by = |method: &str, h: Value| json!({"method": {"type": method, method: {"hyperparameters": h}}});
    refused(&evaluate(&client, &base, &file, json!({})).await, "method.type", "an encoder without a head");
    refused(&evaluate(&client, &base, &file, by("text_classification", json!({}))).await, "model", "cannot classify");
    refused(
        &evaluate(&client, &json!("tiny-resnet"), &file, by("masked_lm", json!({}))).await,
        "method.type",
        "resnet",
    );
    let path = "method.embedding.hyperparameters";
    let trains = evaluate(&client, &base, &file, by("embedding", json!({"n_epochs": 3}))).await;
    refused(&trains, &format!("{path}.n_epochs"), "matters to training alone");
    let long = evaluate(&client, &base, &file, by("embedding", json!({"max_sequence_length": 100_000}))).await;
    refused(&long, &format!("{path}.max_sequence_length"), "at most");
    refused(&evaluate(&client, &base, "file-1", by("embedding", json!({}))).await, "test_file", "names no file");
    refused(&evaluate(&client, &json!(null), &file, json!({})).await, "model", "Missing required parameter");
    refused(&evaluate(&client, &base, &file, json!({"training_file": file})).await, "training_file", "Unrecognized");
    refused(&evaluate(&client, &base, &file, json!({"seed": -1})).await, "seed", "Allowed: 0 to");
    assert_eq!(evaluate(&client, &json!("nobody"), &file, json!({})).await.status, 404);

    // What only reading shows ends the evaluation.
    let failed = async |model: &Value, file: &str, more: Value| {
        let found = ended(&client, &evaluate(&client, model, file, more).await.good()).await;
        assert_eq!(found["status"], "failed", "{found}");
        let error = |field: &str| found["error"][field].as_str().unwrap().to_owned();
        (error("code"), error("param"), error("message"))
    };
    let (code, param, message) = failed(&base, &file, by("masked_lm", json!({}))).await;
    assert_eq!((code.as_str(), param.as_str()), ("invalid_model", "model"));
    assert!(message.contains("was not trained for masked_lm"), "{message}");
    let (code, param, message) = failed(&base, &file, by("embedding", json!({}))).await;
    assert_eq!((code.as_str(), param.as_str()), ("invalid_test_file", "test_file"));
    assert!(message.contains("line 1, anchor"), "{message}");
    let id = create(&client, "tiny-bert", &file, "text_classification", json!({"n_epochs": 1}), json!({})).await;
    let model = &succeeded(&client, &id).await["fine_tuned_model"];
    let other = client.upload("other.csv", "text,label\nwhere is my card,card\nwhat is this,riddle\n").await;
    let (_, param, message) = failed(model, &other, json!({})).await;
    assert_eq!(param, "test_file");
    assert!(message.contains("line 3, label: the label \"riddle\" is none of the model's"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_waits_its_turn_and_can_be_cancelled_and_repeated() {
    let service = Service::api().await;
    let model = data::tiny_model().with_file_name("tiny-modernbert");
    finetuned::app::models::import(&service.app, &model, "tiny-modernbert").await.unwrap();
    let client = service.client();
    let file = client.upload("data.csv", data::csv(40)).await;
    let body = json!({"model": "tiny-modernbert", "test_file": file});
    let send = async |key: &str, body: &Value| {
        let request = client.request(reqwest::Method::POST, "/v1/evaluations").json(body);
        client.send(request.header("idempotency-key", key)).await
    };
    let first = send("once", &body).await.good();
    assert_eq!(send("once", &body).await.good()["id"], first["id"]);
    let (status, _, code, _) = send("once", &json!({"model": "tiny-modernbert", "test_file": "x"})).await.error();
    assert_eq!((status, code.as_deref()), (409, Some("idempotency_key_reused")));
    assert_ne!(send("twice", &body).await.good()["id"], first["id"]);
    let path = format!("/v1/evaluations/{}/cancel", first["id"].as_str().unwrap());
    assert_eq!(client.post(&path).await.good()["status"], "cancelled");
    assert_eq!(client.post(&path).await.good()["status"], "cancelled");
    assert_eq!(service.stranger().await.post(&path).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_whose_trainer_dies_is_done_again() {
    let mut service = Service::api().await;
    let model = data::tiny_model().with_file_name("tiny-modernbert");
    finetuned::app::models::import(&service.app, &model, "tiny-modernbert").await.unwrap();
    service.app.failpoints = Failpoints::parse("1:trainer.evaluated=kill").unwrap();
    service.start_worker();
    let client = service.client();
    let file = client.upload("data.csv", data::csv(40)).await;
    let found = ended(&client, &evaluate(&client, &json!("tiny-modernbert"), &file, json!({})).await.good()).await;
    assert_eq!(found["status"], "succeeded", "{found}");
    let outcomes: Vec<&Value> =
        found["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["crashed", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_labels_are_reported_by_what_is_not_zero() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let rows: String = (0..900).map(|i| format!("where is my card,topic {}\n", i % 300)).collect();
    let file = client.upload("data.csv", format!("text,label\n{rows}")).await;
    let h = json!({"n_epochs": 1, "batch_size": 64});
    let id = create(&client, "tiny-bert", &file, "text_classification", h, json!({"test_file": file})).await;
    let job = succeeded(&client, &id).await;
    let whole = client.get(&format!("/v1/fine_tuning/jobs/{id}/evaluation")).await.good();
    let entries = whole["test"]["confusion_entries"].as_array().unwrap();
    let examples: u64 = entries.iter().map(|entry| entry[2].as_u64().unwrap()).sum();
    assert_eq!((examples, &whole["test"]["confusion_rest"]), (900, &json!(0)));
    let lines = String::from_utf8(model_file(&client, &job, "evaluation/predictions.jsonl").await).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["top_logits"].as_array().unwrap().len(), 20);
    assert_eq!(first["top_logits"][0]["label"], first["prediction"]);
}
