//! Masked language models as in Transformers' `…ForMaskedLM`.

use tch::{Kind, Tensor};

use super::super::config::refuse;
use super::super::heads::Steps;
use super::{TextConfig, TextEncoder, Tokens};
use crate::error::Result;
use crate::nn::Mode;
use crate::params::{Builder, Init};

/// An encoder with a head that guesses words. The output layer is tied to the word table: one parameter, saved under
/// the table's name, whose gradient is the sum of both uses.
pub struct MaskedLm {
    encoder: Box<dyn TextEncoder>,
    steps: Steps,
    bias: Option<Tensor>,
}

impl MaskedLm {
    /// The model at the root of a checkpoint; whatever of its head a checkpoint lacks starts anew.
    ///
    /// # Errors
    /// The config unties the output layer, or a tensor of the encoder is missing or has another shape.
    pub fn new(root: &Builder<'_, '_>, config: &TextConfig) -> Result<Self> {
        if !config.has_tied_words {
            return refuse("tie_word_embeddings", false, "true");
        }
        let encoder = config.encoder(root)?;
        let fresh = Init::Normal(config.initializer_range);
        let steps = Steps::new(root, &config.words.steps, config.hidden_size, fresh)?;
        let bias = config.words.bias.map(|path| root.matrix(path, &[config.vocab_size], Init::Zeros)).transpose()?;
        Ok(Self { encoder, steps, bias })
    }

    /// Logits `[R, V]` in float32 of the tokens at `rows` (int64 `[R]`, places in the packed batch); no others are
    /// computed.
    pub fn forward(&self, tokens: &Tokens, rows: &Tensor, mode: &Mode) -> Result<Tensor> {
        let hidden = self.encoder.hidden(tokens, Some(rows), mode)?;
        let x = self.steps.forward(&hidden.low, mode)?;
        Ok(self.encoder.words().decode(&x, self.bias.as_ref())?.f_to_kind(Kind::Float)?)
    }
}
