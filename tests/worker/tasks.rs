//! Every task and every family through the whole service: what people get, and what they are told where it cannot be.

use finetuned::failpoint::Failpoints;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::client::Client;
use super::support::data;
use super::support::service::Service;

pub async fn service(models: &[&str]) -> Service {
    let mut service = Service::api().await;
    for name in models {
        let directory = data::tiny_model().with_file_name(name);
        finetuned::app::models::import(&service.app, &directory, name).await.unwrap();
    }
    service.start_worker();
    service
}

/// Creates a job of this method; `more` holds further fields of the request.
pub async fn create(
    client: &Client,
    model: &str,
    file: &str,
    method: &str,
    hyperparameters: Value,
    more: Value,
) -> String {
    let mut body = json!({"model": model, "training_file": file, "seed": 5,
                          "method": {"type": method, method: {"hyperparameters": hyperparameters}}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned()
}

pub async fn succeeded(client: &Client, id: &str) -> Value {
    let job = client.wait_for_end(id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    job
}

pub async fn model_file(client: &Client, job: &Value, path: &str) -> Vec<u8> {
    let name = job["fine_tuned_model"].as_str().unwrap().replace('/', "%2F");
    let answer = client.get(&format!("/v1/models/{name}/files/{path}")).await;
    assert_eq!(answer.status, 200, "{path}");
    answer.bytes
}

pub async fn model_json(client: &Client, job: &Value, path: &str) -> Value {
    serde_json::from_slice(&model_file(client, job, path).await).unwrap()
}

/// The tensors of a model, by name, as float32.
async fn tensors(client: &Client, job: &Value, path: &str) -> std::collections::BTreeMap<String, Vec<f32>> {
    let bytes = model_file(client, job, path).await;
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    file.iter().map(|(name, tensor)| (name.to_owned(), values(tensor.data()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_family_trains_a_classifier() {
    let families = ["tiny-bert", "tiny-roberta", "tiny-distilbert", "tiny-modernbert"];
    let service = service(&families).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(60)).await;
    let waiting = create(&client, "tiny-bert", &file, "text_classification", json!({"n_epochs": 50}), json!({})).await;
    let (status, _, code, message) = client.get(&format!("/v1/fine_tuning/jobs/{waiting}/evaluation")).await.error();
    assert_eq!((status, code.as_deref()), (404, Some("evaluation_not_found")), "{message}");
    client.post(&format!("/v1/fine_tuning/jobs/{waiting}/cancel")).await.good();
    for (family, architecture) in families.into_iter().zip([
        "BertForSequenceClassification",
        "RobertaForSequenceClassification",
        "DistilBertForSequenceClassification",
        "ModernBertForSequenceClassification",
    ]) {
        let h = json!({"n_epochs": 8, "learning_rate": 5e-3});
        let id = create(&client, family, &file, "text_classification", h, json!({"test_file": file})).await;
        let job = succeeded(&client, &id).await;
        let accuracy = job["evaluation"]["test"]["accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.9, "{family}: {accuracy}");
        let config = model_json(&client, &job, "config.json").await;
        assert_eq!((&config["architectures"][0], &config["id2label"]["0"]), (&json!(architecture), &json!("card")));
        let whole = client.get(&format!("/v1/fine_tuning/jobs/{id}/evaluation")).await.good();
        let report = &whole["test"];
        assert_eq!(report["accuracy"], accuracy);
        assert_eq!(whole["validation"]["examples"], job["evaluation"]["validation"]["examples"]);
        let predictions = client.get(report["predictions"].as_str().unwrap()).await;
        assert_eq!(predictions.bytes.split(|&byte| byte == b'\n').count(), 61, "a line for each example");
        assert!(report["confidence_intervals"]["accuracy"][0].as_f64().unwrap() <= accuracy);
        assert!(report["calibration_error"].is_number() && report["mcc"].is_number(), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_labels_values_and_pairs_have_their_own_scores() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let lines = |row: &dyn Fn(usize, &str, &str) -> Value| -> String {
        data::rows(60).iter().enumerate().map(|(i, (text, label))| format!("{}\n", row(i, text, label))).collect()
    };
    let h = || json!({"n_epochs": 10, "learning_rate": 5e-3});
    let many = lines(
        &|i, text, label| json!({"text": text, "labels": if i % 2 == 0 { json!([label, "even"]) } else { json!([label]) }}),
    );
    let file = client.upload("many.jsonl", many).await;
    let id = create(&client, "tiny-bert", &file, "text_classification", h(), json!({"test_file": file})).await;
    let job = succeeded(&client, &id).await;
    let problem = &job["method"]["text_classification"]["hyperparameters"]["problem_type"];
    assert_eq!(problem, "multi_label_classification");
    assert!(job["evaluation"]["test"]["micro_f1"].as_f64().unwrap() > 0.5, "{job}");
    assert_eq!(model_json(&client, &job, "config.json").await["problem_type"], "multi_label_classification");

    let values = lines(&|_, text, label| json!({"text": text, "label": label.len() as f64 - 4.5}));
    let file = client.upload("values.jsonl", values).await;
    let mut regression = h();
    regression["problem_type"] = json!("regression");
    regression["learning_rate"] = json!(2e-3);
    regression["n_epochs"] = json!(20);
    let id = create(&client, "tiny-bert", &file, "text_classification", regression, json!({"test_file": file})).await;
    let job = succeeded(&client, &id).await;
    assert!(job["evaluation"]["test"]["pearson"].as_f64().unwrap() > 0.5, "{job}");
    assert_eq!(job["validation"]["training"]["values"]["max"], 1.5);
    assert_eq!(model_json(&client, &job, "config.json").await["id2label"], json!({"0": "LABEL_0"}));

    let pairs = lines(&|_, text, label| json!({"text": text, "text_pair": label, "label": label.len() > 4}));
    let file = client.upload("pairs.jsonl", pairs).await;
    let id = create(&client, "tiny-bert", &file, "text_classification", h(), json!({"test_file": file})).await;
    let job = succeeded(&client, &id).await;
    assert!(job["evaluation"]["test"]["accuracy"].as_f64().unwrap() > 0.9, "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_adapted_to_a_domain_becomes_the_base_of_a_classifier() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let texts: String = data::rows(200).into_iter().map(|(text, _)| format!("{text}\n")).collect();
    let file = client.upload("domain.txt", texts).await;
    let h = json!({"n_epochs": 10, "learning_rate": 3e-3, "whole_word_masking": true, "eval_interval": 20});
    let id = create(&client, "tiny-bert", &file, "masked_lm", h, json!({})).await;
    let adapted = succeeded(&client, &id).await;
    let rows = client.get(&format!("/v1/fine_tuning/jobs/{id}/metrics?limit=1000")).await.good();
    let losses: Vec<f64> =
        rows["data"].as_array().unwrap().iter().filter_map(|row| row["metrics"]["full_valid_loss"].as_f64()).collect();
    assert!(losses.last().unwrap() < &(0.8 * losses[0]), "{losses:?}");
    assert_eq!(model_json(&client, &adapted, "config.json").await["architectures"], json!(["BertForMaskedLM"]));

    let base = adapted["fine_tuned_model"].as_str().unwrap();
    let file = client.upload("data.csv", data::csv(60)).await;
    let id = create(&client, base, &file, "text_classification", json!({"n_epochs": 2}), json!({})).await;
    let job = succeeded(&client, &id).await;
    assert_eq!(job["model"], base);
    assert_eq!(model_json(&client, &job, "manifest.json").await["base_model"], base);
}

#[tokio::test(flavor = "multi_thread")]
async fn sentence_embeddings_come_in_the_layout_of_sentence_transformers() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let rows = data::rows(90);
    let pairs: String = rows
        .iter()
        .zip(rows.iter().skip(3))
        .map(|((anchor, _), (positive, _))| format!("{}\n", json!({"anchor": anchor, "positive": positive})))
        .collect();
    let file = client.upload("pairs.jsonl", pairs).await;
    let h = json!({"n_epochs": 4, "batch_size": 16, "learning_rate": 1e-3, "token_dropout": 0.1});
    let id = create(&client, "tiny-bert", &file, "embedding", h, json!({"test_file": file})).await;
    let job = succeeded(&client, &id).await;
    assert!(job["evaluation"]["test"]["accuracy"].is_number(), "{job}");
    let modules = model_json(&client, &job, "modules.json").await;
    assert_eq!(modules[1]["path"], "1_Pooling");
    assert_eq!(model_json(&client, &job, "1_Pooling/config.json").await["word_embedding_dimension"], 32);
    let names: Vec<String> = tensors(&client, &job, "model.safetensors").await.into_keys().collect();
    assert!(names.iter().any(|name| name == "embeddings.word_embeddings.weight"), "{names:?}");
    assert!(names.iter().any(|name| name == "pooler.dense.weight"), "the base model's pooler stays: {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_and_frozen_parts_leave_the_rest_as_it_was() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(60)).await;
    let base = std::fs::read(data::tiny_model().join("model.safetensors")).unwrap();
    let base = safetensors::SafeTensors::deserialize(&base).unwrap();
    let base_values = |name: &str| -> Vec<f32> {
        let data = base.tensor(name.trim_start_matches("bert.")).unwrap().data().to_vec();
        data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let word = "bert.embeddings.word_embeddings.weight";
    let query = "bert.encoder.layer.0.attention.self.query.weight";
    let top = "bert.encoder.layer.1.output.dense.weight";
    for (h, same, changed) in [
        (json!({"freeze": "backbone"}), &[word, query, top][..], &[][..]),
        (json!({"freeze": {"layers": 1}}), &[word, query], &[top]),
        (json!({"adapter": {"type": "lora", "r": 4, "dropout": 0.1}}), &[word, top], &[query]),
    ] {
        let mut h = h;
        h["n_epochs"] = json!(10);
        h["learning_rate"] = json!(2e-2);
        let id =
            create(&client, "tiny-bert", &file, "text_classification", h.clone(), json!({"test_file": file})).await;
        let job = succeeded(&client, &id).await;
        let accuracy = job["evaluation"]["test"]["accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.6, "{h}: {accuracy}");
        let found = tensors(&client, &job, "model.safetensors").await;
        for name in same {
            assert_eq!(found[*name], base_values(name), "{h}: {name}");
        }
        for name in changed {
            assert_ne!(found[*name], base_values(name), "{h}: {name}");
        }
        if h.get("adapter").is_some() {
            let config = model_json(&client, &job, "adapter/adapter_config.json").await;
            assert_eq!((&config["r"], &config["modules_to_save"]), (&json!(4), &json!(["classifier"])));
            let adapter = tensors(&client, &job, "adapter/adapter_model.safetensors").await;
            let a = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight";
            assert_eq!((adapter[a].len(), adapter.len()), (4 * 32, 2 * 2 * 2 + 2), "{:?}", adapter.keys());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stops_early_and_keeps_its_best_model() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let (file, validation) =
        (client.upload("data.csv", data::csv(60)).await, client.upload("v.csv", data::csv(30)).await);
    let h = json!({"n_epochs": 50, "learning_rate": 1e-2, "eval_interval": 5,
                   "early_stopping": {"metric": "accuracy", "patience": 2}});
    let more = json!({"validation_file": validation});
    let id = create(&client, "tiny-bert", &file, "text_classification", h, more).await;
    let job = succeeded(&client, &id).await;
    let rows = client.get(&format!("/v1/fine_tuning/jobs/{id}/metrics?limit=1000")).await.good();
    let rows = rows["data"].as_array().unwrap();
    assert!(rows.len() < 400, "{} steps of 400", rows.len());
    let best = rows.iter().filter_map(|row| row["metrics"]["full_valid_accuracy"].as_f64()).fold(0.0, f64::max);
    assert_eq!(job["evaluation"]["validation"]["accuracy"].as_f64().unwrap(), best);
    let events = client.get(&format!("/v1/fine_tuning/jobs/{id}/events?limit=100")).await.good().to_string();
    assert!(events.contains("Stopped early: the model is the one of step"), "{events}");

    // Whatever a method measures it can be stopped by, and that is a column of the result file.
    let h = json!({"n_epochs": 50, "learning_rate": 1e-2, "eval_interval": 5,
                   "early_stopping": {"metric": "perplexity", "patience": 1, "min_delta": 1e6}});
    let (file, validation) = (client.upload("a.txt", plain(60)).await, client.upload("b.txt", plain(30)).await);
    let id = create(&client, "tiny-bert", &file, "masked_lm", h, json!({"validation_file": validation})).await;
    let job = succeeded(&client, &id).await;
    let events = client.get(&format!("/v1/fine_tuning/jobs/{id}/events?limit=100")).await.good().to_string();
    assert!(events.contains("Stopped early: the model is the one of step 5"), "{events}");
    let path = format!("/v1/files/{}/content", job["result_files"][0].as_str().unwrap());
    let table = String::from_utf8(client.get(&path).await.bytes).unwrap();
    assert!(table.lines().next().unwrap().ends_with(",trained_tokens,valid_perplexity"), "{table}");
}

fn plain(lines: usize) -> String {
    (0..lines).map(|line| format!("the card number {line} was lost and a new one is on its way\n")).collect()
}

/// A tar of images with a folder per class: one colour each, and some noise.
pub fn images(count: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for number in 0..count {
        let (class, colour) = [("red", [200, 40, 40]), ("green", [40, 200, 40]), ("blue", [40, 40, 200])][number % 3];
        let noise = |x: u32, y: u32, channel: u64| {
            let place = [number as u64, u64::from(x), u64::from(y), channel];
            (finetuned::domain::random::mix_all(&place) % 40) as u8
        };
        let image = image::RgbImage::from_fn(40, 36, |x, y| {
            image::Rgb([0, 1, 2].map(|channel| colour[channel] + noise(x, y, channel as u64)))
        });
        let mut bytes = Vec::new();
        image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("{class}/{number}.png"), &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn augmented(epochs: u32) -> Value {
    json!({"n_epochs": epochs, "batch_size": 8, "learning_rate": 2e-3, "checkpoint_interval": 4,
           "augmentation": {"random_resized_crop": {"scale": [0.5, 1.0]}, "horizontal_flip": 0.5, "mixup": 0.2,
                            "color_jitter": {"brightness": 0.2}, "random_erasing": 0.2}})
}

#[tokio::test(flavor = "multi_thread")]
async fn images_train_both_kinds_of_classifiers() {
    let service = service(&["tiny-resnet", "tiny-vit"]).await;
    let client = service.client();
    let (file, test) = (client.upload("images.tar", images(60)).await, client.upload("test.tar", images(30)).await);
    let uploaded = client.get(&format!("/v1/files/{file}")).await.good();
    assert_eq!(uploaded["validation"]["image_classification"]["labels"], json!({"blue": 20, "green": 20, "red": 20}));
    for (model, h) in [
        ("tiny-resnet", augmented(6)),
        ("tiny-vit", augmented(6)),
        ("tiny-vit", json!({"n_epochs": 10, "freeze": "backbone", "learning_rate": 1e-2})),
        ("tiny-vit", json!({"n_epochs": 10, "adapter": {"type": "lora"}, "learning_rate": 1e-2})),
    ] {
        let id = create(&client, model, &file, "image_classification", h.clone(), json!({"test_file": test})).await;
        let job = succeeded(&client, &id).await;
        let accuracy = job["evaluation"]["test"]["accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.8, "{model} {h}: {accuracy}");
        let predictions = String::from_utf8(model_file(&client, &job, "evaluation/predictions.jsonl").await).unwrap();
        let first: Value = serde_json::from_str(predictions.lines().next().unwrap()).unwrap();
        assert_eq!((&first["file"], &first["label"]), (&json!("red/0.png"), &json!("red")));
        assert!(model_json(&client, &job, "preprocessor_config.json").await["image_mean"].is_array());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_on_the_way_ends_with_the_same_bits_whatever_it_trains() {
    let texts = data::csv(60);
    let plain: String = data::rows(80).into_iter().map(|(text, _)| format!("{text}\n")).collect();
    let h = |more: Value| {
        let mut h = json!({"n_epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "checkpoint_interval": 4});
        h.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        h
    };
    for (model, method, name, bytes, h) in [
        ("tiny-resnet", "image_classification", "images.tar", images(60), augmented(2)),
        ("tiny-vit", "image_classification", "images.tar", images(60), augmented(2)),
        ("tiny-bert", "masked_lm", "plain.txt", plain.into_bytes(), h(json!({}))),
        (
            "tiny-bert",
            "text_classification",
            "data.csv",
            texts.clone().into_bytes(),
            h(json!({"adapter": {"type": "lora", "dropout": 0.1}, "token_dropout": 0.1, "token_masking": 0.1})),
        ),
        (
            "tiny-modernbert",
            "text_classification",
            "data.csv",
            texts.clone().into_bytes(),
            h(json!({"layerwise_lr_decay": 0.8, "precision": "bf16", "eval_interval": 3,
                     "early_stopping": {"patience": 2}})),
        ),
        ("tiny-bert", "text_classification", "data.csv", texts.into_bytes(), h(json!({"freeze": "backbone"}))),
    ] {
        let mut made = Vec::new();
        for failpoints in ["", "1:trainer.step=kill@6,2:trainer.step=kill@9"] {
            let mut service = service(&[]).await;
            service.stop_worker().await;
            service.app.failpoints = Failpoints::parse(failpoints).unwrap();
            let directory = data::tiny_model().with_file_name(model);
            finetuned::app::models::import(&service.app, &directory, model).await.unwrap();
            service.start_worker();
            let client = service.client();
            let file = client.upload(name, bytes.clone()).await;
            let id = create(&client, model, &file, method, h.clone(), json!({})).await;
            let job = succeeded(&client, &id).await;
            assert_eq!(job["attempts"].as_array().unwrap().len(), if failpoints.is_empty() { 1 } else { 3 }, "{job}");
            let weights = Sha256::digest(model_file(&client, &job, "model.safetensors").await);
            let rows = client.metrics(&id).await;
            let examples = client.get(&format!("/v1/fine_tuning/jobs/{id}/examples?order=loss&limit=1000")).await;
            made.push((weights, rows.to_string(), examples.json()["data"].to_string()));
            service.stop_worker().await;
        }
        assert_eq!(made[0].1, made[1].1, "{model} {h}");
        assert!(made[0].0 == made[1].0, "{model} {h}: other weights");
        assert!(made[0].2 == made[1].2, "{model} {h}: other statistics of examples");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_cannot_do_is_refused_when_it_is_asked_for() {
    let service = service(&["tiny-bert", "tiny-resnet"]).await;
    let client = service.client();
    let (texts, archive) = (client.upload("data.csv", data::csv(30)).await, client.upload("i.tar", images(30)).await);
    for (model, file, method, h, param) in [
        ("tiny-bert", &archive, "image_classification", json!({}), "method.type"),
        ("tiny-resnet", &texts, "text_classification", json!({}), "method.type"),
        ("tiny-resnet", &archive, "image_classification", json!({"adapter": {"type": "lora"}}), "adapter"),
        ("tiny-resnet", &archive, "image_classification", json!({"augmentation": {"mixup": -1}}), "augmentation.mixup"),
        ("tiny-bert", &texts, "text_classification", json!({"freeze": {"layers": 3}}), "freeze.layers"),
        ("tiny-bert", &texts, "masked_lm", json!({"class_weights": "balanced"}), "class_weights"),
        ("tiny-bert", &texts, "embedding", json!({"early_stopping": {"metric": "mcc"}}), "early_stopping.metric"),
    ] {
        let body = json!({"model": model, "training_file": file,
                          "method": {"type": method, method: {"hyperparameters": h}}});
        let answer = client.post_json("/v1/fine_tuning/jobs", &body).await;
        let (status, found, _, message) = answer.error();
        let found = found.unwrap();
        assert_eq!(status, 400);
        assert!(found == param || found.ends_with(&format!("hyperparameters.{param}")), "{found}: {message}");
    }
    // What only the files tell fails the job before it is queued.
    for (model, file, method, code) in [
        ("tiny-resnet", &texts, "image_classification", "invalid_training_file"),
        ("tiny-bert", &archive, "text_classification", "invalid_training_file"),
        ("tiny-bert", &texts, "embedding", "invalid_training_file"),
    ] {
        let id = create(&client, model, file, method, json!({}), json!({})).await;
        let job = client.wait_for_end(&id).await;
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!(code)), "{job}");
        assert_eq!(job["attempts"], json!([]));
    }
    // Layers of that name are there, but none below another of that name: the model itself tells.
    let adapted = |name: &str| json!({"adapter": {"type": "lora", "target_modules": [name]}});
    let id = create(&client, "tiny-bert", &texts, "text_classification", adapted("nowhere.query"), json!({})).await;
    let job = client.wait_for_end(&id).await;
    assert_eq!(job["error"]["param"], "hyperparameters.adapter.target_modules", "{job}");
    let method = json!({"type": "text_classification", "text_classification": {"hyperparameters": adapted("nowhere")}});
    let body = json!({"model": "tiny-bert", "training_file": texts, "method": method});
    let (status, param, ..) = client.post_json("/v1/fine_tuning/jobs", &body).await.error();
    let named = "method.text_classification.hyperparameters.adapter.target_modules";
    assert_eq!((status, param.as_deref()), (400, Some(named)));
}
