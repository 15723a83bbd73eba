//! What the service says of itself: log lines, the audit, metrics; and that no caller can make it say too much.

use reqwest::Method;
use serde_json::{Value, json};

use super::support::data;
use super::support::logs;
use super::support::service::Service;

/// The fields of the request lines of one operation of a project.
fn requests(of: &str) -> Vec<Value> {
    let lines = logs::lines_with(of).into_iter().map(|line| line["fields"].clone());
    lines.filter(|fields| fields["message"] == "request").collect()
}

fn audit(of: &str) -> Vec<(String, String, String)> {
    let lines = logs::lines_with(of).into_iter().filter(|line| line["target"] == "audit");
    let text = |line: &Value, name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
    lines.map(|line| (text(&line, "action"), text(&line, "outcome"), text(&line, "resource"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_leaves_one_line_and_a_change_one_more() {
    logs::capture();
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let key = requests(&file)[0]["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("key_"), "{key}");
    let upload = requests(&file)[0].clone();
    for (field, value) in [
        ("project", json!("acme")),
        ("method", json!("POST")),
        ("route", json!("/v1/files")),
        ("path", json!("/v1/files")),
        ("status", json!(200)),
        ("resource", json!(file)),
    ] {
        assert_eq!(upload[field], value, "{field}: {upload}");
    }
    assert!(upload["request.id"].as_str().unwrap().starts_with("req_") && upload["duration_ms"].is_f64(), "{upload}");

    let body = json!({"model": "tiny-bert", "training_file": file, "dry_run": true});
    client.post_json("/v1/fine_tuning/jobs", &body).await.good();
    let job = client.create_job(&file, json!({"n_epochs": 1})).await;
    client.post(&format!("/v1/fine_tuning/jobs/{job}/cancel")).await.good();
    client.delete("/v1/models/tiny-bert").await.error();
    client.delete(&format!("/v1/files/{file}")).await.good();
    client.get(&format!("/v1/files/{file}")).await.error();
    let change =
        |action: &str, outcome: &str, resource: &str| (action.to_owned(), outcome.to_owned(), resource.to_owned());
    assert_eq!(
        audit(&key),
        [
            change("create_key", "done", &key),
            change("create_file", "done", &file),
            change("create_job", "done", &job),
            change("cancel_job", "done", &job),
            change("delete_model", "refused", "tiny-bert"),
            change("delete_file", "done", &file),
        ],
        "a dry run and reading change nothing"
    );
    let reading = requests(&file).pop().unwrap();
    assert_eq!((&reading["route"], &reading["status"]), (&json!("/v1/files/{file_id}"), &json!(404)));
    assert!(reading["error"].as_str().unwrap().contains("No such File object"), "{reading}");

    // What the operator does is in the audit, too.
    let imports = audit("import_model");
    assert!(!imports.is_empty() && imports.iter().all(|line| *line == change("import_model", "done", "tiny-bert")));
    let (id, secret) = finetuned::app::keys::create(&service.app, "acme", "laptop").await.unwrap();
    finetuned::app::keys::revoke(&service.app, id).await.unwrap();
    let actions: Vec<String> = audit(&id.to_string()).into_iter().map(|(action, ..)| action).collect();
    assert_eq!(actions, ["create_key", "revoke_key"]);
    assert!(logs::lines_with(secret.expose()).is_empty() && logs::lines_with(&service.key).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_do_not_drown_the_log() {
    logs::capture();
    let service = Service::api().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        service.client().get(path).await;
    }
    assert!(logs::lines_with("\"route\":\"/healthz\"").is_empty() && logs::lines_with("/metrics").is_empty());
    service.app.db.close().await;
    service.client().get("/readyz").await;
    assert_eq!(logs::lines_with("\"route\":\"/readyz\"")[0]["level"], "ERROR", "one that fails is seen");
}

/// Without a key, 20,000 of them made `/metrics` 63 MB once.
#[tokio::test(flavor = "multi_thread")]
async fn invented_methods_and_paths_make_no_series() {
    let service = Service::api().await;
    let client = service.client().with_key(None);
    for number in 0..2000 {
        let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        let path = if number % 2 == 0 { "/v1/files".to_owned() } else { format!("/nowhere/{number}") };
        let status = client.request(method, &path).send().await.unwrap().status();
        assert!(status == 405 || status == 404, "{status}");
    }
    let text = String::from_utf8(client.get("/metrics").await.bytes).unwrap();
    let series = text.lines().filter(|line| line.starts_with("finetuned_http")).count();
    assert!(series < 1000 && text.len() < 200_000, "{series} series, {} bytes", text.len());
    assert!(text.contains(r#"{method="other",route="/v1/files",status="405"}"#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_of_a_caller_is_neither_kept_nor_told() {
    logs::capture();
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let long = "x".repeat(900_000);
    let job = |changes: Value| {
        let mut body = json!({"model": "tiny-bert", "training_file": file});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        ("/v1/fine_tuning/jobs", body)
    };
    let named = |name: &str, value: Value| json!({name: value});
    let classification = |hyperparameters: Value| json!({"method": {"type": "text_classification", "text_classification": {"hyperparameters": hyperparameters}}});
    for ((path, body), param) in [
        (job(named("model", json!(long))), "model"),
        (job(named("model", json!("y".repeat(300)))), "model"),
        (job(named("training_file", json!(long))), "training_file"),
        (job(named("validation_file", json!(long))), "validation_file"),
        (job(named("test_file", json!("y".repeat(300)))), "test_file"),
        (job(named("suffix", json!(long))), "suffix"),
        (job(named("dataset", json!({"text_column": long}))), "dataset.text_column"),
        (job(named("dataset", json!({"label_column": "y".repeat(201)}))), "dataset.label_column"),
        (job(named("metadata", json!({"k": long}))), "metadata.k"),
        (job(named(&long, json!(1))), "xxxx"),
        (job(named("method", json!({"type": long}))), "method.type"),
        (job(named("method", json!({"type": "text_classification", &long: 1}))), "method.xxxx"),
        (job(named("dataset", json!({&long: 1}))), "xxxx"),
        (job(classification(named(&long, json!(1)))), "method.text_classification.hyperparameters.xxxx"),
        (job(classification(json!({"adapter": {&long: 1}}))), "method.text_classification.hyperparameters.adapter"),
        (job(classification(json!({"lr_schedule": long}))), "method.text_classification.hyperparameters.lr_schedule"),
        (("/v1/evaluations", json!({"model": long, "test_file": file})), "model"),
        (
            ("/v1/evaluations", json!({"model": "tiny-bert", "test_file": file, "dataset": {"text_column": long}})),
            "dataset.text_column",
        ),
        (("/v1/classifications", json!({"model": long, "input": "a"})), "model"),
    ] {
        let answer = client.post_json(path, &body).await;
        let (status, found, _, message) = answer.error();
        assert!((400..500).contains(&status), "{status} {message}");
        assert!(found.as_deref().unwrap_or_default().starts_with(param), "{found:?} where {param}: {message}");
        assert!(answer.bytes.len() < 1024, "{param}: {} bytes", answer.bytes.len());
    }
    let long = "y".repeat(8000);
    for path in ["/v1/files/", "/v1/fine_tuning/jobs/", "/v1/evaluations/", "/v1/models/", "/", "/v1/files?after="] {
        let answer = client.get(&format!("{path}{long}")).await;
        assert!(answer.status >= 400 && answer.bytes.len() < 1024, "{path}: {} bytes", answer.bytes.len());
    }
    let patch = Method::from_bytes("Z".repeat(5000).as_bytes()).unwrap();
    assert!(client.request(patch, "/v1/files").send().await.unwrap().bytes().await.unwrap().len() < 1024);
    for text in ["xxxxxxxx", "yyyyyyyy"] {
        let longest = logs::longest_with(text);
        assert!((1..1024).contains(&longest), "a line of {longest} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_a_model_that_is_not_there_is_told_what_is() {
    let service = Service::api().await;
    let body = json!({"model": "gpt-4o-mini", "training_file": "file-none"});
    let message = service.client().post_json("/v1/fine_tuning/jobs", &body).await.error().3;
    assert!(message.contains("no base models yet") && message.contains("finetuned models import"), "{message}");
    service.import_tiny_model().await;
    let answer = service.client().get("/v1/models/gpt-4o-mini").await;
    let (status, param, code, message) = answer.error();
    assert_eq!((status, param.as_deref(), code.as_deref()), (404, Some("model"), Some("model_not_found")));
    assert!(message.contains("Base models: tiny-bert;"), "{message}");
}
