//! Base models as people have them: what is made of them is what they are.

use std::path::Path;

use finetuned::app::models;
use serde_json::{Map, Value, json};

use super::evaluations::{ended, evaluate};
use super::support::client::Client;
use super::support::data;
use super::support::service::Service;
use super::tasks::{create, model_file, model_json, succeeded};

/// A service with the tiny model after a change, under this name.
async fn service(name: &str, change: impl FnOnce(&Path)) -> Service {
    let mut service = Service::api().await;
    let folder = tempfile::tempdir().unwrap();
    let copy = data::copy_of_tiny(folder.path());
    change(&copy);
    models::import(&service.app, &copy, name).await.unwrap();
    service.start_worker();
    service
}

/// Pairs of a short text and a long one.
async fn pairs(client: &Client) -> String {
    let rows = data::rows(60);
    let line = |(i, (text, _)): (usize, &(String, &str))| {
        format!("{}\n", json!({"anchor": text, "positive": rows[(i + 3) % rows.len()].0.repeat(4)}))
    };
    client.upload("pairs.jsonl", rows.iter().enumerate().map(line).collect::<String>()).await
}

/// The length in force of a job that trains embeddings or evaluates them.
fn length(job: &Value) -> u64 {
    job["method"]["embedding"]["hyperparameters"]["max_sequence_length"].as_u64().unwrap()
}

