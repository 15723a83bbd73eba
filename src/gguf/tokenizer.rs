//! The tokenizer in a GGUF file, as the files `tokenizer.json` and `tokenizer_config.json` that Transformers and
//! [tokenizers](https://github.com/huggingface/tokenizers) read.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::architecture::Architecture;
use super::merges::{self, Merge};
use super::metadata::Metadata;
use super::vocabulary::{Kind, Vocabulary};
use super::words::Words;

/// A tokenizer, to be written.
pub(super) struct Tokenizer<'a> {
    pub(super) vocabulary: Vocabulary<'a>,
    /// How texts are split, of byte-level BPE; that of sentencepiece does not split them.
    pub(super) words: Option<&'static Words>,
    pub(super) is_phi3: bool,
    /// The content of `chat_template.jinja`, if there is one.
    pub(super) template: Option<&'a str>,
    /// What the file leaves open and had to be guessed.
    pub(super) notes: Vec<String>,
}

/// `tokenizer.json`.
#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    truncation: Value,
    padding: Value,
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model<'a>,
}

/// Its field `model`.
#[derive(Serialize)]
struct Model<'a> {
    r#type: &'static str,
    dropout: Value,
    unk_token: Option<&'a str>,
    continuing_subword_prefix: Value,
    end_of_word_suffix: Value,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    #[serde(serialize_with = "by_id")]
    vocab: &'a Vocabulary<'a>,
    merges: Vec<Merge<'a>>,
}

fn by_id<S: serde::Serializer>(vocabulary: &Vocabulary, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(vocabulary.entries().map(|(id, token, _)| (token, id)))
}

impl<'a> Tokenizer<'a> {
    /// Reads the tokenizer of a model.
    ///
    /// # Errors
    /// There is none, or it is of a kind that is not supported.
    pub(super) fn read(metadata: Metadata<'a>, architecture: Architecture) -> Result<Self, String> {
        let vocabulary = Vocabulary::read(metadata)?;
        let mut notes = Vec::new();
        let words = match (vocabulary.kind, metadata.text("tokenizer.ggml.pre")?) {
            (Kind::SentencePiece, _) => None,
            (Kind::ByteLevel, Some(name)) if name != "default" => Some(Words::named(name)?),
            (Kind::ByteLevel, _) => {
                let begins_like_llama3 = vocabulary.token(vocabulary.special.bos) == Some("<|begin_of_text|>");
                let words = Words::usual(architecture, begins_like_llama3)?;
                let name = words.name();
                notes.push(format!(
                    "the GGUF file does not say how its tokenizer splits texts into words, so it was taken to do it as \
                     {name} does: compare some texts with the original's"
                ));
                Some(words)
            }
        };
        let template = metadata.text("tokenizer.chat_template")?;
        Ok(Self { vocabulary, words, is_phi3: architecture == Architecture::Phi3, template, notes })
    }

    /// The content of `tokenizer.json`.
    ///
    /// # Errors
    /// Tokens are there twice, or what is merged are none of them.
    pub(super) fn json(&self, metadata: Metadata) -> Result<Vec<u8>, String> {
        let ids = self.vocabulary.ids()?;
        let is_sentence_piece = self.words.is_none();
        let merges = match self.words {
            Some(_) => merges::listed(metadata, &ids)?,
            None => merges::scored(metadata, &self.vocabulary, &ids)?,
        };
        let unknown = self.vocabulary.token(self.vocabulary.special.unknown);
        let document = Document {
            version: "1.0",
            truncation: Value::Null,
            padding: Value::Null,
            added_tokens: self.added_tokens(),
            normalizer: self.normalizer(),
            pre_tokenizer: self.words.map(Words::pre_tokenizer).unwrap_or_default(),
            post_processor: self.post_processor(),
            decoder: self.decoder(),
            model: Model {
                r#type: "BPE",
                dropout: Value::Null,
                unk_token: unknown.filter(|_| is_sentence_piece),
                continuing_subword_prefix: Value::Null,
                end_of_word_suffix: Value::Null,
                fuse_unk: is_sentence_piece,
                byte_fallback: is_sentence_piece,
                ignore_merges: self.words.is_some_and(|words| words.ignores_merges),
                vocab: &self.vocabulary,
                merges,
            },
        };
        serde_json::to_vec(&document).map_err(|error| format!("tokenizer.json cannot be written: {error}"))
    }

