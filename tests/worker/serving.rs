//! Trying a model: what it answers, and how its process comes and goes.

mod long;

use std::time::Duration;

use base64::Engine as _;
use finetuned::app::{App, models};
use finetuned::config::Config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::support::client::{Answer, Client};
use super::support::data;
use super::support::fleet::processes_in;
use super::support::service::{Service, eventually, trainer};
use super::tasks::{create, images, model_file, succeeded};

/// A service with a worker and these models, its configuration changed.
async fn service(models: &[&str], change: impl FnOnce(&mut Config)) -> Service {
    let mut service = Service::with(change).await;
    for name in models {
        let directory = data::tiny_model().with_file_name(name);
        models::import(&service.app, &directory, name).await.unwrap();
    }
    service.start_worker();
    service
}

/// Trains in float32, which is what models are served in.
fn fp32(more: Value) -> Value {
    let mut h = json!({"n_epochs": 4, "learning_rate": 5e-3, "precision": "fp32"});
    h.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    h
}

/// A finished job on a file that is its test file as well, and what its evaluation said of each row.
async fn trained(client: &Client, model: &str, method: &str, file: &str, h: Value) -> (Value, Vec<Value>) {
    let id = create(client, model, file, method, h, json!({"test_file": file})).await;
    let job = succeeded(client, &id).await;
    let lines = String::from_utf8(model_file(client, &job, "evaluation/predictions.jsonl").await).unwrap();
    let predictions = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (job, predictions)
}

async fn classify(client: &Client, model: &Value, input: Value) -> Answer {
    client.post_json("/v1/classifications", &json!({"model": model, "input": input})).await
}

/// The images of an archive as data URLs.
fn urls(archive: &[u8]) -> Vec<String> {
    let mut members = tar::Archive::new(archive);
    let entries = members.entries().unwrap();
    entries
        .map(|entry| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry.unwrap(), &mut bytes).unwrap();
            format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
        })
        .collect()
}

#[track_caller]
fn close(found: &Value, expected: &Value) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
}

