//! Model directories as Transformers loads them, with a model card and a manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::error::{EngineError, Result};
use crate::policy::Policy;
use crate::weights::{self, Weights};
use finetuned::domain::hex::hex;
use finetuned::domain::hyperparameters::definitions;
use finetuned::domain::method::Method;
use finetuned::domain::run::RunSpec;

/// Files of a base model that go with every model made from it.
const COMPANIONS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "LICENSE",
];

/// The folder of a model directory that holds an adapter in PEFT's layout.
const ADAPTER_FOLDER: &str = "adapter";

/// What every directory of a run's model holds besides the weights.
#[derive(Clone)]
pub struct ModelFiles {
    base: PathBuf,
    config: Map<String, Value>,
    /// Further files by name.
    more: BTreeMap<String, Value>,
    /// `adapter_config.json`, where adapters are trained.
    adapter: Option<Value>,
    sentence_transformer: Option<SentenceTransformer>,
}

/// What makes a model directory one of sentence-transformers.
#[derive(Clone)]
struct SentenceTransformer {
    /// What the encoder's names start with in training; its own checkpoints leave it out.
    prefix: String,
    /// Files by path.
    files: BTreeMap<String, Value>,
    /// Tensors of the base model that are no part of the embedder, such as its pooler, by the names they had there.
    carried: Arc<BTreeMap<String, Carried>>,
}

impl SentenceTransformer {
    fn bare_name(&self, name: &str) -> String {
        name.strip_prefix(&self.prefix).unwrap_or(name).to_owned()
    }

    /// The same tensors by the names that they have in the encoder alone.
    fn bare(&self, tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
        tensors.iter().map(|(name, tensor)| (self.bare_name(name), tensor.shallow_clone())).collect()
    }
}

/// A tensor as shape and values, which threads can share.
struct Carried {
    shape: Vec<i64>,
    values: Vec<f32>,
}

