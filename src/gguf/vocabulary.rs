//! The vocabulary of a GGUF file: its tokens, what they are for, and which of them begin and end texts (the keys
//! `tokenizer.ggml.*` of [gguf.md](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)).

use std::borrow::Cow;
use std::collections::HashMap;

use super::metadata::Metadata;

/// How texts become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// BPE on bytes, as GPT-2 has it.
    ByteLevel,
    /// BPE of sentencepiece, by scores.
    SentencePiece,
}

/// What a token is for (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Normal,
    Unknown,
    Control,
    UserDefined,
    /// Fills up the embedding.
    Unused,
    Byte,
}

impl Role {
    fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    /// Its number in files.
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }
}

/// Tokens with a meaning of their own, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Special {
    pub(super) bos: Option<usize>,
    pub(super) eos: Option<usize>,
    pub(super) unknown: Option<usize>,
    pub(super) padding: Option<usize>,
    /// Further tokens that end what a model says: of a turn, of a message.
    pub(super) ends: Vec<usize>,
}

/// The tokens of a file, by id.
pub(super) struct Vocabulary<'a> {
    pub(super) kind: Kind,
    pub(super) tokens: Vec<Cow<'a, str>>,
    pub(super) roles: Vec<Role>,
    pub(super) special: Special,
    /// Whether `bos` stands before texts, if the file says so; and `eos` behind them.
    pub(super) adds_bos: Option<bool>,
    pub(super) adds_eos: Option<bool>,
    /// Whether sentencepiece puts a space before texts.
    pub(super) adds_space: Option<bool>,
}

impl<'a> Vocabulary<'a> {
    /// Reads the vocabulary.
    ///
    /// # Errors
    /// There is none, it is of another kind, or its keys contradict each other.
    pub(super) fn read(metadata: Metadata<'a>) -> Result<Self, String> {
        let model = metadata.text("tokenizer.ggml.model")?;
        let kind = match model.ok_or("the GGUF file does not have the key tokenizer.ggml.model")? {
            "gpt2" => Kind::ByteLevel,
            "llama" => Kind::SentencePiece,
            other => {
                return Err(format!(
                    "the GGUF file has a tokenizer of the kind {other}, which is not supported; supported: gpt2 and \
                     llama"
                ));
            }
        };
        let tokens = metadata.texts("tokenizer.ggml.tokens")?;
        let tokens = tokens.ok_or("the GGUF file does not have the key tokenizer.ggml.tokens")?;
        let mut special = Special::read(metadata, kind, tokens.len())?;
        let roles = roles(metadata, tokens.len(), &special)?;
        // What the types of tokens say goes before what is usual.
        let is_control = |id: &usize| roles.get(*id) == Some(&Role::Control);
        for (key, id) in [("bos", &mut special.bos), ("eos", &mut special.eos)] {
            if !metadata.has(&format!("tokenizer.ggml.{key}_token_id")) {
                *id = id.filter(is_control);
            }
        }
        if !metadata.has("tokenizer.ggml.unknown_token_id") {
            special.unknown = roles.iter().position(|&role| role == Role::Unknown);
        }
        let named = |(id, token): (usize, &'a str)| match token {
            "" => Cow::Owned(format!("[EMPTY_{id}]")),
            token => Cow::Borrowed(token),
        };
        let mut vocabulary = Self {
            kind,
            tokens: tokens.into_iter().enumerate().map(named).collect(),
            roles,
            special,
            adds_bos: metadata.flag("tokenizer.ggml.add_bos_token")?,
            adds_eos: metadata.flag("tokenizer.ggml.add_eos_token")?,
            adds_space: metadata.flag("tokenizer.ggml.add_space_prefix")?,
        };
        if kind == Kind::SentencePiece {
            vocabulary.restore_spaces();
        }
        vocabulary.leave_out_padding();
        Ok(vocabulary)
    }

    /// The id of each token.
    ///
    /// # Errors
    /// A token is there twice.
    pub(super) fn ids(&self) -> Result<HashMap<&str, usize>, String> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(other) = ids.insert(token.as_ref(), id) {
                return Err(format!("the tokens {other} and {id} of the GGUF file are both {token:?}"));
            }
        }
        Ok(ids)
    }

    /// Each token with its id and what it is for.
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, &str, Role)> {
        self.tokens.iter().zip(&self.roles).enumerate().map(|(id, (token, &role))| (id, token.as_ref(), role))
    }

    pub(super) fn token(&self, id: Option<usize>) -> Option<&str> {
        self.tokens.get(id?).map(AsRef::as_ref)
    }

    /// llama.cpp writes the spaces of user-defined tokens as such; sentencepiece has `▁` for them.
    fn restore_spaces(&mut self) {
        for (token, role) in self.tokens.iter_mut().zip(&self.roles) {
            if *role == Role::UserDefined && token.contains(' ') {
                *token = Cow::Owned(token.replace(' ', "▁"));
            }
        }
    }

    /// Tokens that only fill up the embedding are none of Transformers' vocabulary.
    fn leave_out_padding(&mut self) {
        let used = self.roles.iter().rposition(|&role| role != Role::Unused).map_or(0, |last| last + 1);
        self.tokens.truncate(used);
        self.roles.truncate(used);
    }
}

/// Whether a token of sentencepiece stands for text with spaces.
pub(super) fn has_spaces(token: &str) -> bool {
    token.contains('▁')
}

