//! Metadata of a GGUF file about the tokenizer in a folder (`gguf-py/gguf/vocab.py` and `conversion/base.py` of
//! [llama.cpp](https://github.com/ggml-org/llama.cpp)).

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::document::Document;
use super::encode::Entry;
use super::folder;
use super::vocabulary::Kind;

/// The keys `tokenizer.*` of the tokenizer in a folder with this `config.json`, for an embedding of so many rows.
///
/// # Errors
/// A file is missing, or the tokenizer is of a kind that llama.cpp does not have.
pub(super) fn entries(
    directory: &Path,
    config: &Map<String, Value>,
    rows: usize,
) -> Result<Vec<(String, Entry)>, String> {
    let document: Option<Document> = folder::json(directory, "tokenizer.json")?;
    let document = document.ok_or("the model does not have tokenizer.json")?;
    let settings: Map<String, Value> = folder::json(directory, "tokenizer_config.json")?.unwrap_or_default();
    let generation: Map<String, Value> = folder::json(directory, "generation_config.json")?.unwrap_or_default();
    let words = document.words()?;
    let kind = if words.is_some() { Kind::ByteLevel } else { Kind::SentencePiece };
    let (tokens, roles) = document.tokens(kind, rows)?;
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let named = |name: &str| token(&settings, name).and_then(|token| ids.get(token).copied());
    let stated = |name: &'static str| [config, &generation].into_iter().flat_map(move |fields| listed(fields, name));

    let bos = named("bos_token").or_else(|| stated("bos_token_id").next());
    let eos = named("eos_token").or_else(|| stated("eos_token_id").next());
    let eos = eos.ok_or("neither tokenizer_config.json nor config.json names a token that ends texts")?;
    let unknown = named("unk_token").or_else(|| ids.get(document.unknown()?).copied());
    let around = |id: Option<usize>| id.and_then(|id| tokens.get(id)).map(|token| document.stands_around(token));
    let adds = |name: &str| settings.get(name).and_then(Value::as_bool);
    let adds_bos = around(bos).is_some_and(|(before, _)| adds("add_bos_token").unwrap_or(before));
    let adds_eos = around(Some(eos)).is_some_and(|(_, behind)| adds("add_eos_token").unwrap_or(behind));

    let mut entries = vec![
        ("ggml.add_bos_token", Entry::Flag(adds_bos)),
        ("ggml.add_eos_token", Entry::Flag(adds_eos)),
        ("ggml.token_type", Entry::Wholes(roles.iter().map(|role| role.number()).collect())),
    ];
    for (key, id) in [
        ("ggml.bos_token_id", bos),
        ("ggml.eos_token_id", Some(eos)),
        ("ggml.eot_token_id", stated("eos_token_id").find(|&end| end != eos)),
        ("ggml.padding_token_id", named("pad_token")),
        ("ggml.unknown_token_id", unknown),
    ] {
        entries.extend(id.filter(|&id| id < rows).map(|id| (key, Entry::Whole(id as u32))));
    }
    let text = |text: &str| Entry::Text(text.to_owned());
    if let Some(words) = words {
        entries.push(("ggml.model", text("gpt2")));
        entries.push(("ggml.pre", text(words.name())));
        entries.push(("ggml.merges", Entry::Texts(document.merges())));
    } else {
        entries.push(("ggml.model", text("llama")));
        entries.push(("ggml.pre", text("default")));
        entries.push(("ggml.add_space_prefix", Entry::Flag(document.puts_space())));
        entries.push(("ggml.scores", Entry::Numbers(document.scores(&ids, rows))));
    }
    entries.push(("ggml.tokens", Entry::Texts(tokens)));
    entries.extend(chat_template(directory, &settings)?.map(|template| ("chat_template", Entry::Text(template))));
    Ok(entries.into_iter().map(|(key, entry)| (format!("tokenizer.{key}"), entry)).collect())
}

/// A token that `tokenizer_config.json` names, by itself or with how it is found.
fn token<'a>(settings: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let token = settings.get(name)?;
    token.as_str().or_else(|| token["content"].as_str())
}

