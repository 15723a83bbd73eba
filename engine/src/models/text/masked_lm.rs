//! Masked language models as in Transformers' `…ForMaskedLM`.

use tch::{Kind, Tensor};

use super::super::heads::Steps;
use super::{TextBackbone, TextConfig, Tokens};
use crate::error::{EngineError, Result};
use crate::nn::Mode;
use crate::params::{Builder, Init};

/// An encoder with a head that guesses words. The output layer is tied to the word table: one parameter, saved under
/// the table's name, whose gradient is the sum of both uses.
pub struct MaskedLm {
    encoder: Box<dyn TextBackbone>,
    steps: Steps,
    bias: Option<Tensor>,
}

impl MaskedLm {
    /// The model at the root of a checkpoint; whatever of its head a checkpoint lacks starts anew.
    ///
    /// # Errors
    /// The family has no such head, the config unties its output layer, or a tensor of the encoder is missing or has another shape.
    pub fn new(root: &Builder<'_, '_>, config: &TextConfig) -> Result<Self> {
        let head = config.words.as_ref().map_err(EngineError::model)?;
        let encoder = config.encoder(root)?;
        let fresh = Init::Normal(config.initializer_range);
        let steps = Steps::new(root, &head.steps, config.hidden_size, fresh)?;
        let bias = head.bias.map(|path| root.matrix(path, &[config.vocab_size], Init::Zeros)).transpose()?;
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
