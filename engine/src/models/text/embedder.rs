//! Text embeddings: the mean of a sequence's last hidden states, as in Sentence-Transformers' `Pooling` (mean).

use tch::Tensor;

use super::{TextBackbone, TextConfig, Tokens};
use crate::error::Result;
use crate::nn::Mode;
use crate::params::Builder;

/// An encoder whose output is one vector per text. A pooler of the base model is no part of it, nor of what is saved.
pub struct TextEmbedder {
    encoder: Box<dyn TextBackbone>,
}

impl TextEmbedder {
    /// The embedder at the root of a checkpoint.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn new(root: &Builder<'_, '_>, config: &TextConfig) -> Result<Self> {
        Ok(Self { encoder: config.encoder(root)? })
    }

    /// Embeddings `[S, D]` in float32, not normalised.
    pub fn forward(&self, tokens: &Tokens, mode: &Mode) -> Result<Tensor> {
        tokens.sequences.mean(&self.encoder.hidden(tokens, None, mode)?.wide)
    }
}
