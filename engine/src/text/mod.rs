//! From texts to token ids.

use std::path::Path;

use tokenizers::{EncodeInput, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::error::{EngineError, Result};

/// The tokenizer of a model directory (`tokenizer.json`).
pub struct TextTokenizer {
    inner: Tokenizer,
    mask: Option<u32>,
    /// Whether words are told apart; if not, each token is a word, and encoding is faster.
    words: bool,
}

/// The ids of one text or pair of texts, special tokens included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// Where the second text of a pair begins, its separator before it not counted; the number of ids without one.
    pub second: usize,
    /// Which word of its text each id belongs to, from 1; 0 for special tokens.
    pub words: Vec<u32>,
    /// Whether the text was cut to fit.
    pub truncated: bool,
}

/// The names that mask tokens go by where `tokenizer_config.json` does not say.
const USUAL_MASKS: [&str; 2] = ["[MASK]", "<mask>"];

impl TextTokenizer {
    /// Opens a model's tokenizer so that no text gives more than `max_tokens` ids.
    ///
    /// # Errors
    /// `tokenizer.json` is missing, malformed, or knows ids that a table of `vocab_size` rows does not have.
    pub fn open(directory: &Path, max_tokens: usize, vocab_size: i64) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        if !path.is_file() {
            return Err(EngineError::model("the model has no tokenizer.json"));
        }
        let mut inner =
            Tokenizer::from_file(&path).map_err(|error| EngineError::model(format!("tokenizer.json: {error}")))?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        if i64::from(largest) >= vocab_size {
            return Err(EngineError::model(format!(
                "tokenizer.json has token id {largest}, but config.json's vocab_size is {vocab_size}"
            )));
        }
        inner.with_padding(None);
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        inner
            .with_truncation(Some(truncation))
            .map_err(|error| EngineError::Hyperparameter { name: "max_sequence_length", message: error.to_string() })?;
        let named = configured_mask(directory);
        let mask = named.iter().map(String::as_str).chain(USUAL_MASKS).find_map(|token| inner.token_to_id(token));
        Ok(Self { inner, mask, words: false })
    }

    /// The same tokenizer, telling which tokens make up a word.
    #[must_use]
    pub fn with_words(self) -> Self {
        Self { words: true, ..self }
    }

    /// The id of the mask token.
    ///
    /// # Errors
    /// The tokenizer has none.
    pub fn mask(&self) -> Result<u32> {
        self.mask.ok_or_else(|| EngineError::model("the tokenizer has no mask token, which this needs"))
    }

    /// Encodes texts or pairs of texts in parallel, in order.
    ///
    /// # Errors
    /// The tokenizer fails on a text, which a well-made one does not.
    pub fn encode(&self, texts: &[(&str, Option<&str>)]) -> Result<Vec<Encoded>> {
        let inputs: Vec<EncodeInput<'_>> = texts
            .iter()
            .map(|&(text, pair)| match pair {
                Some(pair) => EncodeInput::Dual(text.into(), pair.into()),
                None => EncodeInput::Single(text.into()),
            })
            .collect();
        let encodings =
            if self.words { self.inner.encode_batch(inputs, true) } else { self.inner.encode_batch_fast(inputs, true) };
        let encodings = encodings.map_err(|error| EngineError::model(format!("tokenizer.json: {error}")))?;
        Ok(encodings
            .iter()
            .map(|encoding| {
                let ids = encoding.get_ids().to_vec();
                let words = encoding.get_word_ids().iter().zip(encoding.get_special_tokens_mask()).enumerate();
                let word = |(place, (word, &special)): (usize, (&Option<u32>, &u32))| match word {
                    _ if special > 0 => 0,
                    Some(word) if self.words => word + 1,
                    _ => place as u32 + 1,
                };
                Encoded {
                    second: encoding.get_type_ids().iter().position(|&kind| kind > 0).unwrap_or(ids.len()),
                    words: words.map(word).collect(),
                    truncated: !encoding.get_overflowing().is_empty(),
                    ids,
                }
            })
            .collect())
    }
}

/// The mask token that `tokenizer_config.json` names.
fn configured_mask(directory: &Path) -> Option<String> {
    let text = std::fs::read(directory.join("tokenizer_config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let token = &config["mask_token"];
    token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
}
