//! Whether a folder is a model that can be trained, and by which methods: everything of loading but the values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::models::text::{SentenceConfig, TextConfig};
use crate::models::{ModelConfig, read_config};
use crate::tasks;
use crate::text::{TextTokenizer, build_missing};
use crate::weights::{Weights, adapter_upon};
use finetuned::domain::method::METHODS;
use finetuned::domain::model::Checked;

/// What becomes of the model in `directory` in a job. Of its weights names, shapes and types are looked at. Where it has
/// no `tokenizer.json` but what one is built from, that is written there.
pub fn check(directory: &Path) -> Checked {
    examine(directory).unwrap_or_else(|error| Checked::Refused(error.job_error().message))
}

fn examine(directory: &Path) -> Result<Checked> {
    let json = read_config(directory)?;
    let family = crate::models::config::model_type(&json)?;
    let config = ModelConfig::parse(&json)?;
    let mut notes = Vec::new();
    if let ModelConfig::Text(text) = &config {
        let class = tokenizer_class(&json);
        notes.extend(build_missing(directory, class.as_deref(), &text.tokenizer_class())?);
    }
    let mut facts = config.facts();
    let weights = config.open_weights(directory)?;
    facts.parameters = weights.values();
    facts.linear_layers = linear_layers(&weights)?;
    if !weights.wrapper().is_empty() {
        notes.push(format!(
            "a wrapper put \"{}\" before the names of all tensors; they are read without it",
            weights.wrapper()
        ));
    }
    notes.extend(own_code(&json));
    let methods: Vec<_> = METHODS.into_iter().filter(|method| method.supports(facts.backbone)).collect();
    let mut unfit = BTreeMap::new();
    for &method in &methods {
        if let Err(error) = tasks::check(method, directory) {
            unfit.insert(method, error.job_error().message);
        }
    }
    if let Some((_, why)) = unfit.first_key_value().filter(|_| unfit.len() == methods.len()) {
        return Ok(Checked::Refused(why.clone()));
    }
    notes.extend(unfit.iter().map(|(method, why)| format!("it cannot be trained with the method {method}: {why}")));
    if let ModelConfig::Text(text) = &config {
        notes.extend(few_words(directory, text));
        let embeds = methods.iter().any(|method| method.card().has_length);
        if let Some(sentence) = SentenceConfig::open(directory, text.hidden_size()).ok().filter(|_| embeds) {
            facts.max_seq_length = sentence.max_seq_length().unwrap_or_default();
            notes.push(sentence.describe());
        }
    }
    facts.adapter = adapter_upon(directory)?.and_then(|adapter| adapter.lora);
    (facts.unfit, facts.notes) = (unfit, notes);
    Ok(Checked::Trainable { family, facts })
}

/// The last parts of the names of layers that may get adapters: matrices below a number.
fn linear_layers(weights: &Weights) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for name in weights.names_other_than(&[]) {
        let Some((module, layer)) = name.strip_suffix(".weight").and_then(|module| module.rsplit_once('.')) else {
            continue;
        };
        let is_numbered = module.split('.').any(|part| part.parse::<u32>().is_ok());
        if is_numbered && !layer.starts_with("lora_") && weights.shape(&name)?.len() == 2 {
            found.insert(layer.to_owned());
        }
    }
    Ok(found.into_iter().collect())
}

/// What there is to say where the tokenizer knows so few of the model's tokens that it is likely another model's.
fn few_words(directory: &Path, config: &TextConfig) -> Option<String> {
    let tokenizer = TextTokenizer::open(directory, 8, config.vocab_size()).ok()?;
    let (known, rows) = (tokenizer.tokens(), config.vocab_size().unsigned_abs() as usize);
    (2 * known < rows).then(|| {
        format!("the tokenizer knows {known} tokens, and the model has embeddings of {rows}: it may be another model's")
    })
}

/// What there is to say of a model that brings code of its own to run.
fn own_code(json: &str) -> Option<String> {
    let config: Value = serde_json::from_str(json).ok()?;
    let family = config["model_type"].as_str().unwrap_or_default();
    config["auto_map"].is_object().then(|| {
        format!(
            "config.json names code that the model brings (auto_map), which is never run; the weights are read as those of \
             a plain {family}"
        )
    })
}

/// The class of its tokenizer that a `config.json` names.
fn tokenizer_class(json: &str) -> Option<String> {
    let config: Value = serde_json::from_str(json).ok()?;
    config["tokenizer_class"].as_str().map(str::to_owned)
}
