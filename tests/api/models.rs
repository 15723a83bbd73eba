//! `/v1/models`, and importing.

use std::path::Path;

use finetuned::app::{keys, models, validation};
use finetuned::domain::model::Checked;
use finetuned::domain::project::Role;
use finetuned::worker::upkeep::sweep;
use serde_json::json;

use super::support::data::{self, copy_of_tiny};
use super::support::service::{Service, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn base_models_are_seen_by_every_project_and_deleted_by_no_member_of_one() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    for client in [service.client(), service.stranger().await] {
        let model = client.get("/v1/models/tiny-bert").await.good();
        assert_eq!(
            (&model["owned_by"], &model["kind"], &model["family"]),
            (&json!("system"), &json!("base"), &json!("bert"))
        );
        assert!(model["notes"][0].as_str().unwrap().contains("sentence embeddings are the mean"), "{model}");
        // What it predicts is read where it is asked for alone.
        let mut listed = model.clone();
        for (field, value) in [("problem_type", json!(null)), ("labels", json!(null))] {
            assert_eq!(listed.as_object_mut().unwrap().remove(field), Some(value), "{field}");
        }
        assert_eq!(client.get("/v1/models").await.good()["data"], json!([listed]));
        let (status, _, code, _) = client.delete("/v1/models/tiny-bert").await.error();
        assert_eq!((status, code.as_deref()), (403, Some("insufficient_permissions")));
    }
    let files = service.client().get("/v1/models/tiny-bert/files").await.good();
    let paths: Vec<&str> = files["data"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
    let config = service.client().get("/v1/models/tiny-bert/files/config.json").await;
    assert_eq!(config.bytes, std::fs::read(data::tiny_model().join("config.json")).unwrap());
    assert_eq!(config.header("content-type"), Some("application/json"));
    for path in ["nothing", "../config.json", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", ""] {
        let answer = service.client().get(&format!("/v1/models/tiny-bert/files/{path}")).await;
        assert_eq!(answer.error().0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_deletes_a_base_model_and_jobs_that_use_it_go_on() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let job = client.create_job(&file, json!({})).await;
    let (_, secret) = keys::create_as(&service.app, "operators", "ops", Role::Admin).await.unwrap();
    let admin = client.with_key(Some(secret.expose()));
    let deleted = admin.delete("/v1/models/tiny-bert").await.good();
    assert_eq!(deleted, json!({"id": "tiny-bert", "object": "model", "deleted": true}));
    assert_eq!(client.get("/v1/models").await.good()["data"], json!([]));
    assert_eq!(admin.delete("/v1/models/tiny-bert").await.error().0, 404);

    let objects = || std::fs::read_dir(service.objects().join("models")).map_or(0, Iterator::count);
    eventually("validation", 30, async || {
        validation::run_once(&service.app).await.unwrap();
        (client.job(&job).await["status"] == "queued").then_some(())
    })
    .await;
    sweep::run_once(&service.app).await.unwrap();
    assert_eq!(objects(), 1, "the job needs them");
    service.import_tiny_model().await;
    assert_eq!(client.get("/v1/models").await.good()["data"].as_array().unwrap().len(), 1, "the name is free again");
    client.post(&format!("/v1/fine_tuning/jobs/{job}/cancel")).await.good();
    sweep::run_once(&service.app).await.unwrap();
    assert_eq!(objects(), 1, "those of the second import");

    // What is another project's is not an admin's either.
    assert_eq!(admin.get(&format!("/v1/files/{file}")).await.error().0, 404);
    assert_eq!(models::remove_base(&service.app, "tiny-bert").await.unwrap(), 0);
    let error = models::remove_base(&service.app, "tiny-bert").await.unwrap_err();
    assert_eq!(error.message, "there is no base model called tiny-bert");
}

#[tokio::test(flavor = "multi_thread")]
async fn importing_the_same_files_again_changes_nothing() {
    let service = Service::api().await;
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_of_tiny(folder.path());
    assert!(models::import(&service.app, &copy, "org/tiny").await.unwrap().new);
    assert!(!models::import(&service.app, &copy, "org/tiny").await.unwrap().new);
    let objects = std::fs::read_dir(service.objects().join("models")).unwrap().count();
    assert_eq!(objects, 1, "the second import left nothing");
    std::fs::write(copy.join("vocab.txt"), "other").unwrap();
    let error = models::import(&service.app, &copy, "org/tiny").await.err().unwrap();
    assert!(error.message.contains("exists with other files"), "{}", error.message);
    // A name with a slash is one segment of the URL.
    service.client().get("/v1/models/org%2Ftiny").await.good();
    service.client().get("/v1/models/org%2Ftiny/files/config.json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facts_of_a_model_are_what_the_trainer_says() {
    let service = Service::api().await;
    let imported = models::import(&service.app, &data::tiny_model(), "m").await.unwrap();
    let Checked::Trainable { family, facts } = serde_json::from_str(data::TINY_CHECKED).unwrap() else {
        unreachable!()
    };
    assert_eq!((imported.model.family, imported.model.facts), (family, facts));
    let left = std::fs::read_dir(service.app.runs()).unwrap().count();
    assert_eq!(left, 0, "nothing of the check is left");
}

/// Puts a pointer of Git LFS in place of a file.
fn point(path: &Path) {
    std::fs::write(path, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n").unwrap();
}

/// Makes the last value of a file of weights this one.
fn spoil(path: &Path, value: f32) {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&value.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tokenizer_that_import_built_is_a_file_of_the_model() {
    let service = Service::api().await;
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_of_tiny(folder.path());
    let tokenizer = data::to_vocabulary(&copy);
    let imported = models::import(&service.app, &copy, "m").await.unwrap();
    let note = "tokenizer.json was built from vocab.txt (in lower case, since tokenizer_config.json does not say \
                do_lower_case), as Transformers' BertTokenizer does";
    assert_eq!(imported.model.facts.notes[0], note);
    assert!(!copy.join("tokenizer.json").exists(), "the folder is as it was");
    let files = service.client().get("/v1/models/m/files").await.good();
    let paths: Vec<&str> = files["data"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]);
    let built = service.client().get("/v1/models/m/files/tokenizer.json").await;
    let built: serde_json::Value = serde_json::from_slice(&built.bytes).unwrap();
    assert_eq!(built["model"]["vocab"], tokenizer["model"]["vocab"]);
    assert!(!models::import(&service.app, &copy, "m").await.unwrap().new, "built again it is the same file");
    let left = std::fs::read_dir(service.app.runs()).unwrap().count();
    assert_eq!(left, 0, "nothing of the check is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_modules_of_a_sentence_transformer_come_with_it() {
    let service = Service::api().await;
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_of_tiny(folder.path());
    let pooling = json!({"word_embedding_dimension": 32, "pooling_mode_max_tokens": true});
    data::to_sentence_transformer(&copy, &pooling, 24);
    for below in ["2_Normalize", "onnx"] {
        std::fs::create_dir(copy.join(below)).unwrap();
    }
    std::fs::write(copy.join("onnx/model.onnx"), "").unwrap();
    let imported = models::import(&service.app, &copy, "m").await.unwrap();
    assert_eq!(imported.skipped, ["onnx/"]);
    assert_eq!(imported.model.facts.max_seq_length, 24);
    let said = "sentence embeddings are the maximum over all tokens, not normalised, as modules.json has it";
    let model = service.client().get("/v1/models/m").await.good();
    assert_eq!(model["notes"], json!([said]));
    let file = service.client().get("/v1/models/m/files/1_Pooling/config.json").await;
    assert_eq!(file.bytes, pooling.to_string().as_bytes());

    // One that was imported without the settings of its modules, as they once were, is completed.
    let settings = copy.join("1_Pooling/config.json");
    std::fs::remove_file(&settings).unwrap();
    let less = models::import(&service.app, &copy, "less").await.unwrap();
    let why = "modules.json names 1_Pooling/config.json, which is not there; fetch it again";
    assert_eq!(less.model.facts.unfit.values().collect::<Vec<_>>(), [why]);
    std::fs::write(&settings, pooling.to_string()).unwrap();
    let whole = models::import(&service.app, &copy, "less").await.unwrap();
    assert!(whole.new && whole.model.facts.unfit.is_empty() && whole.model.id != less.model.id);
    assert_eq!(service.client().get("/v1/models").await.good()["data"].as_array().unwrap().len(), 2);
    assert!(!models::import(&service.app, &copy, "less").await.unwrap().new);
    // What is gone, or is another one, is another model's.
    std::fs::write(&settings, pooling.to_string().replace("max", "cls")).unwrap();
    assert!(models::import(&service.app, &copy, "less").await.is_err());
    std::fs::remove_file(&settings).unwrap();
    assert!(models::import(&service.app, &copy, "less").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classifier_says_which_labels_it_has() {
    let service = Service::api().await;
    let import = async |name: &str, labels: serde_json::Value| {
        let folder = tempfile::tempdir().unwrap();
        let copy = copy_of_tiny(folder.path());
        let mut config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(copy.join("config.json")).unwrap()).unwrap();
        config["architectures"] = json!(["BertForSequenceClassification"]);
        config["id2label"] = labels;
        std::fs::write(copy.join("config.json"), config.to_string()).unwrap();
        models::import(&service.app, &copy, name).await.unwrap();
        service.client().get(&format!("/v1/models/{name}")).await.good()
    };
    let two = import("two", json!({"1": "LABEL_1", "0": "LABEL_0"})).await;
    assert_eq!(two["labels"], json!(["LABEL_0", "LABEL_1"]));
    assert_eq!(two["problem_type"], "single_label_classification");
    let value = import("value", json!({"0": "LABEL_0"})).await;
    assert_eq!((&value["problem_type"], &value["labels"]), (&json!("regression"), &json!(null)));
}

/// Puts a link in place of a file.
fn link(to: impl AsRef<Path>, from: &Path) {
    let _ = std::fs::remove_file(from);
    std::os::unix::fs::symlink(to, from).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_lead_out_of_the_folder_are_not_published() {
    let service = Service::api().await;
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_of_tiny(folder.path());
    link("/etc/passwd", &copy.join("passwd.txt"));
    link("config.json", &copy.join("same.json"));
    let imported = models::import(&service.app, &copy, "m").await.unwrap();
    assert_eq!(imported.skipped, ["passwd.txt (a link to a place outside of the folder)"]);
    let files = service.client().get("/v1/models/m/files").await.good();
    let paths: Vec<&str> = files["data"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["config.json", "model.safetensors", "same.json", "tokenizer.json", "tokenizer_config.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_trained_is_not_imported() {
    let service = Service::api().await;
    let rows: [(&str, fn(&Path), &str); 26] = [
        (
            "a checkpoint of an adapter",
            |d| {
                std::fs::remove_file(d.join("model.safetensors")).unwrap();
                std::fs::create_dir(d.join("adapter")).unwrap();
                std::fs::write(d.join("adapter/adapter_config.json"), "{}").unwrap();
            },
            "an adapter has adapter_config.json and adapter_model.safetensors",
        ),
        (
            "a folder of PEFT's",
            |d| {
                for name in ["model.safetensors", "config.json"] {
                    std::fs::remove_file(d.join(name)).unwrap();
                }
                std::fs::write(d.join("adapter_config.json"), "{}").unwrap();
            },
            "an adapter has adapter_config.json and adapter_model.safetensors",
        ),
        ("no config", |d| std::fs::remove_file(d.join("config.json")).unwrap(), "it has no config.json"),
        (
            "config that is a device without end",
            |d| link("/dev/zero", &d.join("config.json")),
            "config.json is a link to a place outside of the folder",
        ),
        (
            "config that is a pipe",
            |d| {
                std::fs::remove_file(d.join("config.json")).unwrap();
                nix::unistd::mkfifo(&d.join("config.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            "config.json is no regular file",
        ),
        (
            "weights that lie elsewhere",
            |d| link(data::tiny_model().join("model.safetensors"), &d.join("model.safetensors")),
            "model.safetensors is a link to a place outside of the folder",
        ),
        (
            "weights without tensors",
            |d| std::fs::write(d.join("model.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap(),
            "the model has no tensor bert.embeddings.word_embeddings.weight",
        ),
        (
            "heads that do not share the width",
            |d| {
                let config = std::fs::read_to_string(d.join("config.json")).unwrap();
                let config = config.replace("\"num_attention_heads\": 4", "\"num_attention_heads\": 5");
                std::fs::write(d.join("config.json"), config).unwrap();
            },
            "config.json: num_attention_heads is 5; supported: a divisor of hidden_size, which is 32",
        ),
        ("a tokenizer that is empty", |d| std::fs::write(d.join("tokenizer.json"), "").unwrap(), "tokenizer.json: "),
        ("no tokenizer", |d| std::fs::remove_file(d.join("tokenizer.json")).unwrap(), "has no tokenizer.json"),
        ("no weights", |d| std::fs::remove_file(d.join("model.safetensors")).unwrap(), "no weights in .safetensors"),
        (
            "a pickle alone",
            |d| std::fs::rename(d.join("model.safetensors"), d.join("pytorch_model.bin")).unwrap(),
            "no weights in .safetensors",
        ),
        (
            "config of more than a mebibyte",
            |d| std::fs::write(d.join("config.json"), " ".repeat((1 << 20) + 1)).unwrap(),
            "config.json has more than 1048576 bytes",
        ),
        (
            "config that is no JSON",
            |d| std::fs::write(d.join("config.json"), "{").unwrap(),
            "config.json is no JSON, perhaps a web page in its place: EOF",
        ),
        (
            "config that is a web page",
            |d| std::fs::write(d.join("config.json"), "<!DOCTYPE html>\n<html>404</html>").unwrap(),
            "config.json is a web page and not the file itself: fetch it again",
        ),
        (
            "weights that are a pointer",
            |d| point(&d.join("model.safetensors")),
            "model.safetensors is a pointer of Git LFS",
        ),
        ("a tokenizer that is a pointer", |d| point(&d.join("tokenizer.json")), "run 'git lfs pull'"),
        (
            "weights that are not numbers",
            |d| spoil(&d.join("model.safetensors"), f32::NAN),
            "in model.safetensors has a value that is not a number (NaN)",
        ),
        (
            "weights without bounds",
            |d| spoil(&d.join("model.safetensors"), f32::NEG_INFINITY),
            "in model.safetensors has a value that is infinite",
        ),
        (
            "an encoder in a folder below",
            |d| {
                std::fs::create_dir(d.join("0_Transformer")).unwrap();
                std::fs::rename(d.join("config.json"), d.join("0_Transformer/config.json")).unwrap();
            },
            "it has no config.json; its encoder lies in 0_Transformer: move the files there up",
        ),
        (
            "a training's folder with the model in a checkpoint",
            |d| {
                std::fs::create_dir_all(d.join("snapshots/0123")).unwrap();
                std::fs::rename(d.join("config.json"), d.join("snapshots/0123/config.json")).unwrap();
            },
            "it has no config.json; a model lies in snapshots/0123 below it: import that folder",
        ),
        (
            "another architecture",
            |d| std::fs::write(d.join("config.json"), r#"{"model_type": "mamba"}"#).unwrap(),
            "model_type is mamba; supported: bert",
        ),
        (
            "config without width",
            |d| std::fs::write(d.join("config.json"), r#"{"model_type": "bert"}"#).unwrap(),
            "config.json: missing field `vocab_size`",
        ),
        (
            "config with a width beyond all",
            |d| {
                let config = std::fs::read_to_string(d.join("config.json")).unwrap();
                let config = config.replace("\"hidden_size\": 32", "\"hidden_size\": 4294967295");
                std::fs::write(d.join("config.json"), config).unwrap();
            },
            "config.json: hidden_size is 4294967295; supported: 1 to 65536",
        ),
        (
            "weights that are a pickle",
            |d| std::fs::write(d.join("model.safetensors"), b"PK\x03\x04 pickle").unwrap(),
            "model.safetensors is no valid safetensors file",
        ),
        (
            "weights of three bytes",
            |d| std::fs::write(d.join("model.safetensors"), b"abc").unwrap(),
            "header too small",
        ),
    ];
    for (what, spoil, message) in rows {
        let folder = tempfile::tempdir().unwrap();
        let copy = copy_of_tiny(folder.path());
        spoil(&copy);
        let error = models::import(&service.app, &copy, "m").await.err().unwrap();
        assert!(error.message.contains(message), "{what}: {}", error.message);
    }
    for (name, near) in
        [("", ""), ("../x", "x"), ("a/b/c", "a-b-c"), ("ft:x", "ft-x"), (".hidden", "hidden"), ("a b", "a-b")]
    {
        let error = models::import(&service.app, &data::tiny_model(), name).await.err().unwrap();
        let said = if near.is_empty() { "dashes and underscores".to_owned() } else { format!("; for example {near}") };
        assert!(error.message.ends_with(&said), "{name:?}: {}", error.message);
    }
    assert_eq!(service.client().get("/v1/models").await.good()["data"], json!([]));
}
