//! `tokenizer.json` of a folder, as far as it is exported to GGUF files.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::vocabulary::{Kind, Role};
use super::words::Words;

/// `tokenizer.json`.
#[derive(Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: usize,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    /// Old files leave it out for BPE.
    r#type: Option<String>,
    unk_token: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: Value,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// A merge, as it is written now and as it was.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

impl Document {
    /// How texts are split, of byte-level BPE; None if the tokenizer is one of sentencepiece.
    ///
    /// # Errors
    /// It is one that llama.cpp does not have.
    pub(super) fn words(&self) -> Result<Option<&'static Words>, String> {
        if let Some(kind) = self.model.r#type.as_ref().filter(|&kind| kind != "BPE") {
            return Err(format!("tokenizer.json holds a model of the type {kind}; BPE alone is exported as GGUF"));
        }
        let is_sentence_piece = self.model.byte_fallback;
        let is_known = |part: &&Value| match part["type"].as_str() {
            Some("Prepend") => is_sentence_piece,
            Some("Replace") => is_sentence_piece && part["pattern"]["String"] == " " && part["content"] == "▁",
            // llama.cpp leaves it out, of Qwen's tokenizers too.
            Some("NFC") => !is_sentence_piece,
            Some(_) => false,
            None => true,
        };
        if let Some(part) = parts(&self.normalizer, "normalizers").iter().find(|part| !is_known(part)) {
            let kind = &part["type"];
            return Err(format!("tokenizer.json changes texts by {kind}, which llama.cpp does not have"));
        }
        if is_sentence_piece {
            return Ok(None);
        }
        let words = Words::recognised(&self.pre_tokenizer, self.model.ignore_merges);
        let unknown = || "tokenizer.json splits texts into words in a way that llama.cpp has no name for".to_owned();
        words.map(Some).ok_or_else(unknown)
    }

    /// The token of each row of an embedding, and what it is for.
    ///
    /// # Errors
    /// A token has no row.
    pub(super) fn tokens(&self, kind: Kind, rows: usize) -> Result<(Vec<String>, Vec<Role>), String> {
        let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
        let mut roles = vec![Role::Unused; rows];
        let mut put = |id: usize, token: String, role: Role| {
            let (Some(place), Some(place_role)) = (tokens.get_mut(id), roles.get_mut(id)) else {
                return Err(format!(
                    "tokenizer.json has the token {token:?} with the id {id}, where the model has {rows} embeddings"
                ));
            };
            (*place, *place_role) = (token, role);
            Ok(())
        };
        let is_sentence_piece = kind == Kind::SentencePiece;
        let is_unknown = |token: &String| is_sentence_piece && self.model.unk_token.as_ref() == Some(token);
        for (token, id) in self.model.vocab.as_object().ok_or("tokenizer.json does not have a vocabulary by token")? {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok()).unwrap_or(usize::MAX);
            let role = match token {
                token if is_unknown(token) => Role::Unknown,
                token if is_sentence_piece && is_byte(token) => Role::Byte,
                _ => Role::Normal,
            };
            put(id, token.clone(), role)?;
        }
        for Added { id, content, special } in &self.added_tokens {
            let role = match special {
                true if is_unknown(content) => Role::Unknown,
                true => Role::Control,
                false => Role::UserDefined,
            };
            // llama.cpp finds user-defined tokens in texts whose spaces are still spaces.
            let has_spaces = is_sentence_piece && role == Role::UserDefined;
            put(*id, if has_spaces { content.replace('▁', " ") } else { content.clone() }, role)?;
        }
        Ok((tokens, roles))
    }

    /// The merges, each as two tokens with a space between.
    pub(super) fn merges(&self) -> Vec<String> {
        let spaced = |merge: &Merge| match merge {
            Merge::Pair(left, right) => format!("{left} {right}"),
            Merge::Text(text) => text.clone(),
        };
        self.model.merges.iter().map(spaced).collect()
    }

    /// Scores that lead to the merges: the earlier a token is made, the higher.
    pub(super) fn scores(&self, ids: &HashMap<&str, usize>, rows: usize) -> Vec<f32> {
        let mut scores = vec![-(self.model.merges.len() as f32) - 1.0; rows];
        for (rank, merge) in self.model.merges.iter().enumerate().rev() {
            let made = match merge {
                Merge::Pair(left, right) => format!("{left}{right}"),
                Merge::Text(text) => text.replacen(' ', "", 1),
            };
            if let Some(score) = ids.get(made.as_str()).and_then(|&id| scores.get_mut(id)) {
                *score = -(rank as f32);
            }
        }
        scores
    }

    /// The token that stands for what is unknown.
    pub(super) fn unknown(&self) -> Option<&str> {
        self.model.unk_token.as_deref()
    }

    /// Whether a space is put before a text.
    pub(super) fn puts_space(&self) -> bool {
        let prepends = parts(&self.normalizer, "normalizers").iter().any(|part| part["type"] == "Prepend");
        let pre_tokenizers = parts(&self.pre_tokenizer, "pretokenizers");
        let metaspace = pre_tokenizers.iter().find(|part| part["type"] == "Metaspace");
        let is_prefixed = |part: &Value| match part["prepend_scheme"].as_str() {
            Some(scheme) => scheme != "never",
            None => part["add_prefix_space"].as_bool().unwrap_or(true),
        };
        prepends || metaspace.is_some_and(is_prefixed)
    }

    /// Whether a token stands before a text, and behind it.
    pub(super) fn stands_around(&self, token: &str) -> (bool, bool) {
        let template =
            parts(&self.post_processor, "processors").iter().find(|part| part["type"] == "TemplateProcessing");
        let Some(single) = template.and_then(|template| template["single"].as_array()) else { return (false, false) };
        let is_token = |part: Option<&Value>| part.is_some_and(|part| part["SpecialToken"]["id"] == token);
        (is_token(single.first()), is_token(single.last()))
    }
}

