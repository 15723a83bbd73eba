//! Text encoders and what tasks put on them, as in Transformers, on packed batches. Shapes: see [`crate::nn`].

mod bert;
mod classifier;
mod config;
mod distilbert;
mod embedder;
mod masked_lm;
mod modernbert;
mod modernbert_config;
mod post_norm;
mod relative;

use tch::Tensor;

pub use bert::{BertConfig, BertFamily};
pub use classifier::TextClassifier;
pub use config::{TextConfig, TextTask};
pub use distilbert::DistilBertConfig;
pub use embedder::TextEmbedder;
pub use masked_lm::MaskedLm;
pub use modernbert_config::ModernBertConfig;

use crate::error::Result;
use crate::nn::{Embedding, Hidden, Mode, Sequences};
use crate::params::Builder;
use modernbert::ModernBert;
use post_norm::PostNormEncoder;

/// The tokens of a packed batch; all int64 `[T]` on the model's device.
pub struct Tokens {
    pub ids: Tensor,
    /// Position of each token in its own sequence, from 0 whatever the family.
    pub positions: Tensor,
    /// Segment of each token (0 or 1 for BERT); read where the model tells segments apart.
    pub types: Tensor,
    pub sequences: Sequences,
}

/// An encoder of any family.
pub struct TextEncoder {
    inner: Inner,
}

enum Inner {
    PostNorm(PostNormEncoder),
    ModernBert(ModernBert),
}

impl TextEncoder {
    /// The encoder of a checkpoint, below its [`TextConfig::base_prefix`] at `root`.
    pub fn new(root: &Builder<'_, '_>, config: &TextConfig) -> Result<Self> {
        let path = root.at(config.base_prefix());
        let inner = match config {
            TextConfig::Bert(config) => Inner::PostNorm(bert::encoder(&path, config)?),
            TextConfig::DistilBert(config) => Inner::PostNorm(distilbert::encoder(&path, config)?),
            TextConfig::ModernBert(config) => Inner::ModernBert(ModernBert::new(&path, config)?),
        };
        Ok(Self { inner })
    }

    /// The last hidden states of all tokens, `[T, D]`, or of those at `rows` (int64 `[R]`) alone, `[R, D]`.
    ///
    /// Where only some are asked for, the last layer transforms them alone; its attention still sees every token, and
    /// the result is the same.
    pub fn hidden(&self, tokens: &Tokens, rows: Option<&Tensor>, mode: &Mode) -> Result<Hidden> {
        match &self.inner {
            Inner::PostNorm(encoder) => encoder.hidden(tokens, rows, mode),
            Inner::ModernBert(encoder) => encoder.hidden(tokens, rows, mode),
        }
    }

    /// The table of the words, to which output layers are tied.
    fn words(&self) -> &Embedding {
        match &self.inner {
            Inner::PostNorm(encoder) => &encoder.embeddings.words,
            Inner::ModernBert(encoder) => encoder.words(),
        }
    }
}
