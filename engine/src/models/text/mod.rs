//! Text encoders and decoders, and what tasks put on them, as in Transformers, on packed batches. Shapes: see [`crate::nn`].

mod architecture;
mod backbone;
mod bert;
mod causal_lm;
mod classifier;
mod decoder;
mod decoder_config;
mod distilbert;
mod embedder;
mod gemma;
mod gpt2;
mod llama;
mod masked_lm;
mod modernbert;
mod modernbert_config;
mod pooling;
mod post_norm;
mod relative;
mod rope;
mod sentence;

use std::cell::RefCell;
use std::rc::Rc;

use tch::Tensor;

pub use architecture::{TextConfig, TextTask};
pub use backbone::TextBackbone;
pub use causal_lm::CausalLm;
pub use classifier::TextClassifier;
pub use embedder::TextEmbedder;
pub use masked_lm::MaskedLm;
pub use pooling::SentencePooling;
pub use sentence::SentenceConfig;

use crate::error::Result;
use crate::nn::causal::Sight;
use crate::nn::{KvCache, Sequences};

/// Reads the text of a `config.json`.
type Parse = fn(&str) -> Result<TextConfig>;

/// The families by `model_type`.
const FAMILIES: [(&str, Parse); 15] = [
    ("bert", bert::parse),
    ("roberta", bert::parse),
    ("xlm-roberta", bert::parse),
    ("mpnet", bert::parse),
    ("distilbert", distilbert::parse),
    ("modernbert", modernbert::parse),
    ("gpt2", gpt2::parse),
    ("llama", llama::parse),
    ("mistral", llama::parse),
    ("qwen2", llama::parse),
    ("qwen3", llama::parse),
    ("phi3", llama::parse),
    ("gemma", gemma::parse),
    ("gemma2", gemma::parse),
    ("gemma3_text", gemma::parse),
];

/// The families.
pub(super) fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(family, _)| *family)
}

/// The `config.json` of this family; None if it is none of texts.
pub(super) fn parse(family: &str, json: &str) -> Option<Result<TextConfig>> {
    FAMILIES.iter().find(|(known, _)| *known == family).map(|(_, parse)| parse(json))
}

/// The tokens of a packed batch; all int64 `[T]` on the model's device.
pub struct Tokens {
    pub ids: Tensor,
    /// Position of each token in its own sequence, from 0 whatever the family.
    pub positions: Tensor,
    /// Segment of each token (0 or 1 for BERT); read where the model tells segments apart.
    pub types: Tensor,
    pub sequences: Rc<Sequences>,
    /// What a decoder has read of the one sequence that the batch goes on with; None where sequences begin.
    pub past: Option<Rc<RefCell<KvCache>>>,
}

impl Tokens {
    /// What these tokens can see in a decoder's layer number `layer`.
    fn sight(&self, layer: usize) -> Sight<'_> {
        Sight { sequences: &self.sequences, past: self.past.as_deref().map(|past| (past, layer)) }
    }

    /// The same tokens once more.
    fn shared(&self) -> Self {
        Self {
            ids: self.ids.shallow_clone(),
            positions: self.positions.shallow_clone(),
            types: self.types.shallow_clone(),
            sequences: Rc::clone(&self.sequences),
            past: self.past.clone(),
        }
    }
}
