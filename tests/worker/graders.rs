//! Evaluations that grade what a language model writes, and those that compare two models.

use serde_json::{Value, json};

use super::evaluations::{ended, evaluate, refused, result_file};
use super::language::chats;
use super::support::client::Client;
use super::support::data;
use super::tasks::{create, service, succeeded};

fn graders() -> Value {
    let of = |name: &str, more: Value| {
        let mut grader =
            json!({"name": name, "input": "{{sample.output_text}}", "reference": "{{item.messages[-1].content}}"});
        grader.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        grader
    };
    json!([
        of("exact", json!({"type": "string_check", "operation": "eq"})),
        of("similar", json!({"type": "text_similarity", "evaluation_metric": "fuzzy_match", "pass_threshold": 0.9})),
        of("of some", json!({"type": "string_check", "operation": "ilike", "reference": "{{ item.topic }}"})),
    ])
}

/// Conversations, every other one with its topic beside.
fn with_topics(count: usize) -> String {
    let line = |(i, line): (usize, &str)| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        if i % 2 == 0 {
            row["topic"] = row["messages"].as_array().unwrap().last().unwrap()["content"].clone();
        }
        format!("{row}\n")
    };
    chats(count).lines().enumerate().map(line).collect()
}

async fn lines(client: &Client, evaluation: &Value) -> Vec<Value> {
    let bytes = result_file(client, evaluation, 0).await;
    String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_graded_and_a_tune_is_told_from_its_base() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("chats.jsonl", with_topics(40)).await;
    let h =
        json!({"n_epochs": 20, "learning_rate": 1e-2, "max_sequence_length": 96, "adapter": "none", "batch_size": 4});
    let job = succeeded(&client, &create(&client, "tiny-llama", &file, "supervised", h, json!({})).await).await;
    let tune = &job["fine_tuned_model"];
    let more =
        json!({"graders": graders(), "baseline": "tiny-llama", "sampling_params": {"max_completion_tokens": 12}});
    let created = evaluate(&client, tune, &file, more.clone()).await.good();
    assert_eq!((&created["graders"], &created["baseline"]), (&graders(), &json!("tiny-llama")), "{created}");
    assert_eq!(
        created["sampling_params"],
        json!({"temperature": 0.0, "top_p": 1.0, "seed": 0, "max_completion_tokens": 12})
    );
    // The base model stays while it is needed.
    let found = ended(&client, &created).await;
    assert_eq!(found["status"], "succeeded", "{found}");

    let (scores, report) = (&found["scores"], &found["report"]);
    let of = |scores: &Value, grader: &str| scores["graders"][grader].as_f64().unwrap();
    assert_eq!(of(&scores["baseline"], "exact"), 0.0, "{scores}");
    assert!(of(scores, "exact") > 0.5 && of(scores, "similar") > of(&scores["baseline"], "similar"), "{scores}");
    assert!(scores["perplexity"].as_f64() < scores["baseline"]["perplexity"].as_f64(), "{scores}");
    assert_eq!(report["baseline"]["model"], "tiny-llama");
    let exact = &report["graders"]["exact"];
    assert_eq!(exact["passed"].as_u64().unwrap() + exact["failed"].as_u64().unwrap(), 40, "{report}");
    assert_eq!(report["graders"]["of some"]["errored"], 20, "{report}");
    assert_eq!(report["answers"]["examples"], 40);

    let lines = lines(&client, &found).await;
    assert_eq!(lines.len(), 40);
    let passed = lines.iter().filter(|line| line["graders"]["exact"] == 1.0).count();
    assert_eq!(exact["passed"], passed);
    assert!(lines[0]["loss"].is_f64() && lines[0]["baseline"]["output_text"].is_string(), "{}", lines[0]);
    assert_eq!(lines[1]["grader_errors"]["of some"], "the example has no item.topic");
    let events = client.get(&format!("/v1/evaluations/{}/events", found["id"].as_str().unwrap())).await.good();
    assert!(events.to_string().contains("The grader 'of some' could not grade 20 of 40 answers"), "{events}");

    // What is graded is what the chat endpoint answers.
    let row: Value = serde_json::from_str(with_topics(40).lines().nth(3).unwrap()).unwrap();
    let messages = row["messages"].as_array().unwrap();
    let body = json!({"model": tune, "messages": messages[..messages.len() - 1], "temperature": 0, "max_tokens": 12});
    let chat = client.post_json("/v1/chat/completions", &body).await.good();
    assert_eq!(chat["choices"][0]["message"]["content"], lines[3]["output_text"], "{chat}");

    // The same again, word for word; by another seed and a temperature, otherwise.
    let again = ended(&client, &evaluate(&client, tune, &file, more).await.good()).await;
    assert_eq!((&again["scores"], &again["report"]), (scores, report));
    let warm =
        json!({"graders": graders(), "sampling_params": {"temperature": 2, "seed": 4, "max_completion_tokens": 3}});
    let warm = ended(&client, &evaluate(&client, tune, &file, warm).await.good()).await;
    assert!(of(&warm["scores"], "exact") < of(scores, "exact"), "{warm}");
    assert!(warm["report"]["answers"]["cut"].as_u64().unwrap() > 0, "{warm}");
    assert_eq!(warm["scores"].get("baseline"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn classifiers_are_compared_line_by_line() {
    let service = service(&["tiny-bert"]).await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(40)).await;
    let mut models = Vec::new();
    for n_epochs in [1, 6] {
        let h = json!({"n_epochs": n_epochs, "learning_rate": 5e-3});
        let id = create(&client, "tiny-bert", &file, "text_classification", h, json!({})).await;
        models.push(succeeded(&client, &id).await["fine_tuned_model"].clone());
    }
    let found = evaluate(&client, &models[1], &file, json!({"baseline": models[0]})).await.good();
    let found = ended(&client, &found).await;
    assert_eq!(found["status"], "succeeded", "{found}");
    let scores = &found["scores"];
    assert!(scores["accuracy"].as_f64() >= scores["baseline"]["accuracy"].as_f64(), "{scores}");
    assert!(found["report"]["baseline"]["confusion_matrix"].is_array());
    let lines = lines(&client, &found).await;
    assert!(lines.len() == 40 && lines.iter().all(|line| line["baseline"]["prediction"].is_string()), "{}", lines[0]);

    refused(
        &evaluate(&client, &models[0], &file, json!({"baseline": models[0]})).await,
        "baseline",
        "is the model itself",
    );
    let answer = evaluate(&client, &models[0], &file, json!({"baseline": "tiny-bert"})).await;
    refused(&answer, "baseline", "has other labels");
    let (status, at, ..) = evaluate(&client, &models[0], &file, json!({"baseline": "none"})).await.error();
    assert_eq!((status, at.as_deref()), (404, Some("baseline")));
    let answer = evaluate(&client, &models[0], &file, json!({"graders": graders()})).await;
    refused(&answer, "method.type", "cannot be evaluated with the method 'supervised'");
}

#[tokio::test(flavor = "multi_thread")]
async fn graders_that_cannot_work_are_refused_at_once() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(20)).await;
    let with = |field: &str, value: &str| {
        let mut graders = graders();
        graders[1][field] = json!(value);
        json!({"graders": graders})
    };
    for (more, param, message) in [
        (
            with("input", "{{ sample.text }}"),
            "graders[1].input",
            "names {{ sample.text }}; there are {{ sample.output_text }}",
        ),
        (with("reference", "{{ item."), "graders[1].reference", "graders[1].reference is no template"),
        (with("evaluation_metric", "cosine"), "graders[1].evaluation_metric", "must be one of fuzzy_match, bleu"),
        (with("type", "score_model"), "graders[1].type", "asks another model"),
        (json!({"graders": [{"prompt": 1}]}), "graders[0].prompt", "prompt"),
        (json!({"sampling_params": {}}), "sampling_params", "graders must be"),
        (json!({"graders": graders(), "method": {"type": "causal_lm"}}), "graders", "by the method 'supervised'"),
    ] {
        refused(&evaluate(&client, &json!("tiny-llama"), &file, more).await, param, message);
    }
}
