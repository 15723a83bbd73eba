//! The model card and the manifest of a finished model.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::files::{hashes_below, sync_tree, write_json};
use super::markdown::{block, code, yaml};
use crate::error::{EngineError, Result};
use finetuned::domain::hyperparameters::definitions;
use finetuned::domain::method::Description;
use finetuned::domain::method::language::{self, ExportForm};
use finetuned::domain::run::RunSpec;

/// Writes `README.md` (the model card) and, last of all, `manifest.json` with the hash of every other file.
pub fn write_card_and_manifest(directory: &Path, spec: &RunSpec, evaluation: &Value) -> Result<()> {
    let path = directory.join("README.md");
    fs::write(&path, model_card(spec, evaluation)).map_err(EngineError::io(&path))?;
    let files = hashes_below(directory)?;
    let manifest = json!({
        "format": 1,
        "producer": format!("finetuned {}", env!("CARGO_PKG_VERSION")),
        "job": spec.job,
        "base_model": spec.model_name,
        "method": spec.method,
        "seed": spec.seed,
        "hyperparameters": hyperparameters(spec),
        "data": data_hashes(spec),
        "files": files,
    });
    write_json(&directory.join("manifest.json"), &manifest)?;
    sync_tree(directory)
}

fn data_hashes(spec: &RunSpec) -> Value {
    let mut hashes = Map::new();
    for (name, file) in [("training", &spec.training), ("validation", &spec.validation), ("test", &spec.test)] {
        if let Some(file) = file {
            hashes.insert(name.to_owned(), json!(file.sha256));
        }
    }
    Value::Object(hashes)
}

fn model_card(spec: &RunSpec, evaluation: &Value) -> String {
    let Description { library, pipeline, loaders } = spec.method.card().description;
    let labels = if spec.labels.is_empty() {
        String::new()
    } else {
        let list: Vec<String> = spec.labels.iter().map(|label| format!("- {}", code(label))).collect();
        format!("## Labels\n\n{}\n\n", list.join("\n"))
    };
    let (loaders, more) = forms(spec, loaders);
    format!(
        "---\nlibrary_name: {library}\npipeline_tag: {pipeline}\nbase_model: {yaml_base}\ntags:\n- finetuned\n---\n\n\
         # {method} model fine-tuned from {base}\n\n\
         Made by finetuned {version}, job {job}. It loads with {loaders} on this directory.\n\n{more}{labels}\
         ## Evaluation\n\n{evaluation}\n\n\
         `evaluation/` holds the whole reports and every prediction, on the test file where one was given, and on the \
         validation data.\n\n\
         ## Training\n\nSHA-256 of the data files, and the hyperparameters (seed {seed}):\n\n{data}\n\n\
         {hyperparameters}\n",
        yaml_base = yaml(&spec.model_name),
        base = code(&spec.model_name),
        method = spec.method,
        version = env!("CARGO_PKG_VERSION"),
        job = code(&spec.job),
        evaluation = json_block(evaluation),
        seed = spec.seed,
        data = json_block(&data_hashes(spec)),
        hyperparameters = json_block(&hyperparameters(spec)),
    )
}

/// What loads the model, in Markdown, and what lies beside or in place of its weights.
fn forms(spec: &RunSpec, loaders: &'static str) -> (&'static str, &'static str) {
    let export = language::kept(&spec.hyperparameters.own).map(|kept| kept.export);
    let has_adapter = spec.hyperparameters.tuning.adapter.lora().is_some();
    match export.unwrap_or(ExportForm::Both) {
        ExportForm::Adapter => (
            "`PeftModel.from_pretrained` of its base model and `adapter/`",
            "The base model's weights are not here: `adapter/` holds what was trained, for PEFT and vLLM.\n\n",
        ),
        ExportForm::Both if has_adapter => {
            (loaders, "`adapter/` holds the adapter alone, for PEFT; it is merged into the weights here.\n\n")
        }
        ExportForm::Gguf if has_adapter => (
            loaders,
            "`adapter/` holds the adapter alone, for PEFT; it is merged into the weights here, and in the GGUF file for \
             llama.cpp and Ollama.\n\n",
        ),
        ExportForm::Gguf => (loaders, "The GGUF file is the same model for llama.cpp and Ollama.\n\n"),
        ExportForm::Both | ExportForm::Merged => (loaders, ""),
    }
}

