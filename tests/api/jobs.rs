//! `/v1/fine_tuning/jobs`, with real training where a job runs.

use std::collections::BTreeMap;

use finetuned::app::validation;
use reqwest::Method;
use serde_json::{Value, json};

use super::support::data;
use super::support::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_job_has_every_field() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let body = json!({
        "model": "tiny-bert", "training_file": file, "suffix": "v1", "seed": 7, "metadata": {"team": "a"},
        "method": {"type": "text_classification", "text_classification": {"hyperparameters": {"n_epochs": 2}}},
    });
    let job = client.post_json("/v1/fine_tuning/jobs", &body).await.good();
    assert_eq!((&job["status"], &job["error"], &job["seed"]), (&json!("validating_files"), &Value::Null, &json!(7)));
    assert_eq!((&job["user_provided_suffix"], &job["metadata"]), (&json!("v1"), &json!({"team": "a"})));
    let values = &job["method"]["text_classification"]["hyperparameters"];
    assert_eq!(
        (&values["n_epochs"], &values["batch_size"], &values["lr_schedule"]),
        (&json!(2), &json!("auto"), &json!("linear"))
    );
    assert_eq!(job["hyperparameters"]["n_epochs"], 2);
    assert_eq!(client.messages(job["id"].as_str().unwrap()).await.len(), 2);
    validation::run_once(&service.app).await.unwrap();
    let queued = client.job(job["id"].as_str().unwrap()).await;
    assert_eq!(queued["status"], "queued");
    assert_eq!(queued["hyperparameters"]["batch_size"], 8, "auto is replaced");
    assert_eq!(
        (&queued["validation"]["held_out"], &queued["validation"]["training"]["examples"]),
        (&json!(3), &json!(30))
    );
}

/// The whole path once, with a validation and a test file.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_trains_and_leaves_its_model_metrics_and_checkpoints() {
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let client = service.client();
    let training = client.upload("data.csv", data::csv(48)).await;
    let validation = client.upload("valid.jsonl", data::jsonl(12)).await;
    let test = client.upload("test.csv", data::csv(9)).await;
    let body = json!({
        "model": "tiny-bert", "training_file": training, "validation_file": validation, "test_file": test,
        "suffix": "demo", "seed": 3,
        "hyperparameters": {"n_epochs": 8, "batch_size": 8, "learning_rate": 5e-3, "precision": "fp32",
                            "keep_checkpoints": 2},
    });
    let id = client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned();
    let job = client.wait_for_end(&id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let model = job["fine_tuned_model"].as_str().unwrap();
    assert!(model.starts_with("ft:tiny-bert:acme:demo:"), "{model}");
    assert!(job["trained_tokens"].as_u64().unwrap() > 1000 && job["finished_at"].is_i64());
    assert_eq!(job["evaluation"]["test"]["examples"], 9);
    assert!(job["evaluation"]["test"]["accuracy"].as_f64().unwrap() > 0.8, "{}", job["evaluation"]);
    assert_eq!(job["evaluation"]["validation"]["examples"], 12);
    assert_eq!(job["validation"]["validation_overlap"], 12);
    assert_eq!((&job["attempts"][0]["outcome"], &job["attempts"][0]["exit_code"]), (&json!("succeeded"), &json!(0)));
    assert!(job["attempts"][0]["peak_memory_bytes"].as_u64().unwrap() > 50 << 20);

    let messages = client.messages(&id).await;
    for (expected, at) in [
        (format!("Created fine-tuning job: {id}"), Some(0)),
        (format!("Validating training file: {training}"), Some(1)),
        ("Files validated, moving job to queued state".to_owned(), None),
        ("Fine-tuning job started".to_owned(), None),
        ("Checkpoint created at step 6".to_owned(), None),
        (format!("New fine-tuned model created: {model}"), Some(messages.len() - 2)),
        ("The job has successfully completed".to_owned(), Some(messages.len() - 1)),
    ] {
        let found = messages.iter().position(|message| *message == expected);
        assert!(found.is_some() && (at.is_none() || at == found), "{expected} in {messages:#?}");
    }
    assert!(
        messages.iter().any(|m| m.starts_with("12 validation examples are also training examples")),
        "{messages:#?}"
    );
    events_are_pages(&service, &id, messages.len()).await;

    let rows = client.get(&format!("/v1/fine_tuning/jobs/{id}/metrics")).await.good();
    let steps: Vec<u64> = rows["data"].as_array().unwrap().iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=48).collect::<Vec<u64>>());
    assert!(rows["data"][5]["metrics"]["full_valid_accuracy"].is_f64());
    assert!(rows["data"][4]["metrics"]["full_valid_accuracy"].is_null());
    let last = client.get(&format!("/v1/fine_tuning/jobs/{id}/metrics?order=desc&limit=2&after=48")).await.good();
    assert_eq!((&last["data"][0]["step"], &last["has_more"]), (&json!(47), &json!(true)));
    results_equal_metrics(&service, &job, &rows).await;
    checkpoints_are_kept(&service, &id, model).await;
    model_can_be_downloaded(&service, model).await;
    let stranger = service.stranger().await;
    let encoded = model.replace(':', "%3A");
    for path in [
        format!("/v1/fine_tuning/jobs/{id}"),
        format!("/v1/fine_tuning/jobs/{id}/events"),
        format!("/v1/fine_tuning/jobs/{id}/metrics"),
        format!("/v1/fine_tuning/jobs/{id}/checkpoints"),
        format!("/v1/models/{encoded}"),
        format!("/v1/models/{encoded}/files"),
        format!("/v1/models/{encoded}/archive"),
    ] {
        assert_eq!(stranger.get(&path).await.error().0, 404, "{path}");
    }
    assert_eq!(stranger.post(&format!("/v1/fine_tuning/jobs/{id}/cancel")).await.error().0, 404);
    assert_eq!(stranger.delete(&format!("/v1/models/{encoded}")).await.error().0, 404);
    assert_eq!(stranger.get("/v1/fine_tuning/jobs").await.good()["data"], json!([]));

    let ended = client.post(&format!("/v1/fine_tuning/jobs/{id}/cancel")).await;
    assert_eq!((ended.error().0, ended.error().2.as_deref()), (400, Some("invalid_state")));
    assert_eq!(ended.header("x-should-retry"), Some("false"));
}

