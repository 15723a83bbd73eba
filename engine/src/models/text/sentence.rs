//! What a folder says of its encoder as a model of sentence-transformers: `modules.json`, and the files that it names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::pooling::SentencePooling;
use crate::error::{EngineError, Result};
use finetuned::domain::model::without_mark;

const MODULES: &str = "modules.json";
const TRANSFORMER: &str = "sentence_bert_config.json";
const ABOUT: &str = "config_sentence_transformers.json";
const TOKENIZER: &str = "tokenizer_config.json";

/// How an encoder's states become the embedding of a sentence.
#[derive(Clone, Debug)]
pub struct SentenceConfig {
    /// Side by side, in this order.
    pooling: Vec<SentencePooling>,
    is_normalised: bool,
    max_seq_length: Option<u32>,
    lowers: bool,
    /// The files by path, `max_seq_length` aside.
    files: BTreeMap<String, Value>,
    /// Whether the folder has them, and these are not the usual ones.
    is_given: bool,
    /// A file that `modules.json` asks for and that is not there, so that the usual takes its place.
    missing: Option<String>,
}

/// An entry of `modules.json`.
#[derive(serde::Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    class: String,
}

impl SentenceConfig {
    /// Reads what is said of the encoder in `directory`, which is `width` wide. A plain encoder, about which nothing is
    /// said, gets the mean of its tokens, normalised.
    ///
    /// # Errors
    /// A file is malformed, or asks for what is not built; the message names it.
    pub fn open(directory: &Path, width: i64) -> Result<Self> {
        let Some(modules) = read(directory, MODULES)? else { return Ok(Self::plain(width)) };
        let mut config = Self { pooling: Vec::new(), is_normalised: false, is_given: true, ..Self::plain(width) };
        config.files = BTreeMap::from([(MODULES.to_owned(), modules.clone())]);
        let listed: Vec<Module> =
            serde_json::from_value(modules).map_err(|error| EngineError::model(format!("{MODULES}: {error}")))?;
        for (place, module) in listed.iter().enumerate() {
            config.add(directory, place, module, width)?;
        }
        if config.pooling.is_empty() {
            return Err(unbuilt("has no Pooling"));
        }
        if let Some(about) = read(directory, ABOUT)? {
            config.files.insert(ABOUT.to_owned(), about);
        }
        let transformer = object(directory, TRANSFORMER)?.unwrap_or_default();
        if let Some(task) = transformer.get("transformer_task").filter(|task| *task != "feature-extraction") {
            return Err(EngineError::model(format!(
                "{TRANSFORMER}: transformer_task is {task}; supported: feature-extraction"
            )));
        }
        config.lowers = transformer.get("do_lower_case").and_then(Value::as_bool).unwrap_or(false);
        config.max_seq_length = match transformer.get("max_seq_length").and_then(Value::as_u64) {
            Some(tokens) => u32::try_from(tokens).ok(),
            // Newer versions leave it to the tokenizer, where a very large number stands for none.
            None => object(directory, TOKENIZER)?
                .and_then(|tokenizer| tokenizer.get("model_max_length").and_then(Value::as_u64))
                .and_then(|tokens| u32::try_from(tokens).ok()),
        };
        config.files.insert(TRANSFORMER.to_owned(), Value::Object(transformer));
        Ok(config)
    }

