//! What decoders say of themselves alike.

use super::super::config::{number, refuse};
use super::architecture::{CausalHead, ClassificationHead, TextConfig};
use super::decoder::{Decoder, DecoderPlan};
use super::pooling;
use crate::error::Result;
use crate::nn::Linear;
use crate::params::{Builder, Init};
use crate::policy::Anatomy;
use finetuned::domain::backbone::Backbone;

/// What a family of decoders says besides its plan.
pub(super) struct Facts {
    /// What Transformers' classes begin with.
    pub class: &'static str,
    /// Layers that get adapters where nothing else is asked for: all linear ones.
    pub adapted: &'static [&'static str],
    pub max_tokens: i64,
    pub initializer_range: f64,
    pub head: CausalHead,
}

/// What norms of Transformers' decoders add, where their configurations say nothing.
pub(super) fn rms_norm_eps() -> f64 {
    1e-6
}

/// Whether every head of keys and values serves as many of queries.
///
/// # Errors
/// It does not.
pub(super) fn check_groups(query: i64, key_value: i64) -> Result<()> {
    if query % key_value == 0 {
        return Ok(());
    }
    refuse("num_key_value_heads", key_value, &format!("a divisor of num_attention_heads, which is {query}"))
}

/// The record of a family whose decoder is [`Decoder`].
pub(super) fn text_config(facts: Facts, plan: DecoderPlan) -> TextConfig {
    let longest = plan.ropes.iter().filter_map(|rope| rope.longest).min().unwrap_or(i64::MAX);
    TextConfig {
        class: facts.class,
        backbone: Backbone::TextDecoder,
        anatomy: Anatomy {
            backbone: "model",
            embeddings: &["embed_tokens"],
            outputs: &["lm_head"],
            layers: number(plan.layers.len() as i64),
            adapted: facts.adapted,
            is_transposed: false,
        },
        vocab_size: plan.vocab_size,
        hidden_size: plan.width,
        intermediate_size: plan.inner,
        max_tokens: facts.max_tokens.min(longest),
        initializer_range: facts.initializer_range,
        has_token_types: false,
        classification: classification(),
        words: Err(no_masks(facts.class)),
        causal: Ok(facts.head),
        encoder: Box::new(move |path| Ok(Box::new(Decoder::new(path, &plan)?))),
    }
}

/// Transformers' `…ForSequenceClassification` of decoders: the last token's state, and a layer without bias.
pub(super) fn classification() -> ClassificationHead {
    ClassificationHead { pooling: pooling::last, pooler: Vec::new(), steps: Vec::new(), output: score }
}

fn score(root: &Builder<'_, '_>, width: i64, outputs: i64, init: Init) -> Result<Linear> {
    Linear::without_bias(&root.at("score"), width, outputs, init)
}

/// Why such a model guesses no masked words.
pub(super) fn no_masks(class: &str) -> String {
    format!("{class} guesses the next word, and none that is masked; causal_lm adapts it to a domain")
}
