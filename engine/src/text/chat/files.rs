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

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    /// Templates by name, and where they are from.
    fn found(files: &[(&str, &str)]) -> Result<Vec<(String, String, String)>, String> {
        let sources = templates(directory(files).path())?.into_iter();
        Ok(sources.map(|(key, source)| (key, source.text, source.name)).collect())
    }

    fn one(key: &str, text: &str, name: &str) -> (String, String, String) {
        (key.to_owned(), text.to_owned(), name.to_owned())
    }

    #[test]
    fn files_of_templates_go_before_the_configuration() {
        let config = (CONFIG, r#"{"chat_template": "c"}"#);
        let json = ("chat_template.json", r#"{"chat_template": "b"}"#);
        assert_eq!(found(&[config]).unwrap(), [one("default", "c", "chat_template in tokenizer_config.json")]);
        assert_eq!(found(&[config, json]).unwrap(), [one("default", "b", "chat_template in chat_template.json")]);
        let jinja = ("chat_template.jinja", "\u{feff}a");
        assert_eq!(found(&[config, json, jinja]).unwrap(), [one("default", "a", "chat_template.jinja")]);
        let tools = (FOR_TOOLS, "t");
        assert_eq!(found(&[jinja, tools]).unwrap()[1], one("tool_use", "t", FOR_TOOLS));
        for nothing in [&[][..], &[(CONFIG, "{}")], &[(CONFIG, r#"{"chat_template": null}"#)]] {
            assert_eq!(found(nothing).unwrap(), []);
        }
    }

    #[test]
    fn a_configuration_may_list_templates() {
        let list =
            r#"{"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}"#;
        let expected = [
            one("default", "d", "chat_template in tokenizer_config.json"),
            one("tool_use", "t", "chat_template tool_use in tokenizer_config.json"),
        ];
        assert_eq!(found(&[(CONFIG, list)]).unwrap(), expected);
        for (config, expected) in [
            (
                r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#,
                "there are chat templates named rag, but none named",
            ),
            (r#"{"chat_template": [{"name": "default"}]}"#, "chat_template is neither a text nor a list"),
            (r#"{"chat_template": 7}"#, "chat_template is neither a text nor a list"),
            ("[]", "tokenizer_config.json is no JSON object"),
        ] {
            let error = found(&[(CONFIG, config)]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn special_tokens_are_texts_or_objects() {
        let config = r#"{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
            "add_bos_token": true, "image_token": "<image>", "extra_special_tokens": {"audio": "<audio>"}, "other": "x"}"#;
        let tokens = |files: &[(&str, &str)]| special_tokens(directory(files).path()).unwrap();
        let expected = [("audio", "<audio>"), ("bos_token", "<s>"), ("eos_token", "</s>"), ("image_token", "<image>")];
        let expected = |more: &[(&str, &str)]| -> BTreeMap<String, String> {
            expected.iter().chain(more).map(|(name, token)| ((*name).to_owned(), (*token).to_owned())).collect()
        };
        assert_eq!(tokens(&[(CONFIG, config)]), expected(&[]));
        let map = (
            SPECIAL,
            r#"{"eos_token": "<end>", "unk_token": {"content": "<unk>"}, "additional_special_tokens": ["a"]}"#,
        );
        assert_eq!(tokens(&[(CONFIG, config), map]), expected(&[("eos_token", "<end>"), ("unk_token", "<unk>")]));
        let newer = config.replacen('{', r#"{"added_tokens_decoder": {}, "#, 1);
        assert_eq!(tokens(&[(CONFIG, &newer), map]), expected(&[]));
        assert_eq!(tokens(&[]), BTreeMap::new());
    }

    #[test]
    fn a_file_that_is_no_text_is_refused() {
        let directory = directory(&[]);
        fs::write(directory.path().join("chat_template.jinja"), b"a\xff").unwrap();
        let error = templates(directory.path()).map(|_| ()).unwrap_err();
        assert_eq!(error, "chat_template.jinja is not UTF-8; save it as UTF-8");
    }
}
