//! What saves memory in the training of language models: layers that are computed again, and quantised weights.

use serde_json::{Value, json};

use super::language::chats;
use super::support::client::Client;
use super::tasks::{create, model_file, service, succeeded};

async fn tuned(client: &Client, file: &str, more: Value) -> Value {
    let mut h = json!({"n_epochs": 2, "learning_rate": 5e-3, "batch_size": 8, "precision": "fp32"});
    h.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    succeeded(client, &create(client, "tiny-llama", file, "supervised", h, json!({"seed": 3})).await).await
}

fn used<'a>(job: &'a Value, name: &str) -> &'a Value {
    &job["method"]["supervised"]["hyperparameters"][name]
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_computed_again_change_what_is_kept_and_nothing_else() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(40)).await;
    let plain = tuned(&client, &file, json!({})).await;
    assert_eq!(used(&plain, "gradient_checkpointing"), 0, "it fits");
    let metrics = client.metrics(plain["id"].as_str().unwrap()).await;
    let peak = |job: &Value| job["estimate"]["peak_memory_bytes"].as_u64().unwrap();
    for layers in [1, 2, 99] {
        let job = tuned(&client, &file, json!({"gradient_checkpointing": layers})).await;
        assert_eq!(used(&job, "gradient_checkpointing"), layers);
        assert!(peak(&job) < peak(&plain), "{} and {}", peak(&job), peak(&plain));
        assert_eq!(client.metrics(job["id"].as_str().unwrap()).await, metrics);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_upon_quantised_weights_are_adapters_of_the_base_model() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(60)).await;
    let lora = |quantization: &str| json!({"type": "lora", "r": 8, "target_modules": "all-linear", "quantization": quantization});
    let mut losses = Vec::new();
    for quantization in ["none", "nf4"] {
        let job = tuned(&client, &file, json!({"adapter": lora(quantization), "n_epochs": 6})).await;
        losses.push(job["evaluation"]["validation"]["loss"].as_f64().unwrap());
        if quantization == "nf4" {
            assert_eq!(used(&job, "adapter")["quantization"], "nf4");
            let config: Value =
                serde_json::from_slice(&model_file(&client, &job, "adapter/adapter_config.json").await).unwrap();
            assert!(config.get("quantization").is_none(), "PEFT knows no such field");
            let card = String::from_utf8(model_file(&client, &job, "README.md").await).unwrap();
            assert!(card.contains("nf4"), "{card}");
        }
    }
    assert!((losses[0] / losses[1] - 1.0).abs() < 0.1, "{losses:?}");
    let h = json!({"adapter": {"type": "lora", "quantization": "int3"}});
    let body = json!({"model": "tiny-llama", "training_file": file,
                      "method": {"type": "supervised", "supervised": {"hyperparameters": h}}});
    let (status, at, _, message) = client.post_json("/v1/fine_tuning/jobs", &body).await.error();
    assert_eq!(
        (status, at.as_deref()),
        (400, Some("method.supervised.hyperparameters.adapter.quantization")),
        "{message}"
    );
}