impl ModelFiles {
    /// For a model of the class `architecture` of Transformers, made from the one in `base`.
    ///
    /// # Errors
    /// `config.json` of the base cannot be read.
    pub fn new(base: &Path, architecture: &str) -> Result<Self> {
        let path = base.join("config.json");
        let text = fs::read(&path).map_err(EngineError::io(&path))?;
        let mut config: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| EngineError::model(format!("config.json: {error}")))?;
        for absent in ["_name_or_path", "torch_dtype", "num_labels"] {
            config.remove(absent);
        }
        config.insert("architectures".to_owned(), json!([architecture]));
        config.insert("dtype".to_owned(), json!("float32"));
        Ok(Self { base: base.to_owned(), config, more: BTreeMap::new(), adapter: None, sentence_transformer: None })
    }

    /// Adds a JSON file.
    pub fn add(&mut self, name: &str, contents: Value) {
        self.more.insert(name.to_owned(), contents);
    }

    /// With a head for these labels; none at all means one output.
    #[must_use]
    pub fn with_labels(mut self, problem_type: &str, labels: &[String]) -> Self {
        let names: Vec<String> = if labels.is_empty() { vec!["LABEL_0".to_owned()] } else { labels.to_vec() };
        let numbered = || names.iter().enumerate();
        let id2label: Map<String, Value> = numbered().map(|(class, label)| (class.to_string(), json!(label))).collect();
        let label2id: Map<String, Value> = numbered().map(|(class, label)| (label.clone(), json!(class))).collect();
        self.config.insert("problem_type".to_owned(), json!(problem_type));
        self.config.insert("id2label".to_owned(), Value::Object(id2label));
        self.config.insert("label2id".to_owned(), Value::Object(label2id));
        self
    }

    /// With the adapters that `policy` asks for, if it does; `task` is PEFT's `task_type`.
    #[must_use]
    pub fn with_adapter(mut self, policy: &Policy, base_model: &str, task: Option<&str>) -> Self {
        self.adapter = policy.lora().map(|lora| {
            json!({
                "peft_type": "LORA",
                "task_type": task,
                "base_model_name_or_path": base_model,
                "r": lora.r,
                "lora_alpha": lora.alpha,
                "lora_dropout": lora.dropout,
                "use_rslora": lora.rslora,
                "target_modules": policy.targets(),
                "bias": "none",
                "fan_in_fan_out": false,
                "inference_mode": true,
                "init_lora_weights": true,
            })
        });
        self
    }

    /// As sentence-transformers loads it: mean pooling over the encoder called `prefix`, `width` wide, then normalisation.
    ///
    /// # Errors
    /// A tensor of the base model cannot be read.
    pub fn as_sentence_transformer(
        mut self,
        prefix: &str,
        width: i64,
        max_tokens: u32,
        weights: &Weights,
    ) -> Result<Self> {
        let module = |number: usize, path: &str, class: &str| {
            let kind = format!("sentence_transformers.models.{class}");
            json!({"idx": number, "name": number.to_string(), "path": path, "type": kind})
        };
        let modules =
            [module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")];
        let pooling = json!({"word_embedding_dimension": width, "pooling_mode_mean_tokens": true,
            "pooling_mode_cls_token": false, "pooling_mode_max_tokens": false});
        let files = [
            ("modules.json", json!(modules)),
            ("1_Pooling/config.json", pooling),
            ("sentence_bert_config.json", json!({"max_seq_length": max_tokens, "do_lower_case": false})),
            ("config_sentence_transformers.json", json!({"similarity_fn_name": "cosine"})),
        ];
        let mut carried = BTreeMap::new();
        for name in weights.names_other_than(&[]).iter().filter(|name| name.contains(".pooler.")) {
            let tensor = weights.load_any(name)?;
            carried.insert(
                name.clone(),
                Carried { shape: tensor.size(), values: Vec::try_from(tensor.f_flatten(0, -1)?)? },
            );
        }
        self.sentence_transformer = Some(SentenceTransformer {
            prefix: format!("{prefix}."),
            files: files.into_iter().map(|(path, value)| (path.to_owned(), value)).collect(),
            carried: Arc::new(carried),
        });
        Ok(self)
    }

    /// Writes weights, `config.json` and the base model's companions into `directory`, which exists; `adapted` is what
    /// [`ParamTable::adapted`](crate::params::ParamTable::adapted) gives.
    pub fn write(
        &self,
        directory: &Path,
        weights: &BTreeMap<String, Tensor>,
        adapted: Option<&BTreeMap<String, Tensor>>,
    ) -> Result<()> {
        let path = directory.join("model.safetensors");
        match &self.sentence_transformer {
            None => weights::write(&path, weights)?,
            Some(sentence) => {
                let mut all = sentence.bare(weights);
                for (name, Carried { shape, values }) in sentence.carried.iter() {
                    let tensor = Tensor::f_from_slice(values)?.f_view(shape.as_slice())?;
                    all.insert(sentence.bare_name(name), tensor);
                }
                weights::write(&path, &all)?;
                for (path, value) in &sentence.files {
                    let path = directory.join(path);
                    if let Some(folder) = path.parent() {
                        fs::create_dir_all(folder).map_err(EngineError::io(folder))?;
                    }
                    write_json(&path, value)?;
                }
            }
        }
        write_json(&directory.join("config.json"), &self.config)?;
        for (name, contents) in &self.more {
            write_json(&directory.join(name), contents)?;
        }
        if let (Some(config), Some(adapted)) = (&self.adapter, adapted) {
            let folder = directory.join(ADAPTER_FOLDER);
            match &self.sentence_transformer {
                None => write_adapter(&folder, config, adapted)?,
                Some(sentence) => write_adapter(&folder, config, &sentence.bare(adapted))?,
            }
        }
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

/// Writes an adapter as PEFT's `PeftModel.from_pretrained` reads it; `adapted` also has the head that was trained with it.
fn write_adapter(directory: &Path, config: &Value, adapted: &BTreeMap<String, Tensor>) -> Result<()> {
    fs::create_dir_all(directory).map_err(EngineError::io(directory))?;
    let heads: BTreeSet<&str> =
        adapted.keys().filter(|name| !name.contains(".lora_")).filter_map(|name| name.split('.').next()).collect();
    let mut config = config.clone();
    config["modules_to_save"] = if heads.is_empty() { Value::Null } else { json!(heads) };
    write_json(&directory.join("adapter_config.json"), &config)?;
    let named = adapted.iter().map(|(name, tensor)| (format!("base_model.model.{name}"), tensor.shallow_clone()));
    weights::write(&directory.join("adapter_model.safetensors"), &named.collect())
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
        "hyperparameters": hyperparameters(spec),
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