async fn events_are_pages(service: &Service, id: &str, total: usize) {
    let client = service.client();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/fine_tuning/jobs/{id}/events?limit=7{after}")).await.good();
        seen.extend(page["data"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        if !page["has_more"].as_bool().unwrap() {
            break;
        }
        after = format!("&after={}", page["last_id"].as_str().unwrap());
    }
    assert_eq!(seen.len(), total);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), total, "no event twice");
}

async fn results_equal_metrics(service: &Service, job: &Value, rows: &Value) {
    let client = service.client();
    let file = job["result_files"][0].as_str().unwrap();
    let description = client.get(&format!("/v1/files/{file}")).await.good();
    assert_eq!(
        (&description["purpose"], &description["filename"]),
        (&json!("fine-tune-results"), &json!("step_metrics.csv"))
    );
    let csv = String::from_utf8(client.get(&format!("/v1/files/{file}/content")).await.bytes).unwrap();
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(header[..5], ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]);
    let table: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert_eq!(table.len(), 48);
    for (line, row) in table.iter().zip(rows["data"].as_array().unwrap()) {
        assert_eq!(line[0].parse::<u64>().unwrap(), row["step"]);
        assert_eq!(line[1].parse::<f64>().unwrap(), row["metrics"]["train_loss"]);
        assert_eq!(line[3].parse::<f64>().ok(), row["metrics"]["full_valid_loss"].as_f64());
    }
}

