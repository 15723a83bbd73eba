//! Chat templates of eleven families against Transformers: texts, spans and masks (`golden/chat_templates.py`).

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use finetuned::domain::chat::Conversation;
use finetuned_engine::text::chat::{ChatTemplate, Rendered};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokenizers::Tokenizer;

#[derive(Deserialize)]
struct Golden {
    now: i64,
    conversations: BTreeMap<String, Conversation>,
    families: BTreeMap<String, Family>,
}

#[derive(Deserialize)]
struct Family {
    template: String,
    marked: String,
    tokens: Value,
    /// By the conversation's title; None where the template refuses it.
    rows: BTreeMap<String, Option<Row>>,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    /// Characters of the text that it shares with the one that prompts for an answer, and the rest of that.
    prompted: (usize, String),
    /// Messages, and the characters of the text that are theirs.
    spans: Vec<(usize, usize, usize)>,
}

fn golden<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn open(template: &str, tokens: &Value, now: i64) -> ChatTemplate {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { directory.path().join(name) };
    std::fs::write(file("chat_template.jinja"), template).unwrap();
    std::fs::write(file("tokenizer_config.json"), tokens.to_string()).unwrap();
    ChatTemplate::open_at(directory.path(), now).unwrap().unwrap()
}

/// Spans as Transformers counts them.
fn in_characters(rendered: &Rendered) -> Vec<(usize, usize, usize)> {
    let count = |byte: usize| rendered.text[..byte].chars().count();
    let spans = rendered.spans.iter().filter(|span| !span.range.is_empty());
    spans.map(|span| (span.message, count(span.range.start), count(span.range.end))).collect()
}

#[test]
fn texts_are_those_of_transformers() {
    let golden: Golden = golden("chat_templates.json");
    for (name, family) in &golden.families {
        let template = open(&family.template, &family.tokens, golden.now);
        for (title, row) in &family.rows {
            let conversation = &golden.conversations[title];
            let (text, prompted) = (template.render(conversation, false), template.render(conversation, true));
            match row {
                None => assert!(text.is_err() && prompted.is_err(), "{name}, {title}: {text:?}"),
                Some(row) => {
                    assert_eq!(text.unwrap(), row.text, "{name}, {title}");
                    let expected: String =
                        row.text.chars().take(row.prompted.0).chain(row.prompted.1.chars()).collect();
                    assert_eq!(prompted.unwrap(), expected, "{name}, {title}");
                }
            }
        }
    }
}

#[test]
fn spans_are_what_marks_by_hand_say() {
    let golden: Golden = golden("chat_templates.json");
    for (name, family) in &golden.families {
        for source in [&family.template, &family.marked] {
            let template = open(source, &family.tokens, golden.now);
            for (title, row) in &family.rows {
                let rendered = template.rendered(&golden.conversations[title]);
                let Some(row) = row else {
                    assert!(rendered.is_err(), "{name}, {title}: {rendered:?}");
                    continue;
                };
                let rendered = rendered.unwrap();
                assert_eq!(rendered.text, row.text, "{name}, {title}");
                assert_eq!(in_characters(&rendered), row.spans, "{name}, {title}");
            }
        }
    }
}

#[derive(Deserialize)]
struct GoldenTokens {
    template: String,
    bare: String,
    tokenizers: BTreeMap<String, Tokenized>,
}

/// A conversation, whether the bare template is meant, ids, and a mask, where Transformers makes one.
type Tokens = (String, bool, Vec<u32>, Option<Vec<u8>>);

#[derive(Deserialize)]
struct Tokenized {
    tokenizer: Value,
    rows: Vec<Tokens>,
}

#[test]
fn masks_are_those_of_transformers() {
    let conversations = golden::<Golden>("chat_templates.json").conversations;
    let golden: GoldenTokens = golden("chat_tokens.json");
    let [template, bare] = [&golden.template, &golden.bare].map(|source| open(source, &Value::Object(Map::new()), 0));
    for (name, Tokenized { tokenizer, rows }) in &golden.tokenizers {
        let tokenizer = Tokenizer::from_bytes(tokenizer.to_string()).unwrap();
        for (title, is_bare, ids, mask) in rows {
            let template = if *is_bare { &bare } else { &template };
            let rendered = template.rendered(&conversations[title]).unwrap();
            let (made, learned): (Vec<u32>, Vec<bool>) =
                rendered.tokens(&tokenizer, |_| true).unwrap().into_iter().unzip();
            assert_eq!(made, *ids, "{name}, {title}, {is_bare}");
            match mask {
                Some(mask) => {
                    let mask: Vec<bool> = mask.iter().map(|&mask| mask == 1).collect();
                    assert_eq!(learned, mask, "{name}, {title}, {is_bare}");
                }
                None => {
                    assert!(learned.contains(&true), "a turn is learned whatever the tokenizer leaves out");
                }
            }
            let none = rendered.tokens(&tokenizer, |_| false).unwrap();
            assert!(none.iter().all(|(_, is_learned)| !is_learned));
        }
    }
}
