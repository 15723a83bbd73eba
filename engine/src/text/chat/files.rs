//! The files of a model that say how its conversations are written.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use finetuned::domain::model::without_mark;
use serde_json::{Map, Value};

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
/// Where Transformers saves the template for tools beside `chat_template.jinja`.
const FOR_TOOLS: &str = "additional_chat_templates/tool_use.jinja";
/// Bytes of a file, at most: configurations list the tokens that were added to a vocabulary.
const LARGEST: u64 = 32 << 20;
/// The field of special tokens beside those that all models have.
const FURTHER: &str = "extra_special_tokens";

/// A template's source, and how to call it in an error.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// The templates of a model, by name; `default` is the one that is always there.
pub(super) type Sources = BTreeMap<String, Source>;

/// Reads the templates: those of files go before those of the configuration. Empty where the model has none.
///
/// # Errors
/// A file cannot be read or is not what Transformers writes.
pub(super) fn templates(directory: &Path) -> Result<Sources, String> {
    let mut sources = Sources::new();
    for (key, name) in [("default", "chat_template.jinja"), ("tool_use", FOR_TOOLS)] {
        if let Some(text) = text(directory, name)? {
            sources.insert(key.to_owned(), Source { name: name.to_owned(), text });
        }
    }
    for name in ["chat_template.json", CONFIG] {
        if sources.is_empty()
            && let Some(found) = object(directory, name)?.remove("chat_template")
        {
            sources = listed(found, name)?;
        }
    }
    if !sources.is_empty() && !sources.contains_key("default") {
        let names = sources.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(format!("{CONFIG}: there are chat templates named {names}, but none named default; name one so"));
    }
    Ok(sources)
}

/// The value of `chat_template`: one template, or a list of them with names.
fn listed(found: Value, name: &str) -> Result<Sources, String> {
    let wrong = || format!("{name}: chat_template is neither a text nor a list of {{\"name\": …, \"template\": …}}");
    let entries = match found {
        Value::Null => return Ok(Sources::new()),
        Value::String(text) => vec![("default".to_owned(), text)],
        Value::Array(items) => {
            let entry = |item: &Value| Some((item["name"].as_str()?.to_owned(), item["template"].as_str()?.to_owned()));
            items.iter().map(entry).collect::<Option<_>>().ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    let source = |(key, text)| {
        let name = if key == "default" {
            format!("chat_template in {name}")
        } else {
            format!("chat_template {key} in {name}")
        };
        (key, Source { name, text })
    };
    Ok(entries.into_iter().map(source).collect())
}

/// The special tokens that templates are given: the fields of the configuration whose names end in `_token`, and over them
/// those of `special_tokens_map.json` where that is from a time before the configuration listed all added tokens.
///
/// # Errors
/// A file cannot be read or is no JSON object.
pub(super) fn special_tokens(directory: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut fields = object(directory, CONFIG)?;
    if !fields.contains_key("added_tokens_decoder") {
        fields.extend(object(directory, SPECIAL)?);
    }
    fields.retain(|name, _| name.ends_with("_token") || name == FURTHER);
    // A model's own tokens have names where this is an object.
    if let Some(Value::Object(named)) = fields.remove(FURTHER) {
        fields.extend(named);
    }
    let token = |(name, token): (String, Value)| {
        let text = token.as_str().or_else(|| token["content"].as_str())?.to_owned();
        Some((name, text))
    };
    Ok(fields.into_iter().filter_map(token).collect())
}

fn object(directory: &Path, name: &str) -> Result<Map<String, Value>, String> {
    match text(directory, name)? {
        Some(text) => serde_json::from_str(&text).map_err(|error| format!("{name} is no JSON object: {error}")),
        None => Ok(Map::new()),
    }
}

/// The text of a file; None where there is no such file.
fn text(directory: &Path, name: &str) -> Result<Option<String>, String> {
    let path = directory.join(name);
    let cannot = |error: std::io::Error| format!("{name} cannot be read: {error}");
    match fs::metadata(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(cannot(error)),
        Ok(file) if file.len() > LARGEST => return Err(format!("{name} has more than {LARGEST} bytes")),
        Ok(_) => {}
    }
    let bytes = fs::read(&path).map_err(cannot)?;
    let text =
        std::str::from_utf8(without_mark(&bytes)).map_err(|_| format!("{name} is not UTF-8; save it as UTF-8"))?;
    Ok(Some(text.to_owned()))
}
