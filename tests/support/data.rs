//! Small data files and the tiny base model.

use std::path::{Path, PathBuf};

/// A BERT of two layers, 32 wide, with random weights; its vocabulary fits the texts below.
pub fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/golden/tiny-bert")
}

/// What the trainer says of the tiny model, for stand-ins that must say it, too.
pub const TINY_CHECKED: &str = concat!(
    r#"{"trainable":{"family":"bert","facts":{"backbone":"text_encoder","hidden_size":32,"max_positions":64,"layers":2,"#,
    r#""intermediate_size":64,"parameters":24160,"vocab_size":120,"image_size":0,"values_per_image":0,"#,
    r#""linear_layers":["dense","key","query","value"],"#,
    r#""notes":["sentence embeddings are the mean over all tokens, normalised, since it has no modules.json that says otherwise"]}}}"#
);

/// A copy of the tiny model in `folder`.
pub fn copy_of_tiny(folder: &Path) -> PathBuf {
    let copy = folder.join("model");
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(tiny_model()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    copy
}

/// Puts what `vocab.txt` says in place of a copy's `tokenizer.json`, which it returns.
pub fn to_vocabulary(copy: &Path) -> serde_json::Value {
    let path = copy.join("tokenizer.json");
    let tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
    let mut words: Vec<(&String, u64)> = vocabulary.iter().map(|(word, id)| (word, id.as_u64().unwrap())).collect();
    words.sort_by_key(|(_, id)| *id);
    let lines: String = words.iter().map(|(word, _)| format!("{word}\n")).collect();
    std::fs::write(copy.join("vocab.txt"), lines).unwrap();
    std::fs::write(copy.join("tokenizer_config.json"), r#"{"tokenizer_class": "BertTokenizer"}"#).unwrap();
    std::fs::remove_file(path).unwrap();
    tokenizer
}

/// Makes a copy one of sentence-transformers: with this pooling, and not normalised.
pub fn to_sentence_transformer(copy: &Path, pooling: &serde_json::Value, max_seq_length: u32) {
    let module = |place: usize, path: &str, class: &str| {
        let class = format!("sentence_transformers.models.{class}");
        serde_json::json!({"idx": place, "name": place.to_string(), "path": path, "type": class})
    };
    let modules = serde_json::json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")]);
    std::fs::create_dir_all(copy.join("1_Pooling")).unwrap();
    std::fs::write(copy.join("modules.json"), modules.to_string()).unwrap();
    std::fs::write(copy.join("1_Pooling/config.json"), pooling.to_string()).unwrap();
    let transformer = serde_json::json!({"max_seq_length": max_seq_length});
    std::fs::write(copy.join("sentence_bert_config.json"), transformer.to_string()).unwrap();
}

const TOPICS: [(&str, [&str; 3]); 3] = [
    ("card", ["where is my new card", "has my card come", "how do i get a card"]),
    ("rate", ["the exchange rate was wrong", "what rate", "why the wrong rate"]),
    ("top up", ["top up failed", "my top up failed now", "please cancel the top up"]),
];

/// Texts and labels, `count` of them, the labels in turn.
pub fn rows(count: usize) -> Vec<(String, &'static str)> {
    let endings = ["", "?", " please", " now", " account", " money back"];
    (0..count)
        .map(|i| {
            let (label, texts) = TOPICS[i % TOPICS.len()];
            let round = i / TOPICS.len();
            (format!("{}{}", texts[round % texts.len()], endings[round / texts.len() % endings.len()]), label)
        })
        .collect()
}

/// A CSV file of `count` rows.
pub fn csv(count: usize) -> String {
    let lines: String = rows(count).into_iter().map(|(text, label)| format!("{text},{label}\n")).collect();
    format!("text,label\n{lines}")
}

/// The same rows as lines of JSON.
pub fn jsonl(count: usize) -> String {
    rows(count)
        .into_iter()
        .map(|(text, label)| format!("{}\n", serde_json::json!({"text": text, "label": label})))
        .collect()
}
