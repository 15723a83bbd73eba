//! Llama (Touvron et al. 2023, arXiv:2302.13971; Grattafiori et al. 2024, arXiv:2407.21783), Mistral (Jiang et al. 2023,
//! arXiv:2310.06825), Qwen2 and Qwen3 (Yang et al. 2024 and 2025, arXiv:2407.10671 and 2505.09388) and Phi-3 (Abdin et al.
//! 2024, arXiv:2404.14219) as in Transformers' `LlamaModel`, `MistralModel`, `Qwen2Model`, `Qwen3Model` and `Phi3Model`.
//!
//! They are one decoder: Mistral's sees a window, Qwen2's queries, keys and values have biases, Qwen3 norms its heads, and
//! Phi-3 has joined tensors.

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
#[serde(rename_all = "lowercase")]
enum LlamaFamily {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Phi3,
}

/// The fields of `config.json` that are read.
#[derive(Clone, Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "Transformers' fields")]
struct LlamaConfig {
    model_type: LlamaFamily,
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    #[serde(default = "silu")]
    hidden_act: String,
    max_position_embeddings: i64,
    #[serde(default = "default::initializer_range")]
    initializer_range: f64,
    #[serde(default = "rms_norm_eps")]
    rms_norm_eps: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    attention_dropout: f64,
    #[serde(default)]
    resid_pdrop: f64,
    #[serde(default)]
    embd_pdrop: f64,
    sliding_window: Option<i64>,
    #[serde(default)]
    use_sliding_window: bool,
    max_window_layers: Option<i64>,
    layer_types: Option<Vec<String>>,
}

fn silu() -> String {
    "silu".to_owned()
}

/// The angle base of Transformers' configurations that name none.
const THETA: f64 = 10_000.0;

/// Reads a `config.json` of these families.
pub(super) fn parse(json: &str) -> Result<TextConfig> {
    let config = LlamaConfig::parse(json)?;
    let rope = RopeFields::read(json)?.rope(None, config.turned())?;
    let class = match config.model_type {
        LlamaFamily::Llama => "Llama",
        LlamaFamily::Mistral => "Mistral",
        LlamaFamily::Qwen2 => "Qwen2",
        LlamaFamily::Qwen3 => "Qwen3",
        LlamaFamily::Phi3 => "Phi3",
    };
    let is_joined = config.model_type == LlamaFamily::Phi3;
    let facts = Facts {
        class,
        adapted: if is_joined {
            &["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
        } else {
            &["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        },
        max_tokens: config.max_position_embeddings,
        initializer_range: config.initializer_range,
        head: CausalHead { class: format!("{class}ForCausalLM"), is_tied: config.tie_word_embeddings, softcap: None },
    };
    let heads = config.heads();
    let plan = DecoderPlan {
        vocab_size: config.vocab_size,
        width: config.hidden_size,
        inner: config.intermediate_size,
        heads,
        layers: config.layers()?,
        ropes: vec![rope],
        norm_eps: config.rms_norm_eps,
        norm_offset: 0.0,
        embedding_scale: None,
        attention_scale: 1.0 / (heads.size as f64).sqrt(),
        attention_softcap: None,
        attention_dropout: config.attention_dropout,
        biases: config.biases(),
        has_head_norms: config.model_type == LlamaFamily::Qwen3,
        has_post_norms: false,
        is_joined,
        activation: if ["silu", "swish"].contains(&config.hidden_act.as_str()) {
            None
        } else {
            Some(activation("hidden_act", &config.hidden_act)?)
        },
    };
    Ok(text_config(facts, plan))
}

impl LlamaConfig {
    fn parse(json: &str) -> Result<Self> {
        let config: Self = read(json)?;
        check_numbers(&[
            ("vocab_size", config.vocab_size, &WORDS),
            ("hidden_size", config.hidden_size, &WIDTH),
            ("intermediate_size", config.intermediate_size, &INNER_WIDTH),
            ("num_hidden_layers", config.num_hidden_layers, &LAYERS),
            ("num_attention_heads", config.num_attention_heads, &FEW),
            ("num_key_value_heads", config.key_value_heads(), &FEW),
            ("head_dim", config.heads().size, &FEW),
            ("max_position_embeddings", config.max_position_embeddings, &POSITIONS),
        ])?;
        check_dropouts(&[("attention_dropout", config.attention_dropout)])?;
        for (field, share) in [("resid_pdrop", config.resid_pdrop), ("embd_pdrop", config.embd_pdrop)] {
            if share != 0.0 {
                return refuse(field, share, "0");
            }
        }
        check_groups(config.num_attention_heads, config.key_value_heads())?;
        Ok(config)
    }

    fn key_value_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    fn heads(&self) -> Heads {
        // Qwen3's configuration has a size of its own where it says none.
        let usual = match self.model_type {
            LlamaFamily::Qwen3 => 128,
            _ => self.hidden_size / self.num_attention_heads.max(1),
        };
        let size = self.head_dim.unwrap_or(usual);
        Heads { query: self.num_attention_heads, key_value: self.key_value_heads(), size }
    }

    fn turned(&self) -> Turned {
        Turned { size: self.heads().size, positions: self.max_position_embeddings, theta: THETA }
    }

    fn biases(&self) -> Biases {
        match self.model_type {
            LlamaFamily::Llama => {
                let attention = self.attention_bias;
                Biases { query_key_value: attention, attention_output: attention, network: self.mlp_bias }
            }
            LlamaFamily::Qwen2 => Biases { query_key_value: true, ..Biases::default() },
            LlamaFamily::Qwen3 => {
                let attention = self.attention_bias;
                Biases { query_key_value: attention, attention_output: attention, network: false }
            }
            LlamaFamily::Mistral | LlamaFamily::Phi3 => Biases::default(),
        }
    }

    /// Which layers see a window, and of how many tokens: themselves among them.
    fn layers(&self) -> Result<Vec<LayerPlan>> {
        let window = match self.model_type {
            LlamaFamily::Llama => None,
            LlamaFamily::Mistral | LlamaFamily::Phi3 => self.sliding_window,
            LlamaFamily::Qwen2 | LlamaFamily::Qwen3 => self.sliding_window.filter(|_| self.use_sliding_window),
        };
        if let Some(window) = window.filter(|&window| window < 1) {
            return refuse("sliding_window", window, "1 and more");
        }
        let first = match self.model_type {
            LlamaFamily::Qwen2 | LlamaFamily::Qwen3 => self.max_window_layers.unwrap_or(28),
            _ => 0,
        };
        let sees_window = |layer: i64| match &self.layer_types {
            Some(types) => types.get(layer as usize).is_some_and(|kind| kind == "sliding_attention"),
            None => layer >= first,
        };
        let reach = |layer| window.filter(|_| sees_window(layer)).map(|window| window - 1);
        Ok((0..self.num_hidden_layers).map(|layer| LayerPlan { reach: reach(layer), rope: 0 }).collect())
    }
}