const POOLING: &str = "1_Pooling/config.json";

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_transformer_keeps_its_pooling_and_its_length() {
    let pooling =
        json!({"word_embedding_dimension": 32, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false});
    let service = service("cls", |copy| data::to_sentence_transformer(copy, &pooling, 12)).await;
    let client = service.client();
    let file = pairs(&client).await;
    let h = || json!({"n_epochs": 1, "learning_rate": 1e-3, "precision": "fp32"});
    let id = create(&client, "cls", &file, "embedding", h(), json!({"test_file": file})).await;
    let job = succeeded(&client, &id).await;
    assert_eq!(length(&job), 12);
    let messages = client.messages(&id).await;
    let told =
        "In this model sentence embeddings are the state of the first token, not normalised, as modules.json has it";
    assert!(messages.iter().any(|message| message == told), "{messages:?}");
    assert!(messages.iter().any(|message| message.contains("training texts were cut to 12 tokens, ")), "{messages:?}");
    // The lengths are those of anchors and positives, of the test file too.
    let lengths = &job["validation"]["token_lengths"];
    for part in ["training", "test"] {
        let texts: u64 = lengths[part]["histogram"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        let examples = job["validation"][part]["examples"].as_u64().unwrap();
        let held_out = if part == "test" { 0 } else { job["validation"]["held_out"].as_u64().unwrap() };
        assert_eq!((&lengths[part]["max"], texts), (&json!(12), 2 * (examples - held_out)), "{lengths}");
        assert!(lengths[part]["truncated"].as_u64().is_some_and(|cut| 0 < cut && cut <= texts), "{lengths}");
    }
    assert_eq!(model_json(&client, &job, POOLING).await, pooling);
    assert_eq!(model_json(&client, &job, "modules.json").await.as_array().unwrap().len(), 2);
    assert_eq!(model_json(&client, &job, "sentence_bert_config.json").await, json!({"max_seq_length": 12}));

    // A longer one says so, and what is made of it has its length; evaluations have that of the model.
    let mut longer = h();
    longer["max_sequence_length"] = json!(20);
    let id = create(&client, "cls", &file, "embedding", longer, json!({})).await;
    let second = succeeded(&client, &id).await;
    assert_eq!(model_json(&client, &second, "sentence_bert_config.json").await, json!({"max_seq_length": 20}));
    let name = second["fine_tuned_model"].as_str().unwrap();
    let id = create(&client, name, &file, "embedding", h(), json!({})).await;
    let third = succeeded(&client, &id).await;
    assert_eq!((length(&third), model_json(&client, &third, POOLING).await), (20, pooling.clone()));
    let method = json!({"method": {"type": "embedding"}});
    let scored = ended(&client, &evaluate(&client, &json!("cls"), &file, method).await.good()).await;
    assert_eq!((&scored["status"], length(&scored)), (&json!("succeeded"), 12), "{scored}");

    // What is learned of a domain leaves the sentences as they are embedded.
    let text = client.upload("domain.txt", "the card was lost and a new one is on its way\n".repeat(40)).await;
    let id = create(&client, "cls", &text, "masked_lm", h(), json!({})).await;
    let adapted = succeeded(&client, &id).await;
    assert_eq!(model_json(&client, &adapted, POOLING).await, pooling);
    let name = adapted["fine_tuned_model"].as_str().unwrap();
    let id = create(&client, name, &file, "embedding", h(), json!({})).await;
    let last = succeeded(&client, &id).await;
    assert_eq!((length(&last), model_json(&client, &last, POOLING).await), (12, pooling));
}

/// Puts `wrapper` before the names of all tensors of a file.
fn wrap(path: &Path, wrapper: &str) {
    let bytes = std::fs::read(path).unwrap();
    let (length, rest) = bytes.split_at(8);
    let (header, values) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
    let wrapped = |(name, entry): (String, Value)| {
        let name = if name == "__metadata__" { name } else { format!("{wrapper}{name}") };
        (name, entry)
    };
    let mut header = Value::Object(header.into_iter().map(wrapped).collect()).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    std::fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_model_with_a_vocabulary_alone_is_saved_with_its_true_names_and_its_tokenizer() {
    let change = |copy: &Path| {
        wrap(&copy.join("model.safetensors"), "_orig_mod.module.");
        data::to_vocabulary(copy);
    };
    let service = service("wrapped", change).await;
    let client = service.client();
    let notes = client.get("/v1/models/wrapped").await.good()["notes"].clone();
    assert!(notes[0].as_str().unwrap().starts_with("tokenizer.json was built from vocab.txt"), "{notes}");
    assert!(notes[1].as_str().unwrap().starts_with("a wrapper put \"_orig_mod.module.\" before"), "{notes}");
    models::import(&service.app, &data::tiny_model(), "plain").await.unwrap();
    let file = client.upload("data.csv", data::csv(60)).await;
    let names = |bytes: &[u8]| -> Vec<String> {
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let mut names: Vec<String> = file.names().into_iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    let lora = json!({"type": "lora", "r": 2});
    for h in [json!({"n_epochs": 2}), json!({"n_epochs": 2, "adapter": lora, "keep_checkpoints": 1})] {
        let mut files = Vec::new();
        for model in ["wrapped", "plain"] {
            let id = create(&client, model, &file, "text_classification", h.clone(), json!({})).await;
            let job = succeeded(&client, &id).await;
            let name = job["fine_tuned_model"].as_str().unwrap();
            assert_eq!(client.get(&format!("/v1/models/{name}")).await.good()["notes"], json!([]));
            files.push(model_file(&client, &job, "model.safetensors").await);
            assert!(model_json(&client, &job, "tokenizer.json").await["model"]["vocab"].is_object());
            if h.get("adapter").is_some() {
                // A checkpoint reads its base's weights from the files of the base, whatever their names are.
                let listed = client.get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
                let checkpoint = &listed["data"][0]["fine_tuned_model_checkpoint"];
                let scored = ended(&client, &evaluate(&client, checkpoint, &file, json!({})).await.good()).await;
                assert_eq!(scored["status"], "succeeded", "{scored}");
            }
        }
        assert!(names(&files[0]).contains(&"bert.embeddings.word_embeddings.weight".to_owned()));
        assert_eq!(names(&files[0]), names(&files[1]), "{h}");
        assert!(files[0] == files[1], "{h}: the wrapper changes no bit");
    }
}
