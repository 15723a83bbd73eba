//! `/v1/fine_tuning/alpha/graders`.

use serde_json::{Value, json};

use super::support::client::{Answer, Client};
use super::support::service::Service;

fn exact() -> Value {
    json!({"type": "string_check", "name": "exact", "operation": "eq", "input": "{{sample.output_text}}",
           "reference": "{{item.answer}}"})
}

async fn ask(client: &Client, what: &str, body: Value) -> Answer {
    client.post_json(&format!("/v1/fine_tuning/alpha/graders/{what}"), &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grader_is_tried_out_on_a_text() {
    let service = Service::api().await;
    let client = service.client();
    assert_eq!(ask(&client, "validate", json!({"grader": exact()})).await.good(), json!({"grader": exact()}));
    let run = async |grader: Value, item: Value, sample: &str| {
        ask(&client, "run", json!({"grader": grader, "item": item, "model_sample": sample})).await.good()
    };
    for (sample, reward) in [("yes", 1.0), ("no", 0.0)] {
        let graded = run(exact(), json!({"answer": "yes"}), sample).await;
        assert_eq!((&graded["reward"], &graded["metadata"]["scores"]), (&json!(reward), &json!({"exact": reward})));
        assert_eq!(
            (&graded["metadata"]["name"], &graded["metadata"]["type"]),
            (&json!("exact"), &json!("string_check"))
        );
        let errors = graded["metadata"]["errors"].as_object().unwrap();
        assert_eq!(errors.len(), 14);
        assert!(errors.values().all(|set| set != &json!(true)), "{errors:?}");
    }
    let similar = json!({"type": "text_similarity", "name": "near", "evaluation_metric": "fuzzy_match",
                         "input": "{{sample.output_text}}", "reference": "the card", "pass_threshold": 0.5});
    assert_eq!(run(similar.clone(), Value::Null, "the cards").await["reward"], json!(16.0 / 17.0));
    let graded = run(exact(), json!({"other": 1}), "yes").await;
    assert_eq!(
        (&graded["reward"], &graded["metadata"]["errors"]["invalid_variable_error"]),
        (&json!(0.0), &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_graded_is_named() {
    let service = Service::api().await;
    let client = service.client();
    let with = |name: &str, value: Value| {
        let mut grader = exact();
        grader[name] = value;
        json!({"grader": grader, "model_sample": "x"})
    };
    for (body, param, words) in [
        (json!({"model_sample": "x"}), "grader", "Missing"),
        (json!({"grader": exact()}), "model_sample", "Missing"),
        (with("operation", json!("near")), "grader.operation", "must be one of"),
        (with("input", json!("{{sample.tokens}}")), "grader.input", "names {{ sample.tokens }}"),
        (with("type", json!("python")), "grader.type", "runs a program"),
        (json!({"grader": exact(), "item": [1], "model_sample": "x"}), "item", "expected"),
        (json!({"grader": exact(), "model_sample": "x".repeat(32_769)}), "model_sample", "at most 32768"),
    ] {
        let (status, found, _, message) = ask(&client, "run", body).await.error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{message}");
        assert!(message.contains(words), "{message}");
    }
    let many = json!({"grader": {"type": "string_check", "name": "a", "operation": "eq", "reference": "x",
        "input": "{% for n in item.many %}{{ item.text }}{% endfor %}"},
        "item": {"many": vec![0; 50], "text": "x".repeat(1000)}, "model_sample": "x"});
    let (status, _, _, message) = ask(&client, "run", many).await.error();
    assert_eq!(status, 400);
    assert!(message.contains("50000 characters"), "{message}");
    assert_eq!(ask(&client.with_key(None), "validate", json!({"grader": exact()})).await.status, 401);
}