    fn plain(width: i64) -> Self {
        let module = |number: usize, path: &str, class: &str| {
            let kind = format!("sentence_transformers.models.{class}");
            json!({"idx": number, "name": number.to_string(), "path": path, "type": kind})
        };
        let modules =
            [module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")];
        let files = [
            (MODULES, json!(modules)),
            ("1_Pooling/config.json", mean_pooling(width)),
            (TRANSFORMER, json!({"do_lower_case": false})),
            (ABOUT, json!({"similarity_fn_name": "cosine"})),
        ];
        Self {
            pooling: vec![SentencePooling::Mean],
            is_normalised: true,
            max_seq_length: None,
            lowers: false,
            files: files.into_iter().map(|(path, value)| (path.to_owned(), value)).collect(),
            is_given: false,
            missing: None,
        }
    }

    fn add(&mut self, directory: &Path, place: usize, module: &Module, width: i64) -> Result<()> {
        let Module { path, class } = module;
        let name = class.strip_prefix("sentence_transformers.").and_then(|class| class.rsplit('.').next());
        let file = format!("{path}/config.json");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if path.starts_with('.') || !path.chars().all(is_plain) {
            return Err(unbuilt(&format!("has the path {path:?}; supported: names of folders beside it")));
        }
        let settings = if path.is_empty() { None } else { object(directory, &file)? };
        match (name, place) {
            (Some("Transformer"), 0) if path.is_empty() => {}
            (Some("Transformer"), 0) => {
                return Err(unbuilt(&format!("has its Transformer in {path}; supported: the folder itself")));
            }
            (Some("Pooling"), 1) if settings.is_none() => {
                self.pooling = vec![SentencePooling::Mean];
                self.files.insert(file.clone(), mean_pooling(width));
                self.missing = Some(file.clone());
            }
            (Some("Pooling"), 1) => self.pooling = modes(&file, &settings.clone().unwrap_or_default(), width)?,
            (Some("Normalize"), 2..) => {
                let input = settings.as_ref().and_then(|settings| settings.get("module_input_name"));
                if let Some(input) = input.filter(|input| *input != "sentence_embedding") {
                    let message = format!("{file}: module_input_name is {input}; supported: sentence_embedding");
                    return Err(EngineError::model(message));
                }
                self.is_normalised = true;
            }
            _ => {
                return Err(unbuilt(&format!(
                    "has the module {class} in place {place}; supported: Transformer, Pooling and then Normalize"
                )));
            }
        }
        if let Some(settings) = settings {
            self.files.insert(file, Value::Object(settings));
        }
        Ok(())
    }

    /// How the states become embeddings: one beside the other, in this order.
    pub fn pooling(&self) -> &[SentencePooling] {
        &self.pooling
    }

    /// Tokens that it cuts a sentence to, if it says so.
    pub fn max_seq_length(&self) -> Option<u32> {
        self.max_seq_length
    }

    /// Whether sentences are put into lower case before they are tokenised.
    pub fn lowers(&self) -> bool {
        self.lowers
    }

    /// Whether the folder says so; the others are plain encoders.
    pub fn is_given(&self) -> bool {
        self.is_given
    }

    /// A file that is not there, so that the mean takes the place of what it says.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// The files of a model that cuts sentences to `max_tokens`, by path; as they were if None.
    pub fn files(&self, max_tokens: Option<u32>) -> BTreeMap<String, Value> {
        let mut files = self.files.clone();
        if let (Some(Value::Object(transformer)), Some(tokens)) = (files.get_mut(TRANSFORMER), max_tokens) {
            transformer.insert("max_seq_length".to_owned(), json!(tokens));
        }
        files
    }

    /// What it is, for people.
    pub fn describe(&self) -> String {
        let pooled: Vec<&str> = self.pooling.iter().map(|mode| mode.words()).collect();
        let normalised = if self.is_normalised { "normalised" } else { "not normalised" };
        let says =
            if self.is_given { "as modules.json has it" } else { "since it has no modules.json that says otherwise" };
        let mut said = vec![format!("sentence embeddings are {}, {normalised}, {says}", pooled.join(" beside "))];
        let about = |field: &str| self.files.get(ABOUT).and_then(|about| about[field].as_str());
        said.extend(about("default_prompt_name").map(|prompt| {
            format!("its default prompt \"{prompt}\" is not put before the texts of a job: write it into the data")
        }));
        let similarity = about("similarity_fn_name").filter(|name| *name != "cosine");
        said.extend(similarity.map(|name| format!("its similarity is \"{name}\", while jobs compare by the cosine")));
        said.join("; ")
    }
}

fn mean_pooling(width: i64) -> Value {
    json!({"word_embedding_dimension": width, "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false,
        "pooling_mode_max_tokens": false})
}

/// The modes of a `Pooling` module, from its one field for them or from a flag for each.
fn modes(file: &str, settings: &Map<String, Value>, width: i64) -> Result<Vec<SentencePooling>> {
    let refused = |field: &str, value: &Value| {
        let known: Vec<&str> = SentencePooling::ALL.iter().map(|mode| mode.name()).collect();
        EngineError::model(format!("{file}: {field} is {value}; supported: {}", known.join(", ")))
    };
    for field in ["word_embedding_dimension", "embedding_dimension"] {
        if let Some(value) = settings.get(field).filter(|value| value.as_i64() != Some(width)) {
            return Err(EngineError::model(format!(
                "{file}: {field} is {value}, and config.json's hidden size {width}"
            )));
        }
    }
    let known = |value: &Value| SentencePooling::ALL.into_iter().find(|mode| *value == mode.name());
    if let Some(given) = settings.get("pooling_mode") {
        let names = given.as_array().map_or(std::slice::from_ref(given), Vec::as_slice);
        let found: Option<Vec<_>> = names.iter().map(known).collect();
        return found.filter(|found| !found.is_empty()).ok_or_else(|| refused("pooling_mode", given));
    }
    let is_set = |field: &str| settings.get(field).and_then(Value::as_bool) == Some(true);
    let is_known = |field: &str| SentencePooling::ALL.iter().any(|mode| mode.flag() == field);
    if let Some(field) = settings.keys().find(|key| key.starts_with("pooling_mode") && !is_known(key) && is_set(key)) {
        return Err(refused(field, &Value::Bool(true)));
    }
    let found: Vec<_> = SentencePooling::ALL.into_iter().filter(|mode| is_set(mode.flag())).collect();
    Ok(if found.is_empty() { vec![SentencePooling::Mean] } else { found })
}

fn unbuilt(what: &str) -> EngineError {
    EngineError::model(format!("{MODULES} {what}"))
}

fn object(directory: &Path, name: &str) -> Result<Option<Map<String, Value>>> {
    match read(directory, name)? {
        None => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err(EngineError::model(format!("{name} is no JSON object"))),
    }
}

fn read(directory: &Path, name: &str) -> Result<Option<Value>> {
    let path = directory.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(&path).map_err(EngineError::io(&path))?;
    let read = serde_json::from_slice(without_mark(&bytes));
    read.map(Some).map_err(|error| EngineError::model(format!("{name}: {error}")))
}
