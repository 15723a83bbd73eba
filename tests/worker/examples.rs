//! The list of a job's training examples: orders, pages, every kind of data, and what is said where there is no list.

use finetuned::domain::example::columns::{self, Column, LABEL, LINE, MODEL_FILE};
use finetuned::domain::example::{ExampleOrder, ExampleStatistics, Observation};
use finetuned::domain::random::mix_all;
use finetuned::failpoint::Failpoints;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::support::client::Client;
use super::support::data;
use super::support::service::{Service, eventually};
use super::tasks::{create, images, service, succeeded};

fn path_of(job: &str) -> String {
    format!("/v1/fine_tuning/jobs/{job}/examples")
}

/// All examples of a job in an order, by pages of `limit`.
async fn all(client: &Client, job: &str, order: &str, limit: usize) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("{}?order={order}&limit={limit}{after}", path_of(job))).await.good();
        let items = page["data"].as_array().unwrap();
        assert_eq!((&page["first_id"], &page["last_id"]), (&items[0]["id"], &items[items.len() - 1]["id"]));
        found.extend(items.iter().cloned());
        if page["has_more"] == false {
            return found;
        }
        assert_eq!(items.len(), limit);
        after = format!("&after={}", page["last_id"].as_str().unwrap());
    }
}

fn numbers(examples: &[Value], field: &str) -> Vec<f64> {
    examples.iter().map(|example| example[field].as_f64().unwrap()).collect()
}

