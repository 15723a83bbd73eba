//! What stands around the model in `tokenizer.json`: tokens that are found before a text is split, what is done to
//! texts first, what stands around them, how tokens become text again.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::tokenizer::Tokenizer;
use super::vocabulary::{Role, has_spaces};

/// A token and its id.
type Token<'a> = (&'a str, usize);

impl Tokenizer<'_> {
    /// The field `added_tokens`: tokens that are found in a text before it is split.
    pub(super) fn added_tokens(&self) -> Vec<Value> {
        let is_found = |&(_, token, role): &(usize, &str, Role)| match role {
            Role::Control | Role::Unknown => true,
            // Spaces are no longer spaces when sentencepiece's tokens are found.
            Role::UserDefined => self.words.is_some() || !has_spaces(token),
            _ => false,
        };
        let added = |(id, token, role): (usize, &str, Role)| {
            json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": self.takes_spaces_behind(token, role),
                "normalized": false,
                "special": role != Role::UserDefined,
            })
        };
        self.vocabulary.entries().filter(is_found).map(added).collect()
    }

    /// Phi 3's marks of turns take the spaces behind them, which GGUF files do not say.
    fn takes_spaces_behind(&self, token: &str, role: Role) -> bool {
        let is_mark = match token {
            "</s>" => true,
            "<unk>" | "<s>" | "<|endoftext|>" => false,
            _ => role == Role::Control,
        };
        is_mark && self.is_phi3 && self.words.is_none()
    }

    /// The token that texts begin with, if they do.
    pub(super) fn bos(&self) -> Option<Token<'_>> {
        let default = self.words.is_none_or(|words| words.ignores_merges);
        let id = self.vocabulary.special.bos.filter(|_| self.vocabulary.adds_bos.unwrap_or(default))?;
        Some((self.vocabulary.token(Some(id))?, id))
    }

    /// The token that texts end with, if they do.
    pub(super) fn eos(&self) -> Option<Token<'_>> {
        let id = self.vocabulary.special.eos.filter(|_| self.vocabulary.adds_eos.unwrap_or(false))?;
        Some((self.vocabulary.token(Some(id))?, id))
    }

    /// The field `normalizer`.
    pub(super) fn normalizer(&self) -> Value {
        let Some(words) = self.words else {
            let mut parts = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
            if self.puts_space() {
                parts.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
            }
            return json!({"type": "Sequence", "normalizers": parts});
        };
        words.normalizer()
    }

    /// The field `decoder`.
    pub(super) fn decoder(&self) -> Value {
        if self.words.is_some() {
            return byte_level();
        }
        let mut parts = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.puts_space() {
            parts.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": parts})
    }

    /// Whether sentencepiece puts a space before a text.
    fn puts_space(&self) -> bool {
        self.vocabulary.adds_space.unwrap_or(true)
    }

    /// The field `post_processor`.
    pub(super) fn post_processor(&self) -> Value {
        let (bos, eos) = (self.bos(), self.eos());
        if bos.is_none() && eos.is_none() {
            return if self.words.is_some() { byte_level() } else { Value::Null };
        }
        let special = |token: Option<Token>, kind: u8| {
            token.map(|(token, _)| json!({"SpecialToken": {"id": token, "type_id": kind}}))
        };
        let around = |text: &str, kind: u8| -> Vec<Value> {
            let text = json!({"Sequence": {"id": text, "type_id": kind}});
            special(bos, kind).into_iter().chain([text]).chain(special(eos, kind)).collect()
        };
        let token = |(token, id): Token| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}));
        let tokens: HashMap<String, Value> = bos.into_iter().chain(eos).map(token).collect();
        let pair = [around("A", 0), around("B", 1)].concat();
        json!({
            "type": "TemplateProcessing",
            "single": around("A", 0),
            "pair": pair,
            "special_tokens": tokens,
        })
    }
}

/// Bytes as GPT-2 writes them, between tokens and texts.
fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true})
}
