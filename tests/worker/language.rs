//! Language models through the whole service.

use serde_json::json;

use super::support::client::Client;
use super::support::data;
use super::tasks::{create, model_file, model_json, service, succeeded};

/// Plain texts that repeat themselves, so that there is something to learn.
fn texts(count: usize) -> String {
    let text = |(i, (text, label)): (usize, (String, &str))| {
        let line = format!("{text} {label} {text}");
        if i % 5 == 0 { line.repeat(4) } else { line }
    };
    data::rows(count).into_iter().enumerate().map(text).map(|line| format!("{line}\n")).collect()
}

/// The training loss of a job's first and of its last step.
async fn first_and_last_loss(client: &Client, id: &str) -> (f64, f64) {
    let metrics = client.get(&format!("/v1/fine_tuning/jobs/{id}/metrics?limit=1000")).await.good();
    let losses: Vec<f64> =
        metrics["data"].as_array().unwrap().iter().filter_map(|row| row["metrics"]["train_loss"].as_f64()).collect();
    (losses[0], losses[losses.len() - 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_is_adapted_to_a_domain() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("domain.txt", texts(120)).await;
    let held_out = client.upload("held_out.txt", texts(40)).await;
    let h =
        json!({"n_epochs": 6, "learning_rate": 5e-3, "max_sequence_length": 64, "adapter": "none", "batch_size": 4});
    let more = json!({"test_file": held_out});
    let id = create(&client, "tiny-llama", &file, "causal_lm", h.clone(), more.clone()).await;
    let job = succeeded(&client, &id).await;
    let test = &job["evaluation"]["test"];
    let (loss, perplexity) = (test["loss"].as_f64().unwrap(), test["perplexity"].as_f64().unwrap());
    assert!(loss < 4.0 && (perplexity.ln() - loss).abs() < 1e-6, "{test}");
    let (first, last) = first_and_last_loss(&client, &id).await;
    assert!(last < first - 1.0, "{first} to {last}");
    assert_eq!(model_json(&client, &job, "config.json").await["architectures"], json!(["LlamaForCausalLM"]));
    assert!(model_file(&client, &job, "chat_template.jinja").await.starts_with(b"{% for message in messages %}"));
    assert!(job["trained_tokens"].as_u64().unwrap() > 6 * 120 * 5);

    // The same again with adapters on all linear layers, which is what a job has that says nothing, and texts by themselves.
    let mut more_h = h;
    more_h.as_object_mut().unwrap().remove("adapter");
    more_h["packing"] = json!(false);
    let id = create(&client, "tiny-llama", &file, "causal_lm", more_h, more).await;
    let job = succeeded(&client, &id).await;
    let used = &job["method"]["causal_lm"]["hyperparameters"]["adapter"];
    assert_eq!((&used["r"], &used["target_modules"]), (&json!(16), &json!("all-linear")), "{used}");
    let adapter = model_json(&client, &job, "adapter/adapter_config.json").await;
    assert_eq!(adapter["task_type"], "CAUSAL_LM");
    let modules = adapter["target_modules"].as_array().unwrap();
    assert_eq!(modules.len(), 7, "{modules:?}");
    let (first, last) = first_and_last_loss(&client, &id).await;
    assert!(last < first - 0.3, "{first} to {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_a_language_model_is_refused_by_name() {
    let service = service(&["tiny-llama", "tiny-bert"]).await;
    let client = service.client();
    let file = client.upload("domain.txt", texts(20)).await;
    for (model, method, h, param, why) in [
        ("tiny-bert", "causal_lm", json!({}), "method.type", "causal_lm"),
        ("tiny-llama", "masked_lm", json!({}), "method.type", "masked_lm"),
        ("tiny-llama", "causal_lm", json!({"max_sequence_length": 257}), "max_sequence_length", "at most 256"),
        ("tiny-llama", "causal_lm", json!({"packing": "yes"}), "packing", "true or false"),
    ] {
        let body =
            json!({"model": model, "training_file": file, "method": {"type": method, method: {"hyperparameters": h}}});
        let (status, at, _, message) = client.post_json("/v1/fine_tuning/jobs", &body).await.error();
        assert_eq!(status, 400);
        assert!(at.unwrap_or_default().ends_with(param) && message.contains(why), "{message}");
    }
}
