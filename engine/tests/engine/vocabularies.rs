//! `tokenizer.json` built from older files, against Transformers' classes: `tests/golden/vocabularies.py` makes the values.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use finetuned_engine::text::{TextTokenizer, build_missing};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::support::golden_path;

#[derive(serde::Deserialize)]
struct Golden {
    texts: Vec<String>,
    pairs: Vec<(String, String)>,
    cases: BTreeMap<String, Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    class: String,
    files: BTreeMap<String, String>,
    tokenizer: Value,
    ids: Vec<Vec<u32>>,
    pair_ids: Vec<Vec<u32>>,
}

fn golden() -> Golden {
    serde_json::from_slice(&fs::read(golden_path("vocabularies.json")).unwrap()).unwrap()
}

fn folder_of(case: &Case) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in &case.files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn built(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap()
}

#[test]
fn what_is_built_is_what_transformers_builds() {
    let golden = golden();
    assert_eq!(golden.cases.len(), 10);
    for (name, case) in &golden.cases {
        let folder = folder_of(case);
        let note = build_missing(folder.path(), None, &case.class).unwrap().unwrap();
        assert!(note.contains(&format!("as Transformers' {} does", case.class)), "{name}: {note}");
        let mut json = built(folder.path());
        let model = json["model"].as_object_mut().unwrap();
        model.remove("vocab");
        model.remove("merges");
        assert_eq!(json, case.tokenizer, "{name}");
        let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
        for (text, expected) in golden.texts.iter().zip(&case.ids) {
            assert_eq!(tokenizer.encode(text.as_str(), true).unwrap().get_ids(), expected, "{name}: {text:?}");
        }
        for ((text, pair), expected) in golden.pairs.iter().zip(&case.pair_ids) {
            let encoded = tokenizer.encode((text.as_str(), pair.as_str()), true).unwrap();
            assert_eq!(encoded.get_ids(), expected, "{name}: {text:?}, {pair:?}");
        }
        let again = build_missing(folder.path(), None, &case.class).unwrap();
        assert_eq!(again, None, "{name}: it is there now");
        assert!(TextTokenizer::open(folder.path(), 16, 4096).is_ok(), "{name}");
    }
}

#[test]
fn what_is_built_says_whether_case_counts() {
    let golden = golden();
    for (name, said) in [
        ("bert", "vocab.txt (in lower case, since tokenizer_config.json does not say do_lower_case)"),
        ("bert_cased", "vocab.txt (with upper and lower case)"),
        ("distilbert", "vocab.txt (in lower case)"),
        ("roberta", "vocab.json and merges.txt, as"),
    ] {
        let case = &golden.cases[name];
        let note = build_missing(folder_of(case).path(), None, &case.class).unwrap().unwrap();
        assert!(note.contains(said), "{name}: {note}");
    }
}

#[test]
fn marks_of_editors_before_the_files_are_passed_over() {
    let golden = golden();
    for name in ["bert_special", "roberta"] {
        let case = &golden.cases[name];
        let (plain, marked) = (folder_of(case), folder_of(case));
        for (file, content) in &case.files {
            fs::write(marked.path().join(file), format!("\u{feff}{content}")).unwrap();
        }
        for folder in [&plain, &marked] {
            build_missing(folder.path(), None, &case.class).unwrap().unwrap();
        }
        assert_eq!(built(marked.path()), built(plain.path()), "{name}");
    }
}

#[test]
fn the_class_is_the_one_that_the_files_name() {
    let golden = golden();
    let case = &golden.cases["bert"];
    let build = |config: Option<Value>, configured: Option<&str>, usual: &str| {
        let folder = folder_of(case);
        if let Some(config) = config {
            fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        }
        build_missing(folder.path(), configured, usual).map_err(|error| error.to_string())
    };
    assert!(build(Some(json!({"tokenizer_class": "BertTokenizerFast"})), Some("X"), "Y").is_ok());
    assert!(build(None, Some("DistilBertTokenizer"), "Y").is_ok());
    for (config, configured, usual, named) in [
        (Some(json!({"tokenizer_class": "BertJapaneseTokenizer"})), None, "BertTokenizer", "BertJapaneseTokenizer"),
        (None, Some("BertweetTokenizer"), "BertTokenizer", "BertweetTokenizer"),
        (None, None, "XLMRobertaTokenizer", "XLMRobertaTokenizer"),
        (None, None, "RobertaTokenizer", "RobertaTokenizer"),
    ] {
        let why = build(config, configured, usual).unwrap_err();
        let built = "from vocab.txt one is built for BertTokenizer, DistilBertTokenizer, MPNetTokenizer";
        assert!(why.contains(&format!("{built}, not for {named}; Transformers writes one")), "{why}");
    }
}

#[test]
fn broken_files_are_named() {
    let golden = golden();
    for (name, file, content, said) in [
        ("bert", "vocab.txt", "a\nb\n".as_bytes(), "vocab.txt has no \"[UNK]\", which is the unk_token"),
        ("bert", "vocab.txt", b"[UNK]\n[CLS]\n", "vocab.txt has no \"[SEP]\", which is the sep_token"),
        ("bert", "vocab.txt", b"\xff\xfe", "vocab.txt: "),
        ("bert", "tokenizer_config.json", b"{", "tokenizer_config.json: EOF"),
        ("bert", "tokenizer_config.json", b"{\"do_lower_case\": 1}", "do_lower_case is 1; supported: true, false"),
        ("bert", "tokenizer_config.json", b"{\"added_tokens_decoder\": {\"x\": {}}}", "\"x\" is no token id"),
        ("bert", "tokenizer_config.json", b"{\"added_tokens_decoder\": {\"1\": 5}}", "5 is no token"),
        ("bert", "added_tokens.json", b"{\"a\": \"b\"}", "added_tokens.json: the id of \"a\" is \"b\""),
        ("bert", "special_tokens_map.json", b"[]", "special_tokens_map.json: "),
        ("roberta", "vocab.json", b"{\"a\": -1}", "vocab.json: "),
        ("roberta", "merges.txt", b"#version: 0.2\na b\na b c\n", "merges.txt: line 3: must be two tokens"),
        ("roberta", "merges.txt", "\u{1F600} a\n".as_bytes(), "merges.txt: "),
    ] {
        let case = &golden.cases[name];
        let folder = folder_of(case);
        fs::write(folder.path().join(file), content).unwrap();
        let why = build_missing(folder.path(), None, &case.class).unwrap_err().to_string();
        assert!(why.contains(said), "{file}: {why}");
        assert!(!folder.path().join("tokenizer.json").exists(), "{file}");
    }
}