/// The parts of a sequence under `list`, or the only one.
fn parts<'a>(value: &'a Value, list: &str) -> &'a [Value] {
    value[list].as_array().map_or(std::slice::from_ref(value), |parts| parts)
}

/// Whether a token of sentencepiece stands for a byte, as `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|token| token.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(mut fields: Value, model: Value) -> Document {
        fields["model"] = model;
        serde_json::from_value(fields).unwrap()
    }

    fn sentence_piece() -> Document {
        let vocab = json!({"<unk>": 0, "<s>": 1, "<0x0A>": 2, "a": 3, "b": 4, "ab": 5, "▁▁": 6});
        let model = json!({
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": true,
            "vocab": vocab,
            "merges": [["▁", "▁"], ["a", "b"]],
        });
        let added = json!([
            {"id": 0, "content": "<unk>", "special": true},
            {"id": 1, "content": "<s>", "special": true},
            {"id": 6, "content": "▁▁", "special": false},
        ]);
        let template = json!([{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
        let fields = json!({
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]},
            "post_processor": {"type": "Sequence", "processors": [{"type": "TemplateProcessing", "single": template}]},
        });
        document(fields, model)
    }

    #[test]
    fn tokens_of_sentencepiece_have_roles_and_scores() {
        let document = sentence_piece();
        assert_eq!(document.words(), Ok(None));
        let (tokens, roles) = document.tokens(Kind::SentencePiece, 8).unwrap();
        assert_eq!(tokens, ["<unk>", "<s>", "<0x0A>", "a", "b", "ab", "  ", "[PAD7]"]);
        let expected = [
            Role::Unknown,
            Role::Control,
            Role::Byte,
            Role::Normal,
            Role::Normal,
            Role::Normal,
            Role::UserDefined,
            Role::Unused,
        ];
        assert_eq!(roles, expected);
        let ids = HashMap::from([("ab", 5), ("▁▁", 6)]);
        assert_eq!(document.scores(&ids, 7), [-3.0, -3.0, -3.0, -3.0, -3.0, -1.0, 0.0]);
        assert!(document.puts_space());
        assert_eq!(document.stands_around("<s>"), (true, false));
        let refused = document.tokens(Kind::SentencePiece, 6).unwrap_err();
        assert_eq!(refused, "tokenizer.json has the token \"▁▁\" with the id 6, where the model has 6 embeddings");
    }

    #[test]
    fn merges_are_read_in_both_spellings() {
        let model = json!({"vocab": {}, "merges": ["a b", ["c", "d"]]});
        assert_eq!(document(json!({}), model).merges(), ["a b", "c d"]);
    }

    #[test]
    fn what_llama_cpp_does_not_have_is_refused() {
        let refused = |fields: Value, model: Value| document(fields, model).words().unwrap_err();
        let unigram = refused(json!({}), json!({"type": "Unigram", "vocab": []}));
        assert_eq!(unigram, "tokenizer.json holds a model of the type Unigram; BPE alone is exported as GGUF");
        let lowered = refused(json!({"normalizer": {"type": "Lowercase"}}), json!({"vocab": {}}));
        assert_eq!(lowered, "tokenizer.json changes texts by \"Lowercase\", which llama.cpp does not have");
        let split = refused(json!({"pre_tokenizer": {"type": "Whitespace"}}), json!({"vocab": {}}));
        assert_eq!(split, "tokenizer.json splits texts into words in a way that llama.cpp has no name for");
    }
}