/// 45 rows, of which the one on line 22 has another label than the text is about.
fn mislabelled() -> String {
    let text = data::csv(45);
    let line = text.lines().nth(21).unwrap();
    let (question, label) = line.rsplit_once(',').unwrap();
    assert_ne!(label, "card");
    text.replacen(line, &format!("{question},card"), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_a_job_come_in_each_order_and_the_wrong_one_first() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let file = client.upload("data.csv", mislabelled()).await;
    let validation = client.upload("validation.csv", data::csv(12)).await;
    let h = json!({"n_epochs": 6, "learning_rate": 5e-3, "batch_size": 4, "gradient_accumulation_steps": 2});
    let more = json!({"validation_file": validation});
    let id = create(&client, "tiny-bert", &file, "text_classification", h, more).await;
    let job = succeeded(&client, &id).await;

    let margins = all(&client, &id, "margin", 7).await;
    assert_eq!(margins.len(), 45);
    let mut lines: Vec<u64> = margins.iter().map(|example| example["line"].as_u64().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, (2..=46).collect::<Vec<u64>>(), "each example once");
    assert!(numbers(&margins, "margin").is_sorted());
    assert!(margins.iter().all(|example| example["epochs"] == 6));
    let wrong = &margins[0];
    assert_eq!(
        (&wrong["line"], &wrong["label"], &wrong["object"]),
        (&json!(22), &json!("card"), &json!("fine_tuning.job.example"))
    );
    assert!(wrong["margin"].as_f64().unwrap() < 0.0, "{wrong}");

    let losses = all(&client, &id, "loss", 45).await;
    assert!(numbers(&losses, "mean_loss").is_sorted_by(|a, b| a >= b));
    let forgotten = all(&client, &id, "forgetting", 10).await;
    let known = forgotten.iter().position(|example| example["correctness"] != 0.0).unwrap();
    assert!(numbers(&forgotten[known..], "forgetting_events").is_sorted_by(|a, b| a >= b));
    for other in [&losses, &forgotten] {
        let sorted = |examples: &[Value]| {
            let mut texts: Vec<String> = examples.iter().map(Value::to_string).collect();
            texts.sort();
            texts
        };
        assert_eq!(sorted(other), sorted(&margins), "the same examples in another order");
    }
    let page = client.get(&path_of(&id)).await.good();
    assert_eq!(page["data"].as_array().unwrap()[..], margins[..20], "margins are the default");

    for (query, param, said) in [
        ("order=asc", "order", "Allowed: margin, loss, forgetting."),
        ("limit=1001", "limit", "from 1 to 1000"),
        ("after=x", "after", "'x' is no id"),
        ("after=45", "after", "'45' is no id"),
        ("before=1", "before", "Allowed: after, limit, order."),
    ] {
        let (status, at, _, message) = client.get(&format!("{}?{query}", path_of(&id))).await.error();
        assert_eq!((status, at.as_deref()), (400, Some(param)), "{query}");
        assert!(message.contains(said), "{query}: {message}");
    }
    let (status, _, code, _) = service.stranger().await.get(&path_of(&id)).await.error();
    assert_eq!((status, code.as_deref()), (404, Some("fine_tune_not_found")), "another project's");

    let model = job["fine_tuned_model"].as_str().unwrap();
    client.delete(&format!("/v1/models/{model}")).await.good();
    let (status, _, code, message) = client.get(&path_of(&id)).await.error();
    assert_eq!((status, code.as_deref()), (404, Some("examples_not_found")));
    assert!(message.contains("deleted with its model"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_labels_values_and_images_have_statistics_of_their_own() {
    let service = service(&["tiny-bert", "tiny-resnet"]).await;
    let client = service.client();
    let lines = |row: &dyn Fn(usize, &str, &str) -> Value| -> String {
        data::rows(40).iter().enumerate().map(|(i, (text, label))| format!("{}\n", row(i, text, label))).collect()
    };
    let h = || json!({"n_epochs": 3, "learning_rate": 5e-3});
    let dataset = |split: f64| json!({"dataset": {"validation_split": split}});

    let several = lines(
        &|i, text, label| json!({"text": text, "labels": if i == 7 { json!([]) } else { json!([label, "all"]) }}),
    );
    let file = client.upload("several.jsonl", several).await;
    let id = create(&client, "tiny-bert", &file, "text_classification", h(), dataset(0.0)).await;
    succeeded(&client, &id).await;
    let found = all(&client, &id, "margin", 40).await;
    let empty = found.iter().find(|example| example["line"] == 8).unwrap();
    assert_eq!((found.len(), &empty["labels"]), (40, &json!([])));
    assert_eq!(empty["disputed_label"], "all", "{empty}");
    assert!(found.iter().all(|example| example["margin"].is_number() && example.get("prediction").is_none()));
    let labels = &found.iter().find(|example| example["line"] == 1).unwrap()["labels"];
    assert_eq!(labels, &json!(["all", "card"]));

    let values = lines(&|i, text, _| json!({"text": text, "label": i as f64 / 4.0}));
    let file = client.upload("values.jsonl", values).await;
    let mut regression = h();
    regression["problem_type"] = json!("regression");
    let id = create(&client, "tiny-bert", &file, "text_classification", regression, dataset(0.25)).await;
    succeeded(&client, &id).await;
    let found = all(&client, &id, "loss", 9).await;
    assert_eq!(found.len(), 30, "what is held out is not among them");
    let first = &found[0];
    assert_eq!(first["value"], (first["line"].as_f64().unwrap() - 1.0) / 4.0);
    assert!(first["prediction"].is_number() && first["margin"].is_null() && first["forgetting_events"].is_null());
    assert_eq!(client.get(&path_of(&id)).await.good()["data"][0], *first, "of values losses are the default");
    let (status, param, _, message) = client.get(&format!("{}?order=margin", path_of(&id))).await.error();
    assert_eq!((status, param.as_deref()), (400, Some("order")));
    assert!(message.contains("Allowed: loss."), "{message}");

    let file = client.upload("images.tar", images(30)).await;
    let id = create(&client, "tiny-resnet", &file, "image_classification", h(), dataset(0.0)).await;
    succeeded(&client, &id).await;
    let found = all(&client, &id, "margin", 8).await;
    assert_eq!(found.len(), 30);
    let one = found.iter().find(|example| example["file"] == "green/1.png").unwrap();
    assert_eq!((&one["label"], &one["epochs"], one.get("line")), (&json!("green"), &json!(3), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_statistics_says_why() {
    let service = service(&["tiny-bert", "tiny-resnet"]).await;
    let client = service.client();
    let pairs: String = data::rows(30)
        .iter()
        .map(|(text, label)| format!("{}\n", json!({"anchor": text, "positive": label})))
        .collect();
    let plain: String = data::rows(30).into_iter().map(|(text, _)| format!("{text}\n")).collect();
    let mixed = json!({"n_epochs": 1, "augmentation": {"cutmix": 1.0}});
    for (model, method, name, bytes, h, why) in [
        ("tiny-bert", "masked_lm", "a.txt", plain.into_bytes(), json!({"n_epochs": 1}), "plain texts have no labels"),
        ("tiny-bert", "embedding", "a.jsonl", pairs.into_bytes(), json!({"n_epochs": 1}), "have no labels"),
        ("tiny-resnet", "image_classification", "a.tar", images(30), mixed, "show no image by itself"),
    ] {
        let file = client.upload(name, bytes).await;
        let id = create(&client, model, &file, method, h, json!({})).await;
        let job = succeeded(&client, &id).await;
        let (status, param, code, message) = client.get(&path_of(&id)).await.error();
        assert_eq!(
            (status, param.as_deref(), code.as_deref()),
            (404, Some("fine_tune_id"), Some("examples_not_found"))
        );
        assert!(message.contains(why), "{method}: {message}");
        let model = job["fine_tuned_model"].as_str().unwrap();
        let files = client.get(&format!("/v1/models/{model}/files")).await.good().to_string();
        assert!(!files.contains("training_examples"), "{method}: {files}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_its_way_has_the_statistics_of_its_latest_checkpoint() {
    let mut service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(40)).await;
    let h = json!({"n_epochs": 3, "batch_size": 8, "checkpoint_interval": 1000});
    let body = json!({"model": "tiny-bert", "training_file": file, "dataset": {"validation_split": 0},
                      "hyperparameters": h});
    let id = client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned();
    let (status, _, code, message) = client.get(&path_of(&id)).await.error();
    assert_eq!((status, code.as_deref()), (404, Some("examples_not_found")));
    assert!(message.contains("with its first checkpoint"), "{message}");

    service.app.failpoints = Failpoints::parse("trainer.step=slow").unwrap();
    service.start_worker();
    eventually("a step of the second epoch", 60, async || {
        (client.job(&id).await["progress"]["step"].as_u64().unwrap_or(0) >= 6).then_some(())
    })
    .await;
    assert_eq!(client.post(&format!("/v1/fine_tuning/jobs/{id}/pause")).await.good()["status"], "paused");
    let checkpoints = client.get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
    let step = checkpoints["data"][0]["step_number"].as_u64().unwrap();
    let epochs: u64 =
        all(&client, &id, "loss", 11).await.iter().map(|example| example["epochs"].as_u64().unwrap()).sum();
    assert_eq!(epochs, 8 * step, "five steps of eight examples are an epoch");

    client.post(&format!("/v1/fine_tuning/jobs/{id}/cancel")).await.good();
    let (status, _, code, message) = client.get(&path_of(&id)).await.error();
    assert_eq!((status, code.as_deref()), (404, Some("examples_not_found")));
    assert!(message.contains("it is cancelled"), "{message}");
}

/// Puts these bytes in the place of the statistics of the one job that has a model.
async fn put(service: &Service, bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let key = format!("jobs/put-{}", bytes.len());
    let stored = service.app.store.put_copy(&key, file.path()).await.unwrap();
    sqlx::query("update model_files set object_key = $1, bytes = $2, sha256 = $3 where path = $4")
        .bind(key)
        .bind(stored.bytes as i64)
        .bind(&stored.sha256[..])
        .bind(MODEL_FILE)
        .execute(service.app.db.pool())
        .await
        .unwrap();
}

/// Examples of which many have the same margin.
fn many(count: u64) -> Vec<ExampleStatistics> {
    let example = |number: u64| {
        let mut example = ExampleStatistics::default();
        let margin = (mix_all(&[number]) % 50_000) as f64 / 100.0 - 100.0;
        example.add(Observation { loss: 1.0, prediction: 2.0, margin: Some(margin) });
        example
    };
    (0..count).map(example).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_hundreds_of_thousands_of_examples_is_found_wherever_they_lie() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let id = create(&client, "tiny-bert", &file, "text_classification", json!({"n_epochs": 1}), json!({})).await;
    succeeded(&client, &id).await;
    // In the place of its own statistics.
    let (count, examples) = (300_000, many(300_000));
    let mut all = columns::columns(&examples, true);
    all.push(Column::new(LINE, Dtype::U64, (0..count).map(|number: u64| (number + 2).to_le_bytes())));
    all.push(Column::new(LABEL, Dtype::U32, (0..count).map(|number| (number as u32 % 3).to_le_bytes())));
    let all = all.iter().map(|column| (column.name, column));
    put(&service, &safetensors::serialize(all, None).unwrap()).await;

    let mut expected: Vec<_> =
        (0..).zip(&examples).map(|(number, example)| ExampleOrder::Margin.rank(number, example)).collect();
    expected.sort();
    for start in [None, Some(0), Some(123_456), Some(count as usize - 11)] {
        let after = start.map_or_else(String::new, |at: usize| format!("&after={}", expected[at].number));
        let page = client.get(&format!("{}?limit=10{after}", path_of(&id))).await.good();
        let from = start.map_or(0, |at| at + 1);
        let ids: Vec<String> = expected[from..].iter().take(10).map(|rank| rank.number.to_string()).collect();
        let found: Vec<&str> =
            page["data"].as_array().unwrap().iter().map(|example| example["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "after {start:?}");
        assert_eq!(page["has_more"], from + 10 < count as usize);
        let first = &page["data"][0];
        let number = expected[from].number;
        assert_eq!(first["line"], number + 2);
        assert_eq!(first["label"], ["card", "rate", "top up"][number as usize % 3]);
    }
    // What a trainer may have left instead.
    let line_alone = br#"{"line":{"dtype":"U64","shape":[1],"data_offsets":[0,8]}}"#;
    let with_header = |length: u64, header: &[u8], data: &[u8]| [&length.to_le_bytes(), header, data].concat();
    for bytes in [
        Vec::new(),
        with_header(u64::MAX, b"", b""),
        with_header(57, line_alone, &[1; 8]),
        with_header(57, line_alone, b""),
        with_header(58, line_alone, b""),
    ] {
        put(&service, &bytes).await;
        assert_eq!(client.get(&path_of(&id)).await.status, 500, "{bytes:?}");
    }
}
