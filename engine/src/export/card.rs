//! The model card and the manifest of a finished model.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::files::{hashes_below, sync_tree, write_json};
use crate::error::{EngineError, Result};
use finetuned::domain::hyperparameters::definitions;
use finetuned::domain::method::Method;
use finetuned::domain::run::RunSpec;

/// Writes `README.md` (the model card) and, last of all, `manifest.json` with the hash of every other file.
pub fn write_card_and_manifest(directory: &Path, spec: &RunSpec, evaluation: &Value) -> Result<()> {
    let path = directory.join("README.md");
    fs::write(&path, model_card(spec, evaluation)).map_err(EngineError::io(&path))?;
    let files = hashes_below(directory)?;
    let manifest = json!({
        "format": 1,
        "producer": format!("finetuned {}", env!("CARGO_PKG_VERSION")),
        "job": spec.job,
        "base_model": spec.model_name,
        "method": spec.method,
        "seed": spec.seed,
        "hyperparameters": hyperparameters(spec),
        "data": data_hashes(spec),
        "files": files,
    });
    write_json(&directory.join("manifest.json"), &manifest)?;
    sync_tree(directory)
}

fn data_hashes(spec: &RunSpec) -> Value {
    let mut hashes = Map::new();
    for (name, file) in [("training", &spec.training), ("validation", &spec.validation), ("test", &spec.test)] {
        if let Some(file) = file {
            hashes.insert(name.to_owned(), json!(file.sha256));
        }
    }
    Value::Object(hashes)
}

fn model_card(spec: &RunSpec, evaluation: &Value) -> String {
    let (library, pipeline, how) = match spec.method {
        Method::TextClassification => (
            "transformers",
            "text-classification",
            "`AutoModelForSequenceClassification.from_pretrained` and `AutoTokenizer.from_pretrained`",
        ),
        Method::ImageClassification => (
            "transformers",
            "image-classification",
            "`AutoModelForImageClassification.from_pretrained` and `AutoImageProcessor.from_pretrained`",
        ),
        Method::MaskedLm => {
            ("transformers", "fill-mask", "`AutoModelForMaskedLM.from_pretrained` and `AutoTokenizer.from_pretrained`")
        }
        Method::Embedding => ("sentence-transformers", "sentence-similarity", "`SentenceTransformer`"),
    };
    let labels = if spec.labels.is_empty() {
        String::new()
    } else {
        let list: Vec<String> = spec.labels.iter().map(|label| format!("- {label}")).collect();
        format!("## Labels\n\n{}\n\n", list.join("\n"))
    };
    let adapter = if spec.hyperparameters.adapter.lora().is_some() {
        "`adapter/` holds the adapter alone, for PEFT; it is merged into the weights here.\n\n"
    } else {
        ""
    };
    format!(
        "---\nlibrary_name: {library}\npipeline_tag: {pipeline}\nbase_model: {base}\ntags:\n- finetuned\n---\n\n\
         # {method} model fine-tuned from {base}\n\n\
         Made by finetuned {version}, job `{job}`. It loads with {how} on this directory.\n\n{adapter}{labels}\
         ## Evaluation\n\n```json\n{evaluation}\n```\n\n\
         `evaluation/` holds the whole reports and every prediction, on the test file where one was given, and on the \
         validation data.\n\n\
         ## Training\n\nSHA-256 of the data files, and the hyperparameters (seed {seed}):\n\n```json\n{data}\n```\n\n\
         ```json\n{hyperparameters}\n```\n",
        base = spec.model_name,
        method = spec.method,
        version = env!("CARGO_PKG_VERSION"),
        job = spec.job,
        evaluation = pretty(evaluation),
        seed = spec.seed,
        data = pretty(&data_hashes(spec)),
        hyperparameters = pretty(&hyperparameters(spec)),
    )
}

/// The hyperparameters that the method has.
fn hyperparameters(spec: &RunSpec) -> Map<String, Value> {
    let Ok(Value::Object(mut values)) = serde_json::to_value(&spec.hyperparameters) else { return Map::new() };
    values.retain(|name, _| definitions(spec.method).any(|definition| definition.name == name));
    values
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