#[track_caller]
fn refused(answer: &Answer, status: u16, param: &str, message: &str) {
    let (found, at, _, text) = answer.error();
    assert_eq!((found, at.as_deref()), (status, Some(param)), "{text}");
    assert!(text.contains(message), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_classifier_answers_what_its_evaluation_predicted() {
    let service = service(&["tiny-bert"], |_| {}).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(60)).await;
    let h = fp32(json!({"max_sequence_length": 8}));
    let (job, expected) = trained(&client, "tiny-bert", "text_classification", &file, h).await;
    let model = &job["fine_tuned_model"];
    let texts: Vec<String> = data::rows(60).into_iter().map(|(text, _)| text).collect();
    let answer = classify(&client, model, json!(texts)).await.good();
    assert_eq!(
        (&answer["object"], &answer["model"], answer["data"].as_array().unwrap().len()),
        (&json!("list"), model, 60)
    );
    for (index, expected) in expected.iter().enumerate() {
        let found = &answer["data"][index];
        assert_eq!((&found["index"], &found["label"]), (&json!(index), &expected["prediction"]));
        close(&found["probability"], &expected["probability"]);
        assert_eq!(found["labels"][0]["label"], found["label"]);
        let listed: Vec<f64> =
            found["labels"].as_array().unwrap().iter().map(|one| one["probability"].as_f64().unwrap()).collect();
        assert!(listed.is_sorted_by(|a, b| a >= b) && listed.len() == 3, "{found}");
        assert!((listed.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{found}");
    }
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 3 * 60, "{}", answer["usage"]);

    let body = json!({"model": model, "input": "where is my new card and why was the rate so wrong", "top_k": 1});
    let one = client.post_json("/v1/classifications", &body).await.good();
    assert_eq!(one["data"][0]["labels"].as_array().unwrap().len(), 1);
    // As in training, texts are cut to eight tokens.
    assert_eq!((&one["data"][0]["truncated"], &one["usage"]["total_tokens"]), (&json!(true), &json!(8)));
    assert_eq!(answer["data"][0]["truncated"], false);

    refused(&classify(&client, model, json!(["a", "b", " "])).await, 400, "input[2]", "is empty");
    refused(&classify(&client, &json!("tiny-bert"), json!("a")).await, 400, "model", "cannot classify");
    refused(&classify(&service.stranger().await, model, json!("a")).await, 404, "model", "does not exist");
    let name = model.as_str().unwrap();
    client.delete(&format!("/v1/models/{name}")).await.good();
    refused(&classify(&client, model, json!("a")).await, 404, "model", "does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_several_labels_and_values_have_their_own_answers() {
    let service = service(&["tiny-bert"], |_| {}).await;
    let client = service.client();
    let rows = data::rows(60);
    let lines = |row: &dyn Fn(usize, &str, &str) -> Value| -> String {
        rows.iter().enumerate().map(|(i, (text, label))| format!("{}\n", row(i, text, label))).collect()
    };
    let texts = json!(rows.iter().map(|(text, _)| text).collect::<Vec<_>>());
    let train = async |name: &str, content: String, more: Value| {
        let file = client.upload(name, content).await;
        trained(&client, "tiny-bert", "text_classification", &file, fp32(more)).await
    };

    let many = lines(
        &|i, text, label| json!({"text": text, "labels": if i % 2 == 0 { json!([label, "even"]) } else { json!([label]) }}),
    );
    let (job, expected) = train("many.jsonl", many, json!({"n_epochs": 8})).await;
    let answer = classify(&client, &job["fine_tuned_model"], texts.clone()).await.good();
    for (index, expected) in expected.iter().enumerate() {
        let found = &answer["data"][index];
        assert_eq!(found["predicted"], expected["predictions"]);
        assert!(found.get("label").is_none(), "{found}");
        let best = expected["logits"].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap());
        let best = best.fold(f64::NEG_INFINITY, f64::max);
        close(&found["labels"][0]["probability"], &json!(1.0 / (1.0 + (-best).exp())));
    }

    let values = lines(&|_, text, label| json!({"text": text, "label": label.len() as f64 - 4.5}));
    let (job, expected) = train("values.jsonl", values, json!({"problem_type": "regression"})).await;
    let answer = classify(&client, &job["fine_tuned_model"], texts).await.good();
    for (index, expected) in expected.iter().enumerate() {
        close(&answer["data"][index]["value"], &expected["prediction"]);
        assert!(answer["data"][index].get("labels").is_none());
    }

    let pairs = lines(&|_, text, label| json!({"text": text, "text_pair": label, "label": label.len() > 4}));
    let (job, expected) = train("pairs.jsonl", pairs, json!({})).await;
    let input = json!(rows.iter().map(|(text, label)| json!([text, label])).collect::<Vec<_>>());
    let answer = classify(&client, &job["fine_tuned_model"], input).await.good();
    for (index, expected) in expected.iter().enumerate() {
        assert_eq!(answer["data"][index]["label"], expected["prediction"]);
        close(&answer["data"][index]["probability"], &expected["probability"]);
    }
    // One process at a time, each model's in place of the one before.
    assert_eq!(processes_in(&service.app.served()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_classifier_answers_what_its_evaluation_predicted() {
    let service = service(&["tiny-vit"], |_| {}).await;
    let client = service.client();
    let archive = images(40);
    let file = client.upload("images.tar", archive.clone()).await;
    let h = fp32(json!({"learning_rate": 2e-3}));
    let (job, expected) = trained(&client, "tiny-vit", "image_classification", &file, h).await;
    let urls = urls(&archive);
    let model = &job["fine_tuned_model"];
    let answer = classify(&client, model, json!(urls)).await.good();
    for (index, expected) in expected.iter().enumerate() {
        assert_eq!(answer["data"][index]["label"], expected["prediction"]);
        close(&answer["data"][index]["probability"], &expected["probability"]);
    }
    assert_eq!(answer["usage"], json!({"prompt_tokens": 0, "total_tokens": 0}));
    for (bad, why) in [("data:image/png;base64,AAEC", "input[1]"), ("https://x/a.png", "links are not followed")] {
        refused(&classify(&client, model, json!([urls[0], bad])).await, 400, "input[1]", why);
    }
    // A refused input harms nobody else.
    classify(&client, model, json!(urls[0])).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_comes_when_it_is_asked_for_and_goes_when_it_is_not() {
    let service = service(&["tiny-bert"], |config| config.serving_idle = Duration::from_secs(10)).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let (job, _) = trained(&client, "tiny-bert", "text_classification", &file, fp32(json!({}))).await;
    let model = job["fine_tuned_model"].clone();
    let id = job["id"].as_str().unwrap();
    let checkpoints = client.get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
    let checkpoint = checkpoints["data"][0]["fine_tuned_model_checkpoint"].clone();
    let served = service.app.served();
    let only = || {
        let found = processes_in(&served);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    };
    assert!(processes_in(&served).is_empty());

    // Two at once share the process.
    let (first, second) = tokio::join!(classify(&client, &model, json!("a")), classify(&client, &model, json!("b")));
    for answer in [first, second] {
        answer.good();
    }
    let process = only();

    // One that is killed is started again; a request may meet it dying, and is told to come back.
    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
    eventually("the model to answer again", 30, async || {
        let answer = classify(&client, &model, json!("a")).await;
        assert!(answer.status == 200 || answer.header("retry-after").is_some(), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
    let again = only();
    assert_ne!(again, process);

    // Another model takes its place.
    classify(&client, &checkpoint, json!("a")).await.good();
    assert_ne!(only(), again);

    // While one is at a request, which is stopped here, another waits for its turn.
    kill(Pid::from_raw(only()), Signal::SIGSTOP).unwrap();
    let (slow, name) = (client.clone(), checkpoint.clone());
    let waiting = tokio::spawn(async move { classify(&slow, &name, json!("a")).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (next, name) = (client.clone(), model.clone());
    let next = tokio::spawn(async move { classify(&next, &name, json!("a")).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!next.is_finished());
    let stopped = only();
    kill(Pid::from_raw(stopped), Signal::SIGCONT).unwrap();
    waiting.await.unwrap().good();
    next.await.unwrap().good();
    assert_ne!(only(), stopped);

    eventually("the idle process to be gone", 20, async || processes_in(&served).is_empty().then_some(())).await;
    eventually("its folder to be gone", 5, async || (std::fs::read_dir(&served).unwrap().count() == 0).then_some(()))
        .await;
    classify(&client, &model, json!("a")).await.good();
    service.app.serving.close().await;
    assert!(processes_in(&served).is_empty());
}

/// One project asks without pause over three connections, and there is one place: another one's requests are answered all
/// the same, and so are those of the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_never_stops_asking_holds_nobody_else_up() {
    let service = service(&["tiny-bert"], |_| {}).await;
    let mut models = Vec::new();
    for client in [service.client(), service.stranger().await] {
        let file = client.upload("data.csv", data::csv(30)).await;
        let h = fp32(json!({"n_epochs": 1}));
        let id = create(&client, "tiny-bert", &file, "text_classification", h, json!({})).await;
        let job = succeeded(&client, &id).await;
        models.push((client, job["fine_tuned_model"].clone()));
    }
    let [(greedy, greedys), (modest, modests)] = models.try_into().unwrap_or_else(|_| unreachable!());
    let stop = tokio_util::sync::CancellationToken::new();
    let mut flood = Vec::new();
    for _ in 0..3 {
        let (client, model, stop) = (greedy.clone(), greedys.clone(), stop.clone());
        flood.push(tokio::spawn(async move {
            let mut answered = 0_usize;
            while !stop.is_cancelled() {
                classify(&client, &model, json!("where is my card")).await.good();
                answered += 1;
            }
            answered
        }));
    }
    let texts = json!(["what rate", "top up failed"]);
    for _ in 0..30 {
        assert_eq!(classify(&modest, &modests, texts.clone()).await.good()["data"].as_array().unwrap().len(), 2);
    }
    stop.cancel();
    for flood in flood {
        assert!(flood.await.unwrap() > 0, "the other one is answered too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_the_trainer_program_says_so() {
    let service = Service::with(|config| config.trainer = "/nowhere/finetuned-trainer".into()).await;
    let error = models::import(&service.app, &data::tiny_model(), "tiny-bert").await.err().unwrap();
    assert!(error.chain().contains("no trainer can check the model"), "{}", error.chain());
    let config = Config { trainer: trainer(), ..(*service.app.config).clone() };
    let with_trainer = App::new(service.app.db.clone(), config).unwrap();
    models::import(&with_trainer, &data::tiny_model(), "tiny-bert").await.unwrap();
    let answer = classify(&service.client(), &json!("tiny-bert"), json!("a")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.error().3.contains("no trainer program"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_takes_little_memory_and_leaves_none_taken() {
    let service = service(&["tiny-bert"], |_| {}).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let h = fp32(json!({"max_sequence_length": 16}));
    let (job, _) = trained(&client, "tiny-bert", "text_classification", &file, h).await;
    let model = &job["fine_tuned_model"];
    classify(&client, model, json!("where is my card")).await.good();
    let process = processes_in(&service.app.served())[0];
    let megabytes = |name: &str| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    };
    let before = megabytes("VmRSS");
    for text in ["the card ", "a", "日本"] {
        let answer = classify(&client, model, json!(text.repeat((8 << 20) / text.len()))).await.good();
        let read = &answer["data"][0];
        assert!(read["truncated"] == json!(true) || answer["usage"]["total_tokens"] == json!(3), "{answer}");
    }
    // A text of 8 MiB took more than a gigabyte to read whole.
    let peak = megabytes("VmHWM");
    assert!(peak < before + 250, "{peak} MiB after {before} MiB");
    eventually("the memory to be given back", 20, async || (megabytes("VmRSS") < before + 60).then_some(())).await;
}
