//! Text embeddings: what sentence-transformers' `Pooling` makes of a sequence's last hidden states.

use tch::Tensor;

use super::pooling::SentencePooling;
use super::{TextBackbone, TextConfig, Tokens};
use crate::error::Result;
use crate::nn::Mode;
use crate::params::Builder;

/// An encoder whose output is one vector per text. A pooler of the base model is no part of it, nor of what is saved.
pub struct TextEmbedder {
    encoder: Box<dyn TextBackbone>,
    /// Side by side.
    pooling: Vec<SentencePooling>,
}

impl TextEmbedder {
    /// The embedder at the root of a checkpoint, which takes the mean over all tokens.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn new(root: &Builder<'_, '_>, config: &TextConfig) -> Result<Self> {
        Ok(Self { encoder: config.encoder(root)?, pooling: vec![SentencePooling::Mean] })
    }

    /// The same with other pooling: each of these beside the one before it.
    #[must_use]
    pub fn with_pooling(self, pooling: &[SentencePooling]) -> Self {
        Self { pooling: pooling.to_vec(), ..self }
    }

    /// Embeddings `[S, D]` in float32, not normalised; `[S, n D]` of `n` ways of pooling.
    pub fn forward(&self, tokens: &Tokens, mode: &Mode) -> Result<Tensor> {
        if self.pooling == [SentencePooling::Cls] {
            return Ok(self.encoder.hidden(tokens, Some(&tokens.sequences.first), mode)?.wide);
        }
        let hidden = self.encoder.hidden(tokens, None, mode)?.wide;
        let pooled = self.pooling.iter().map(|pooling| pooling.of(&hidden, &tokens.sequences));
        Ok(match pooled.collect::<Result<Vec<_>>>()?.as_slice() {
            [one] => one.shallow_clone(),
            several => Tensor::f_cat(several, 1)?,
        })
    }
}