    /// The fields of `tokenizer_config.json`, of a model that reads so many tokens.
    pub(super) fn config(&self, positions: u64) -> Map<String, Value> {
        let mut config = Map::new();
        let special = &self.vocabulary.special;
        for (name, id) in [
            ("bos_token", special.bos),
            ("eos_token", special.eos),
            ("pad_token", special.padding),
            ("unk_token", special.unknown),
        ] {
            config.extend(self.vocabulary.token(id).map(|token| (name.to_owned(), json!(token))));
        }
        config.insert("add_bos_token".to_owned(), json!(self.bos().is_some()));
        config.insert("add_eos_token".to_owned(), json!(self.eos().is_some()));
        config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        config.insert("model_max_length".to_owned(), json!(positions));
        // All is in tokenizer.json: Transformers' classes for single models would make parts of it anew.
        config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::container::Gguf;
    use crate::gguf::encode::Entry;
    use crate::gguf::samples::{Entries, bytes, entries, put, sentence_piece};

    /// `tokenizer.json` and `tokenizer_config.json`.
    fn written(architecture: Architecture, change: impl FnOnce(&mut Entries)) -> (Value, Value) {
        let mut entries = entries(architecture);
        change(&mut entries);
        let entries: Vec<(&str, Entry)> = entries.iter().map(|(key, entry)| (key.as_str(), entry.clone())).collect();
        let gguf = Gguf::in_memory(&bytes(&entries, &[])).unwrap();
        let tokenizer = Tokenizer::read(gguf.metadata(), architecture).unwrap();
        let json = tokenizer.json(gguf.metadata()).unwrap();
        (serde_json::from_slice(&json).unwrap(), Value::Object(tokenizer.config(64)))
    }

    #[test]
    fn byte_level_tokenizers_are_written_with_their_words_and_merges() {
        let (json, config) = written(Architecture::Llama, |_| ());
        assert_eq!(json["model"]["merges"], json!([["a", "b"], ["Ġ", "a"]]));
        assert_eq!(json["model"]["vocab"]["ab"], 5);
        assert_eq!(json["model"]["vocab"].as_object().unwrap().len(), 9);
        assert_eq!(json["pre_tokenizer"]["pretokenizers"][0]["type"], "Digits");
        let added: Vec<(&str, bool)> = json["added_tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|token| (token["content"].as_str().unwrap(), token["special"].as_bool().unwrap()))
            .collect();
        assert_eq!(added, [("<|endoftext|>", true), ("<|im_end|>", true), ("<tool>", false)]);
        assert_eq!(json["post_processor"]["type"], "ByteLevel");
        assert_eq!(config["eos_token"], "<|endoftext|>");
        assert_eq!((&config["add_bos_token"], &config["model_max_length"]), (&json!(false), &json!(64)));
    }

    #[test]
    fn sentencepiece_begins_texts_with_a_token_and_a_space() {
        let (json, config) = written(Architecture::Llama, sentence_piece);
        assert_eq!(json["model"]["byte_fallback"], true);
        assert_eq!(json["model"]["unk_token"], "<unk>");
        assert_eq!(json["model"]["merges"], json!([["▁", "▁"], ["a", "b"], ["▁", "a"]]));
        assert_eq!(json["normalizer"]["normalizers"][0], json!({"type": "Prepend", "prepend": "▁"}));
        assert_eq!(json["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
        assert_eq!(json["post_processor"]["special_tokens"]["<s>"]["ids"], json!([1]));
        assert_eq!((&config["add_bos_token"], &config["bos_token"]), (&json!(true), &json!("<s>")));
        assert!(json["added_tokens"].as_array().unwrap().iter().all(|token| token["rstrip"] == false));
    }

    #[test]
    fn what_a_file_says_of_spaces_and_edges_is_done() {
        let (json, _) = written(Architecture::Gemma2, |entries| {
            sentence_piece(entries);
            put(entries, "tokenizer.ggml.add_space_prefix", Entry::Flag(false));
            put(entries, "tokenizer.ggml.add_bos_token", Entry::Flag(false));
            put(entries, "tokenizer.ggml.add_eos_token", Entry::Flag(true));
        });
        assert_eq!(json["normalizer"]["normalizers"].as_array().unwrap().len(), 1);
        assert_eq!(json["decoder"]["decoders"].as_array().unwrap().len(), 3);
        assert_eq!(json["post_processor"]["single"][1]["SpecialToken"]["id"], "</s>");
        assert_eq!(json["post_processor"]["pair"].as_array().unwrap().len(), 4);
    }

    #[test]
    fn marks_of_phi_3_take_the_spaces_behind_them() {
        let (json, _) = written(Architecture::Phi3, |entries| {
            sentence_piece(entries);
            let Entry::Texts(tokens) = &mut entries.iter_mut().find(|(key, _)| key.ends_with("tokens")).unwrap().1
            else {
                panic!("no tokens")
            };
            tokens[8] = "<|end|>".to_owned();
            put(entries, "tokenizer.ggml.token_type", Entry::Wholes(vec![2, 3, 3, 6, 1, 1, 1, 1, 3, 1]));
        });
        let strips = |id: usize| json["added_tokens"][id]["rstrip"].clone();
        assert_eq!([strips(0), strips(1), strips(2), strips(3)], [false, false, true, true]);
    }
}
