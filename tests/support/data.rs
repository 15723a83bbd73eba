//! Small data files and the tiny base model.

use std::path::{Path, PathBuf};

/// A BERT of two layers, 32 wide, with random weights; its vocabulary fits the texts below.
pub fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/golden/tiny-bert")
}

/// What the trainer says of the tiny model, for stand-ins that must say it, too.
pub const TINY_CHECKED: &str = concat!(
    r#"{"trainable":{"family":"bert","facts":{"backbone":"text_encoder","hidden_size":32,"max_positions":64,"layers":2,"#,
    r#""intermediate_size":64,"parameters":24160,"vocab_size":120,"image_size":0,"values_per_image":0}}}"#
);

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