/// The hyperparameters that the method has.
fn hyperparameters(spec: &RunSpec) -> Map<String, Value> {
    let Ok(Value::Object(mut values)) = serde_json::to_value(&spec.hyperparameters) else { return Map::new() };
    values.retain(|name, _| definitions(spec.method).any(|definition| definition.name == name));
    values
}

fn json_block(value: &impl Serialize) -> String {
    block("json", &serde_json::to_string_pretty(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pulldown_cmark::{Event, HeadingLevel, Parser, Tag, TagEnd};
    use serde_json::{Value, json};

    use super::{RunSpec, model_card};

    /// What readers of Markdown, HTML and YAML might take for more than a word.
    const WORDS: [&str; 20] = [
        "plain words",
        "| a | b |",
        "# heading",
        "<script>alert(1)</script>",
        "<!-- comment",
        "[x](javascript:alert(1))",
        "![x](https://example.org/pixel.png)",
        "<https://example.org>",
        "https://example.org",
        "```",
        "`` ` ``",
        "~~~",
        "---",
        "- item",
        "1. item",
        "    indented",
        "*a* _b_ ~~c~~ &amp; \\",
        "two\n\n# lines\r\nand\u{2028}more",
        "\u{202E}turned",
        " ",
    ];

    fn card(name: &str, labels: &[&str], evaluation: &Value) -> String {
        let text = include_str!("../../../tests/fixtures/run_spec_v1.json");
        let mut spec: RunSpec = serde_json::from_str(text).unwrap();
        spec.model_name = name.to_owned();
        spec.labels = labels.iter().map(|&label| label.to_owned()).collect();
        spec.model = PathBuf::from("model");
        model_card(&spec, evaluation)
    }

    /// The card's markup without words: what begins and ends, and how often.
    fn markup(markdown: &str) -> Vec<String> {
        let events = Parser::new(markdown).filter_map(|event| match event {
            Event::Start(tag) => Some(format!("{tag:?}")),
            Event::Html(html) | Event::InlineHtml(html) => Some(format!("HTML {html}")),
            Event::Rule => Some("rule".to_owned()),
            _ => None,
        });
        events.collect()
    }

    fn body(card: &str) -> &str {
        card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap().1
    }

    #[test]
    fn labels_and_names_are_never_markup() {
        let plain = card("model", &["label"; WORDS.len()], &json!({"label": 1}));
        for name in ["a: b", "- x", "null", "1e5", "x\n---\n<b>", "`", "\"", "{x}", "#x"].into_iter().chain(WORDS) {
            let evaluation: Value = WORDS.iter().map(|&word| (word.to_owned(), json!({word: word}))).collect();
            let card = card(name, &WORDS, &evaluation);
            assert_eq!(markup(body(&card)), markup(body(&plain)), "{card}");
            let front = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap().0;
            let base: Vec<&str> = front.lines().filter_map(|line| line.strip_prefix("base_model: ")).collect();
            assert_eq!(base.len(), 1, "{front}");
            assert_eq!(serde_json::from_str::<String>(base[0]).unwrap(), name);
            assert_eq!(front.lines().count(), 5, "{front}");
        }
    }

    #[test]
    fn each_label_is_shown_as_it_is() {
        let card = card("model", &WORDS, &json!({}));
        let (mut items, mut in_item) = (Vec::new(), false);
        for event in Parser::new(body(&card)) {
            match event {
                Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }) | Event::End(TagEnd::Item) => {
                    in_item = false;
                }
                Event::Start(Tag::Item) => in_item = true,
                Event::Code(text) | Event::Text(text) if in_item => items.push(text.to_string()),
                _ => {}
            }
        }
        let mut expected = WORDS.map(str::to_owned);
        expected[17] = "two\\n\\n# lines\\r\\nand\\u{2028}more".to_owned();
        expected[18] = "\\u{202e}turned".to_owned();
        assert_eq!(items, expected);
    }
}