impl Special {
    fn read(metadata: Metadata, kind: Kind, tokens: usize) -> Result<Self, String> {
        let id = |name: &str, default: Option<usize>| -> Result<Option<usize>, String> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match metadata.count(&key)? {
                // What is written for none.
                Some(id) if id >= u64::from(u32::MAX) => Ok(None),
                Some(id) if id >= tokens as u64 => {
                    Err(format!("the key {key} of the GGUF file is {id}, where it has {tokens} tokens"))
                }
                Some(id) => Ok(Some(id as usize)),
                None => Ok(default.filter(|&id| kind == Kind::SentencePiece && id < tokens)),
            }
        };
        let ends = [id("eot", None)?, id("eom", None)?];
        Ok(Self {
            bos: id("bos", Some(1))?,
            eos: id("eos", Some(2))?,
            unknown: id("unknown", Some(0))?,
            padding: id("padding", None)?,
            ends: ends.into_iter().flatten().collect(),
        })
    }

    /// All tokens at which a model has said what it says: the first that ends texts, then others.
    pub(super) fn all_ends(&self) -> Vec<usize> {
        let mut all: Vec<usize> = Vec::new();
        for &id in self.eos.iter().chain(&self.ends) {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        all
    }
}

/// What each token is for. Where the file does not say so, it is text, but for those that begin or end one.
fn roles(metadata: Metadata, tokens: usize, special: &Special) -> Result<Vec<Role>, String> {
    if let Some(numbers) = metadata.wholes("tokenizer.ggml.token_type")? {
        if numbers.len() != tokens {
            let types = numbers.len();
            return Err(format!("the GGUF file has {tokens} tokens, and types of {types}"));
        }
        return Ok(numbers.into_iter().map(Role::from_number).collect());
    }
    let mut roles = vec![Role::Normal; tokens];
    for id in special.bos.iter().chain(&special.eos).chain(&special.padding) {
        roles.get_mut(*id).into_iter().for_each(|role| *role = Role::Control);
    }
    special.unknown.and_then(|id| roles.get_mut(id)).into_iter().for_each(|role| *role = Role::Unknown);
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::architecture::Architecture;
    use crate::gguf::container::Gguf;
    use crate::gguf::encode::Entry;
    use crate::gguf::samples::{Entries, bytes, entries, put, sentence_piece, texts};

    fn file(change: impl FnOnce(&mut Entries)) -> Gguf {
        let mut entries = entries(Architecture::Llama);
        change(&mut entries);
        let entries: Vec<(&str, Entry)> = entries.iter().map(|(key, entry)| (key.as_str(), entry.clone())).collect();
        Gguf::in_memory(&bytes(&entries, &[])).unwrap()
    }

    fn refusal(change: impl FnOnce(&mut Entries)) -> String {
        Vocabulary::read(file(change).metadata()).err().unwrap()
    }

    #[test]
    fn tokens_that_fill_up_the_embedding_are_left_out() {
        let gguf = file(|_| ());
        let vocabulary = Vocabulary::read(gguf.metadata()).unwrap();
        assert_eq!(vocabulary.tokens.len(), 9);
        assert_eq!(vocabulary.roles[7], Role::UserDefined);
        assert_eq!(vocabulary.special.all_ends(), [0, 1]);
        assert_eq!((vocabulary.special.bos, vocabulary.special.unknown), (None, None));
    }

    #[test]
    fn sentencepiece_has_its_usual_special_tokens_and_spaces() {
        let gguf = file(sentence_piece);
        let vocabulary = Vocabulary::read(gguf.metadata()).unwrap();
        let Special { bos, eos, unknown, .. } = vocabulary.special;
        assert_eq!((bos, eos, unknown), (Some(1), Some(2), Some(0)));
        assert_eq!(vocabulary.token(Some(9)), Some("▁▁"));
        let gguf = file(|entries| {
            sentence_piece(entries);
            put(entries, "tokenizer.ggml.token_type", Entry::Wholes(vec![3, 1, 1, 2, 1, 1, 1, 1, 1, 1]));
        });
        let special = Vocabulary::read(gguf.metadata()).unwrap().special;
        assert_eq!((special.bos, special.eos, special.unknown), (None, None, Some(3)));
    }

    #[test]
    fn without_types_special_tokens_are_control_tokens() {
        let gguf = file(|entries| entries.retain(|(key, _)| key != "tokenizer.ggml.token_type"));
        let vocabulary = Vocabulary::read(gguf.metadata()).unwrap();
        assert_eq!(vocabulary.roles[..3], [Role::Control, Role::Normal, Role::Normal]);
    }

    #[test]
    fn contradictions_are_refused() {
        let kind = refusal(|entries| put(entries, "tokenizer.ggml.model", Entry::Text("t5".to_owned())));
        assert!(kind.ends_with("of the kind t5, which is not supported; supported: gpt2 and llama"), "{kind}");
        let id = refusal(|entries| put(entries, "tokenizer.ggml.eos_token_id", Entry::Whole(10)));
        assert_eq!(id, "the key tokenizer.ggml.eos_token_id of the GGUF file is 10, where it has 10 tokens");
        let types = refusal(|entries| put(entries, "tokenizer.ggml.token_type", Entry::Wholes(vec![1; 9])));
        assert_eq!(types, "the GGUF file has 10 tokens, and types of 9");
        let gguf = file(|entries| put(entries, "tokenizer.ggml.tokens", texts(&["a"; 10])));
        let twice = Vocabulary::read(gguf.metadata()).unwrap();
        assert_eq!(twice.ids().unwrap_err(), "the tokens 0 and 1 of the GGUF file are both \"a\"");
    }
}
