//! From texts to token ids.

use std::path::Path;

use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::error::{EngineError, Result};

/// The tokenizer of a model directory (`tokenizer.json`).
pub struct TextTokenizer {
    inner: Tokenizer,
}

/// The ids of one text, special tokens included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// Whether the text was cut to fit.
    pub truncated: bool,
}

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
        Ok(Self { inner })
    }

    /// Encodes texts in parallel, in order.
    ///
    /// # Errors
    /// The tokenizer fails on a text, which a well-made one does not.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>> {
        let encodings = self
            .inner
            .encode_batch_fast(texts.to_vec(), true)
            .map_err(|error| EngineError::model(format!("tokenizer.json: {error}")))?;
        Ok(encodings
            .iter()
            .map(|encoding| Encoded {
                ids: encoding.get_ids().to_vec(),
                truncated: !encoding.get_overflowing().is_empty(),
            })
            .collect())
    }
}
