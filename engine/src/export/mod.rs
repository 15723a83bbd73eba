//! Model directories as Transformers loads them, with a model card and a manifest.

mod adapter;
mod card;
mod files;
mod markdown;
mod shards;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

pub use adapter::AdapterFiles;
pub use card::write_card_and_manifest;
pub use files::{FileHash, hash_file, hashes_below, sync_directory, sync_tree, write_json};
pub use shards::{SHARD_BYTES, write_model};

use crate::error::{EngineError, Result};
use crate::models::read_config;
use crate::params::Export;
use crate::weights::{Tensors, Weights};
use finetuned::domain::method::language::{ExportForm, GgufType, Kept};
use finetuned::gguf;

/// Files of a base model that go with every model made from it.
const COMPANIONS: [&str; 14] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
    "NOTICE",
];

/// What every directory of a run's model holds besides the weights.
#[derive(Clone)]
pub struct ModelFiles {
    base: PathBuf,
    config: Map<String, Value>,
    /// Further files by path.
    more: BTreeMap<String, Value>,
    adapter: Option<AdapterFiles>,
    kept: Kept,
    sentence_transformer: Option<SentenceTransformer>,
}

/// What is kept of a finished model where nobody says.
const USUAL: Kept = Kept { export: ExportForm::Both, gguf_type: GgufType::F16 };

/// What makes a model directory one of sentence-transformers.
#[derive(Clone)]
struct SentenceTransformer {
    /// What the encoder's names start with in training; its own checkpoints leave it out.
    prefix: String,
    /// Tensors of the base model that are no part of the embedder, such as its pooler.
    carried: Vec<String>,
}

impl SentenceTransformer {
    fn bare_name(&self, name: &str) -> String {
        name.strip_prefix(&self.prefix).unwrap_or(name).to_owned()
    }
}

impl ModelFiles {
    /// For a model of the class `architecture` of Transformers, made from the one in `base`.
    ///
    /// # Errors
    /// `config.json` of the base cannot be read.
    pub fn new(base: &Path, architecture: &str) -> Result<Self> {
        let mut config: Map<String, Value> = serde_json::from_str(&read_config(base)?)
            .map_err(|error| EngineError::model(format!("config.json: {error}")))?;
        for absent in ["_name_or_path", "torch_dtype", "num_labels"] {
            config.remove(absent);
        }
        config.insert("architectures".to_owned(), json!([architecture]));
        Ok(Self {
            base: base.to_owned(),
            config,
            more: BTreeMap::new(),
            adapter: None,
            kept: USUAL,
            sentence_transformer: None,
        })
    }

    /// With further JSON files, by path.
    #[must_use]
    pub fn with_files(mut self, files: BTreeMap<String, Value>) -> Self {
        self.more.extend(files);
        self
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

    /// With the adapters that are trained, if any are.
    #[must_use]
    pub fn with_adapter(mut self, adapter: Option<AdapterFiles>) -> Self {
        self.adapter = adapter;
        self
    }

    /// As this when it is finished.
    #[must_use]
    pub fn kept_as(self, kept: Kept) -> Self {
        Self { kept, ..self }
    }

    /// As sentence-transformers loads it: the encoder called `prefix` without that prefix. What it makes of its states
    /// is said in [`with_files`](Self::with_files).
    #[must_use]
    pub fn as_sentence_transformer(mut self, prefix: &str, weights: &Weights) -> Self {
        let is_carried = |name: &String| name.contains(".pooler.");
        self.sentence_transformer = Some(SentenceTransformer {
            prefix: format!("{prefix}."),
            carried: weights.names_other_than(&[]).into_iter().filter(is_carried).collect(),
        });
        self
    }

    /// Writes weights, `config.json` and the base model's companions into `directory`, which exists; `adapted` are the
    /// trained values (see [`ParamTable::trained`](crate::params::ParamTable::trained)) where there are adapters.
    ///
    /// # Errors
    /// A file cannot be written, or the base model cannot be read any more.
    pub fn write(&self, directory: &Path, model: Export, adapted: Option<&BTreeMap<String, Tensor>>) -> Result<()> {
        let kind = model.kind();
        let carried = self.sentence_transformer.as_ref().map_or(&[][..], |sentence| &sentence.carried);
        write_model(directory, &model.renamed(carried, |name| self.bare_name(name))?, SHARD_BYTES)?;
        if let Some(adapted) = adapted {
            self.write_adapted(directory, adapted)?;
        }
        self.write_around(directory, kind)
    }

    /// Writes a finished model likewise, as what it is to be kept as. `name` is what programs show it by that read GGUF.
    ///
    /// # Errors
    /// A file cannot be written, the base model cannot be read any more, or it is none that is written as GGUF.
    pub fn write_finished(
        &self,
        directory: &Path,
        name: &str,
        model: Export,
        adapted: Option<&BTreeMap<String, Tensor>>,
    ) -> Result<()> {
        let Kept { export, gguf_type } = self.kept;
        match (export, adapted) {
            (ExportForm::Adapter, Some(adapted)) => self.write_adapter(directory, model.kind(), adapted),
            (ExportForm::Merged, _) => self.write(directory, model, None),
            (ExportForm::Both | ExportForm::Adapter, adapted) => self.write(directory, model, adapted),
            (ExportForm::Gguf, adapted) => {
                self.write(directory, model, adapted)?;
                let file = directory.join(format!("model-{}.gguf", gguf_type.as_str()));
                gguf::export(directory, name, gguf_type, &file).map_err(EngineError::model)
            }
        }
    }

    /// Bytes that a finished model of so many takes at most.
    pub fn finished_bytes(&self, model: &Export) -> u64 {
        let values = model.bytes() / model.kind().elt_size_in_bytes() as u64;
        let gguf = if self.kept.export == ExportForm::Gguf { self.kept.gguf_type.bytes(values) } else { 0 };
        model.bytes() + gguf
    }

    /// The same without the weights of the base model, which has this type: its adapters alone.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_adapter(&self, directory: &Path, kind: Kind, adapted: &BTreeMap<String, Tensor>) -> Result<()> {
        self.write_adapted(directory, adapted)?;
        self.write_around(directory, kind)
    }

    fn write_adapted(&self, directory: &Path, adapted: &BTreeMap<String, Tensor>) -> Result<()> {
        let Some(adapter) = &self.adapter else { return Ok(()) };
        let named = adapted.iter().map(|(name, tensor)| (self.bare_name(name), tensor.shallow_clone()));
        adapter.write(directory, &named.collect())
    }

    /// Writes all but weights.
    fn write_around(&self, directory: &Path, kind: Kind) -> Result<()> {
        let mut config = self.config.clone();
        config.insert("dtype".to_owned(), json!(dtype(kind)));
        write_json(&directory.join("config.json"), &config)?;
        for (path, contents) in &self.more {
            let path = directory.join(path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(EngineError::io(folder))?;
            }
            write_json(&path, contents)?;
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

    fn bare_name(&self, name: &str) -> String {
        self.sentence_transformer.as_ref().map_or_else(|| name.to_owned(), |sentence| sentence.bare_name(name))
    }
}

/// A type by the name that `config.json` has for it.
fn dtype(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        _ => "float32",
    }
}
