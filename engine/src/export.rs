//! Model directories as Transformers loads them, with a model card and a manifest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::error::{EngineError, Result};
use crate::weights;
use finetuned::domain::hex::hex;
use finetuned::domain::run::RunSpec;

/// Files of a base model that go with every model made from it.
const COMPANIONS: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "sentencepiece.bpe.model",
];

/// What every directory of a run's model holds besides the weights.
#[derive(Clone)]
pub struct ModelFiles {
    base: PathBuf,
    config: Value,
}

impl ModelFiles {
    /// For a sequence classifier made from the model in `base`.
    ///
    /// # Errors
    /// `config.json` of the base cannot be read.
    pub fn classifier(base: &Path, architecture: &str, labels: &[String]) -> Result<Self> {
        let path = base.join("config.json");
        let text = fs::read(&path).map_err(EngineError::io(&path))?;
        let mut config: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| EngineError::model(format!("config.json: {error}")))?;
        let id2label: Map<String, Value> =
            labels.iter().enumerate().map(|(class, label)| (class.to_string(), json!(label))).collect();
        let label2id: Map<String, Value> =
            labels.iter().enumerate().map(|(class, label)| (label.clone(), json!(class))).collect();
        for absent in ["_name_or_path", "torch_dtype", "num_labels"] {
            config.remove(absent);
        }
        config.insert("architectures".to_owned(), json!([architecture]));
        config.insert("dtype".to_owned(), json!("float32"));
        config.insert("problem_type".to_owned(), json!("single_label_classification"));
        config.insert("id2label".to_owned(), Value::Object(id2label));
        config.insert("label2id".to_owned(), Value::Object(label2id));
        Ok(Self { base: base.to_owned(), config: Value::Object(config) })
    }

    /// Writes `weights`, `config.json` and the tokenizer's files into `directory`, which exists.
    pub fn write(&self, directory: &Path, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        weights::write(&directory.join("model.safetensors"), weights)?;
        write_json(&directory.join("config.json"), &self.config)?;
        for name in COMPANIONS {
            let source = self.base.join(name);
            if source.is_file() {
                let target = directory.join(name);
                fs::copy(&source, &target).map_err(EngineError::io(&target))?;
            }
        }
        Ok(())
    }
}

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
        "hyperparameters": spec.hyperparameters,
        "data": data_hashes(spec),
        "files": files,
    });
    write_json(&directory.join("manifest.json"), &manifest)?;
    sync_tree(directory)
}

fn data_hashes(spec: &RunSpec) -> Value {
    let mut hashes = Map::from_iter([("training".to_owned(), json!(spec.training.sha256))]);
    for (name, file) in [("validation", &spec.validation), ("test", &spec.test)] {
        if let Some(file) = file {
            hashes.insert(name.to_owned(), json!(file.sha256));
        }
    }
    Value::Object(hashes)
}

fn model_card(spec: &RunSpec, evaluation: &Value) -> String {
    format!(
        "---\nlibrary_name: transformers\npipeline_tag: text-classification\nbase_model: {base}\ntags:\n- finetuned\n---\n\n\
         # {method} model fine-tuned from {base}\n\n\
         Made by finetuned {version}, job `{job}`. It loads with `AutoModelForSequenceClassification.from_pretrained` and \
         `AutoTokenizer.from_pretrained` on this directory.\n\n\
         ## Labels\n\n{labels}\n\n\
         ## Evaluation\n\n```json\n{evaluation}\n```\n\n\
         `evaluation/` holds the per-class scores, the confusion matrix and every prediction on the test file, where one \
         was given.\n\n\
         ## Training\n\nSHA-256 of the data files, and the hyperparameters (seed {seed}):\n\n```json\n{data}\n```\n\n\
         ```json\n{hyperparameters}\n```\n",
        base = spec.model_name,
        method = spec.method,
        version = env!("CARGO_PKG_VERSION"),
        job = spec.job,
        labels = spec.labels.iter().map(|label| format!("- {label}")).collect::<Vec<_>>().join("\n"),
        evaluation = pretty(evaluation),
        seed = spec.seed,
        data = pretty(&data_hashes(spec)),
        hyperparameters = pretty(&spec.hyperparameters),
    )
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Writes pretty JSON with a final newline.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| EngineError::native(error.to_string()))?;
    text.push(b'\n');
    fs::write(path, text).map_err(EngineError::io(path))
}

/// The files below `directory`, as relative paths with forward slashes, sorted.
fn files_below(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![(directory.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(EngineError::io(&folder))? {
            let entry = entry.map_err(EngineError::io(&folder))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Size and hash of a file, as manifests have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    pub bytes: u64,
    pub sha256: String,
}

/// Sizes and hashes of the files below `directory`, by relative path.
pub fn hashes_below(directory: &Path) -> Result<BTreeMap<String, FileHash>> {
    files_below(directory)?.into_iter().map(|file| Ok((file.clone(), hash_file(&directory.join(file))?))).collect()
}

/// Size and hash of a file.
pub fn hash_file(path: &Path) -> Result<FileHash> {
    let mut file = File::open(path).map_err(EngineError::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(EngineError::io(path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok(FileHash { bytes, sha256: hex(&hasher.finalize()) })
}

/// Makes the files and folders below `directory` durable.
pub fn sync_tree(directory: &Path) -> Result<()> {
    for file in files_below(directory)? {
        let path = directory.join(&file);
        File::open(&path).and_then(|file| file.sync_all()).map_err(EngineError::io(&path))?;
        if let Some(parent) = path.parent() {
            sync_directory(parent)?;
        }
    }
    sync_directory(directory)
}

/// Makes the entries of a directory durable.
pub fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|folder| folder.sync_all()).map_err(EngineError::io(directory))
}
