//! Gemma (Gemma Team 2024, arXiv:2403.08295), Gemma 2 (arXiv:2408.00118) and Gemma 3's text model (2025, arXiv:2503.19786)
//! as in Transformers' `GemmaModel`, `Gemma2Model` and `Gemma3TextModel`: Llama's decoder with scaled embeddings, norms
//! whose weights are differences to one, and from the second on norms behind attention and network, and layers that see a
//! window. Gemma 2 squeezes scores and logits, Gemma 3 norms its heads.

use serde::Deserialize;

use super::super::config::{
    FEW, INNER_WIDTH, LAYERS, POSITIONS, WIDTH, WORDS, activation, check_dropouts, check_numbers, default, read, refuse,
};
use super::architecture::{CausalHead, TextConfig};
use super::decoder::{Biases, DecoderPlan, LayerPlan};
use super::decoder_config::{Facts, check_groups, rms_norm_eps, text_config};
use super::rope::{RopeFields, Turned};
use crate::error::Result;
use crate::nn::Heads;

/// Which of them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum GemmaFamily {
    #[serde(rename = "gemma")]
    First,
    #[serde(rename = "gemma2")]
    Second,
    #[serde(rename = "gemma3_text")]
    Third,
}

/// The fields of `config.json` that are read.
#[derive(Clone, Debug, Deserialize)]
struct GemmaConfig {
    model_type: GemmaFamily,
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    num_key_value_heads: i64,
    #[serde(default = "head_dim")]
    head_dim: i64,
    hidden_activation: Option<String>,
    max_position_embeddings: i64,
    #[serde(default = "default::initializer_range")]
    initializer_range: f64,
    #[serde(default = "rms_norm_eps")]
    rms_norm_eps: f64,
    #[serde(default = "default::yes")]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    attention_dropout: f64,
    query_pre_attn_scalar: Option<f64>,
    sliding_window: Option<i64>,
    sliding_window_pattern: Option<i64>,
    layer_types: Option<Vec<String>>,
    final_logit_softcapping: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<bool>,
}

fn head_dim() -> i64 {
    256
}

/// The angle bases of layers that see all, and of those that see a window.
const GLOBAL_THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;

/// The activation of the gate, where a config names none.
const GELU_TANH: &str = "gelu_pytorch_tanh";

/// Reads a `config.json` of these families.
pub(super) fn parse(json: &str) -> Result<TextConfig> {
    let config = GemmaConfig::parse(json)?;
    let fields = RopeFields::read(json)?;
    let turned = |theta| Turned { size: config.head_dim, positions: config.max_position_embeddings, theta };
    let ropes = if config.model_type == GemmaFamily::Third {
        vec![fields.rope(Some("full_attention"), turned(GLOBAL_THETA))?, fields.local(turned(LOCAL_THETA))?]
    } else {
        vec![fields.rope(None, turned(LOCAL_THETA))?]
    };
    let (class, local_rope) = match config.model_type {
        GemmaFamily::First => ("Gemma", 0),
        GemmaFamily::Second => ("Gemma2", 0),
        GemmaFamily::Third => ("Gemma3", 1),
    };
    let head = CausalHead {
        class: format!("{class}ForCausalLM"),
        is_tied: config.tie_word_embeddings,
        softcap: config.final_logit_softcapping,
    };
    let facts = Facts {
        class,
        adapted: &["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        max_tokens: config.max_position_embeddings,
        initializer_range: config.initializer_range,
        head,
    };
    let plan = DecoderPlan {
        vocab_size: config.vocab_size,
        width: config.hidden_size,
        inner: config.intermediate_size,
        heads: Heads {
            query: config.num_attention_heads,
            key_value: config.num_key_value_heads,
            size: config.head_dim,
        },
        layers: config.layers(local_rope)?,
        ropes,
        norm_eps: config.rms_norm_eps,
        norm_offset: 1.0,
        embedding_scale: Some((config.hidden_size as f64).sqrt()),
        attention_scale: 1.0 / config.query_pre_attn_scalar.unwrap_or(config.head_dim as f64).sqrt(),
        attention_softcap: config.attn_logit_softcapping,
        attention_dropout: config.attention_dropout,
        biases: Biases {
            query_key_value: config.attention_bias,
            attention_output: config.attention_bias,
            network: false,
        },
        has_head_norms: config.model_type == GemmaFamily::Third,
        has_post_norms: config.model_type != GemmaFamily::First,
        is_joined: false,
        activation: Some(activation("hidden_activation", config.hidden_activation.as_deref().unwrap_or(GELU_TANH))?),
    };
    Ok(text_config(facts, plan))
}

impl GemmaConfig {
    fn parse(json: &str) -> Result<Self> {
        let config: Self = read(json)?;
        check_numbers(&[
            ("vocab_size", config.vocab_size, &WORDS),
            ("hidden_size", config.hidden_size, &WIDTH),
            ("intermediate_size", config.intermediate_size, &INNER_WIDTH),
            ("num_hidden_layers", config.num_hidden_layers, &LAYERS),
            ("num_attention_heads", config.num_attention_heads, &FEW),
            ("num_key_value_heads", config.num_key_value_heads, &FEW),
            ("head_dim", config.head_dim, &FEW),
            ("max_position_embeddings", config.max_position_embeddings, &POSITIONS),
        ])?;
        check_dropouts(&[("attention_dropout", config.attention_dropout)])?;
        if config.use_bidirectional_attention == Some(true) {
            return refuse("use_bidirectional_attention", true, "false");
        }
        check_groups(config.num_attention_heads, config.num_key_value_heads)?;
        for (field, cap) in [
            ("query_pre_attn_scalar", config.query_pre_attn_scalar),
            ("final_logit_softcapping", config.final_logit_softcapping),
            ("attn_logit_softcapping", config.attn_logit_softcapping),
        ] {
            if let Some(cap) = cap.filter(|&cap| !(cap.is_finite() && cap > 0.0)) {
                return refuse(field, cap, "a number above 0");
            }
        }
        Ok(config)
    }

    /// Every second layer of Gemma 2 sees a window, beginning with the first, and five of six of Gemma 3.
    fn layers(&self, local_rope: usize) -> Result<Vec<LayerPlan>> {
        let window = match self.model_type {
            GemmaFamily::First => return Ok(vec![LayerPlan { reach: None, rope: 0 }; self.num_hidden_layers as usize]),
            GemmaFamily::Second | GemmaFamily::Third => self.sliding_window.unwrap_or(4096),
        };
        let pattern = match self.model_type {
            GemmaFamily::Third => self.sliding_window_pattern.unwrap_or(6),
            _ => 2,
        };
        if window < 1 || pattern < 1 {
            return refuse("sliding_window or sliding_window_pattern", window.min(pattern), "1 and more");
        }
        let sees_window = |layer: i64| match &self.layer_types {
            Some(types) => types.get(layer as usize).is_some_and(|kind| kind == "sliding_attention"),
            None => (layer + 1) % pattern != 0,
        };
        let layer = |layer| {
            if sees_window(layer) {
                LayerPlan { reach: Some(window - 1), rope: local_rope }
            } else {
                LayerPlan { reach: None, rope: 0 }
            }
        };
        Ok((0..self.num_hidden_layers).map(layer).collect())
    }
}