/// The ids in a field that has one or several.
fn listed<'a>(fields: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = usize> + use<'a> {
    let ids = fields.get(name).map_or(&[][..], |ids| ids.as_array().map_or(std::slice::from_ref(ids), |ids| ids));
    ids.iter().filter_map(Value::as_u64).map(|id| id as usize)
}

/// The template of conversations: a file of its own, or as before Transformers 4.50 in `tokenizer_config.json`.
fn chat_template(directory: &Path, settings: &Map<String, Value>) -> Result<Option<String>, String> {
    if let Some(template) = folder::text(directory, "chat_template.jinja")? {
        return Ok(Some(template));
    }
    let Some(template) = settings.get("chat_template") else { return Ok(None) };
    let default = || template.as_array()?.iter().find(|template| template["name"] == "default")?["template"].as_str();
    Ok(template.as_str().or_else(default).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::gguf::encode::Entry::{Flag, Text, Whole};

    /// The entries of a folder with these files besides a small `tokenizer.json`.
    fn read(files: &[(&str, Value)]) -> Result<HashMap<String, Entry>, String> {
        let directory = tempfile::tempdir().unwrap();
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
        let vocab = json!({"a": 0, "<end>": 1, "<turn>": 2, "<begin>": 3});
        let tokenizer = json!({"pre_tokenizer": bytes, "model": {"type": "BPE", "vocab": vocab, "merges": []}});
        fs::write(directory.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let mut config = Map::new();
        for (name, content) in files {
            match content {
                Value::Object(fields) if *name == "config.json" => config = fields.clone(),
                Value::String(text) => fs::write(directory.path().join(name), text).unwrap(),
                content => fs::write(directory.path().join(name), content.to_string()).unwrap(),
            }
        }
        Ok(entries(directory.path(), &config, 4)?.into_iter().collect())
    }

    #[test]
    fn special_tokens_are_those_that_the_files_name() {
        let settings = json!({"eos_token": {"content": "<end>"}, "bos_token": "<begin>", "add_bos_token": true});
        let generation = json!({"eos_token_id": [1, 2]});
        let entries = read(&[("tokenizer_config.json", settings), ("generation_config.json", generation)]).unwrap();
        assert_eq!(entries["tokenizer.ggml.eos_token_id"], Whole(1));
        assert_eq!(entries["tokenizer.ggml.eot_token_id"], Whole(2));
        assert_eq!(entries["tokenizer.ggml.bos_token_id"], Whole(3));
        assert_eq!(entries["tokenizer.ggml.add_bos_token"], Flag(true));
        assert_eq!(entries["tokenizer.ggml.add_eos_token"], Flag(false));
        assert_eq!(entries["tokenizer.ggml.pre"], Text("gpt-2".to_owned()));
        assert!(!entries.contains_key("tokenizer.ggml.padding_token_id"));
    }

    #[test]
    fn config_json_names_the_ends_where_the_tokenizer_does_not() {
        let entries = read(&[("config.json", json!({"eos_token_id": [2, 1], "bos_token_id": null}))]).unwrap();
        assert_eq!(entries["tokenizer.ggml.eos_token_id"], Whole(2));
        assert_eq!(entries["tokenizer.ggml.eot_token_id"], Whole(1));
        assert!(!entries.contains_key("tokenizer.ggml.bos_token_id"));
        let refused = read(&[]).unwrap_err();
        assert_eq!(refused, "neither tokenizer_config.json nor config.json names a token that ends texts");
    }

    #[test]
    fn the_template_is_found_in_its_file_and_where_it_was_before() {
        let end = ("config.json", json!({"eos_token_id": 1}));
        let template = |files: &[(&str, Value)]| read(files).unwrap().get("tokenizer.chat_template").cloned();
        let old = ("tokenizer_config.json", json!({"chat_template": [{"name": "default", "template": "old"}]}));
        assert_eq!(template(std::slice::from_ref(&end)), None);
        assert_eq!(template(&[end.clone(), old.clone()]), Some(Text("old".to_owned())));
        assert_eq!(template(&[end, old, ("chat_template.jinja", json!("new"))]), Some(Text("new".to_owned())));
    }
}