async fn checkpoints_are_kept(service: &Service, id: &str, model: &str) {
    let client = service.client();
    let list = client.get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
    let found: BTreeMap<u64, &Value> =
        list["data"].as_array().unwrap().iter().map(|c| (c["step_number"].as_u64().unwrap(), c)).collect();
    let best = found.values().map(|c| c["metrics"]["full_valid_accuracy"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(found.contains_key(&48) && found.contains_key(&42), "{:?}", found.keys());
    assert!(found.len() <= 3, "two latest and the best: {:?}", found.keys());
    assert!(best >= found[&48]["metrics"]["full_valid_accuracy"].as_f64().unwrap());
    let name = found[&42]["fine_tuned_model_checkpoint"].as_str().unwrap();
    assert_eq!(name, format!("{model}:ckpt-step-42"));
    let checkpoint = client.get(&format!("/v1/models/{}", name.replace(':', "%3A"))).await.good();
    assert_eq!((&checkpoint["kind"], &checkpoint["root"]), (&json!("checkpoint"), &json!("tiny-bert")));
    let files = client.get(&format!("/v1/models/{name}/files")).await.good();
    let paths: Vec<&str> = files["data"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
        "no training state"
    );
    // A job that has ended needs no training state any more.
    finetuned::worker::upkeep::sweep::run_once(&service.app).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from model_files where path like 'training/%'")
        .fetch_one(service.app.db.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

async fn model_can_be_downloaded(service: &Service, model: &str) {
    let client = service.client();
    let files = client.get(&format!("/v1/models/{model}/files")).await.good();
    let archive = client.get(&format!("/v1/models/{model}/archive")).await;
    assert_eq!(archive.header("content-type"), Some("application/x-tar"));
    let folder = tempfile::tempdir().unwrap();
    tar::Archive::new(&archive.bytes[..]).unpack(folder.path()).unwrap();
    let unpacked = folder.path().join(model.replace(':', "-"));
    for file in files["data"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let bytes = std::fs::read(unpacked.join(path)).unwrap();
        assert_eq!(bytes.len() as u64, file["bytes"], "{path}");
        let answer = client.get(&format!("/v1/models/{model}/files/{path}")).await;
        assert_eq!(answer.bytes, bytes, "{path}");
        assert_eq!(answer.header("etag").unwrap().trim_matches('"'), file["sha256"], "{path}");
    }
    assert!(unpacked.join("evaluation/predictions.jsonl").is_file());
    let list = client.get("/v1/models").await.good();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["tiny-bert", model], "checkpoints are not listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fine_tuned_model_can_be_tuned_further_and_deleted() {
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let first = client.create_job(&file, json!({"n_epochs": 1})).await;
    let model = client.wait_for_end(&first).await["fine_tuned_model"].as_str().unwrap().to_owned();
    let body = json!({"model": model, "training_file": file, "hyperparameters": {"n_epochs": 1}});
    let second = client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned();
    let job = client.wait_for_end(&second).await;
    assert_eq!((&job["status"], &job["model"]), (&json!("succeeded"), &json!(model)));
    let child = job["fine_tuned_model"].as_str().unwrap();
    assert!(child.starts_with("ft:tiny-bert:acme::"), "{child}");
    assert_eq!(client.get(&format!("/v1/models/{child}")).await.good()["root"], "tiny-bert");
    assert_eq!(client.delete(&format!("/v1/models/{model}")).await.good()["deleted"], true);
    assert_eq!(client.get(&format!("/v1/models/{model}")).await.error().0, 404);
    assert_eq!(client.delete(&format!("/v1/models/{model}")).await.error().0, 404);
    assert_eq!(client.job(&first).await["fine_tuned_model"], json!(model), "the job still says what it made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_makes_one_job() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let body = json!({"model": "tiny-bert", "training_file": file});
    let send = async |body: &Value, name: &'static str, value: &str| {
        client.send(client.request(Method::POST, "/v1/fine_tuning/jobs").header(name, value).json(body)).await
    };
    let id = |answer: &super::support::client::Answer| answer.good()["id"].as_str().unwrap().to_owned();

    // An SDK that retries blindly sends no key, only a count.
    let first = id(&send(&body, "x-stainless-retry-count", "0").await);
    assert_eq!(id(&send(&body, "x-stainless-retry-count", "1").await), first);
    assert_eq!(id(&send(&body, "x-stainless-retry-count", "2").await), first);
    assert_ne!(id(&send(&body, "x-stainless-retry-count", "0").await), first, "asked for anew, made anew");

    let keyed = id(&send(&body, "idempotency-key", "k1").await);
    assert_eq!(id(&send(&body, "idempotency-key", "k1").await), keyed);
    assert_ne!(id(&send(&body, "idempotency-key", "k2").await), keyed);
    let other = json!({"model": "tiny-bert", "training_file": file, "seed": 1});
    let reused = send(&other, "idempotency-key", "k1").await;
    assert_eq!((reused.error().0, reused.error().2.as_deref()), (409, Some("idempotency_key_reused")));
    assert_eq!(reused.header("x-should-retry"), Some("false"));
    assert_eq!(send(&body, "idempotency-key", "").await.error().1.as_deref(), Some("idempotency-key"));

    // Many at once.
    let client = service.client();
    let requests = (0..20).map(|_| {
        let (client, body) = (client.clone(), body.clone());
        tokio::spawn(async move {
            let request =
                client.request(Method::POST, "/v1/fine_tuning/jobs").header("idempotency-key", "k3").json(&body);
            client.send(request).await.good()["id"].as_str().unwrap().to_owned()
        })
    });
    let ids = futures_util::future::join_all(requests).await;
    let first = ids[0].as_ref().unwrap();
    assert!(ids.iter().all(|id| id.as_ref().unwrap() == first));
    assert_eq!(client.get("/v1/fine_tuning/jobs").await.good()["data"].as_array().unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_newest_first_and_by_metadata() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let mut ids = Vec::new();
    for metadata in
        [json!(null), json!({"team": "a", "run": "1"}), json!({"team": "b"}), json!({"team": "a", "note": ""})]
    {
        let body = json!({"model": "tiny-bert", "training_file": file, "metadata": metadata});
        ids.push(client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned());
    }
    let list = async |query: &str| -> Vec<usize> {
        let page = client.get(&format!("/v1/fine_tuning/jobs?{query}")).await.good();
        let place = |job: &Value| ids.iter().position(|id| *id == job["id"]).unwrap();
        page["data"].as_array().unwrap().iter().map(place).collect()
    };
    assert_eq!(list("").await, [3, 2, 1, 0]);
    assert_eq!(list(&format!("limit=2&after={}", ids[3])).await, [2, 1]);
    assert_eq!(list("metadata%5Bteam%5D=a").await, [3, 1]);
    assert_eq!(list("metadata[team]=a&metadata[run]=1").await, [1]);
    assert_eq!(list("metadata[note]=").await, [3]);
    assert_eq!(list("metadata=null").await, [0]);
    assert_eq!(list("metadata[team]=c").await, [0_usize; 0]);
    assert_eq!(list("order=asc").await, [0, 1, 2, 3]);
    assert_eq!(list("order=asc&limit=2&metadata[team]=a").await, [1, 3]);
    assert_eq!(list("status=validating_files&model=tiny-bert").await, [3, 2, 1, 0]);
    assert_eq!(list("status=queued").await, [0_usize; 0]);
    assert_eq!(list("model=tiny").await, [0_usize; 0]);
    validation::run_once(&service.app).await.unwrap();
    assert_eq!(list("status=queued").await, [0]);
    let listed = client.get("/v1/fine_tuning/jobs?status=queued").await.good()["data"][0].clone();
    let mut whole = client.job(&ids[0]).await;
    assert_eq!(whole["validation"].take()["training"]["examples"], 30);
    assert_eq!(listed, whole, "a list leaves out the report alone");
    let oldest = client.get(&format!("/v1/fine_tuning/jobs/{}/events?order=asc&limit=1", ids[0])).await.good();
    let message = oldest["data"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("Created fine-tuning job") && oldest["has_more"] == true, "{oldest}");
    let next = format!(
        "/v1/fine_tuning/jobs/{}/events?order=asc&limit=1&after={}",
        ids[0],
        oldest["last_id"].as_str().unwrap()
    );
    assert!(client.get(&next).await.good()["data"][0]["message"].as_str().unwrap().starts_with("Validating"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_jobs_ends_before_its_limit() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, client.create_job(&file, json!({})).await);
    }
    // As large as no request makes them.
    sqlx::query("update jobs set evaluation = jsonb_build_object('filler', repeat('x', 3000000))")
        .execute(service.app.db.pool())
        .await
        .unwrap();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        // The filler is nothing that the contract knows.
        let request = client.request(Method::GET, &format!("/v1/fine_tuning/jobs?limit=100{after}"));
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        let found = page["data"].as_array().unwrap();
        assert!((1..=2).contains(&found.len()), "{}", found.len());
        seen.extend(found.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        if page["has_more"] == false {
            break;
        }
        after = format!("&after={}", seen.last().unwrap());
    }
    assert_eq!(seen, ids);
}

/// The SDKs send these routes a content type and no body, or nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn cancelling_takes_no_body_and_can_be_repeated() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    for content_type in [None, Some("application/json")] {
        let id = client.create_job(&file, json!({})).await;
        let cancel = || {
            let request = client.request(Method::POST, &format!("/v1/fine_tuning/jobs/{id}/cancel"));
            match content_type {
                Some(value) => request.header("content-type", value).header("content-length", "0"),
                None => request,
            }
        };
        let job = client.send(cancel()).await.good();
        assert_eq!((&job["status"], job["finished_at"].is_i64()), (&json!("cancelled"), true));
        assert_eq!(client.send(cancel()).await.good()["status"], "cancelled");
        assert_eq!(client.messages(&id).await.last().unwrap(), "Fine-tuning job cancelled");
    }
    assert!(!validation::run_once(&service.app).await.unwrap(), "nothing is left to validate");
}
