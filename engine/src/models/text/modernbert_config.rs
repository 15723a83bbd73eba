//! `config.json` of ModernBERT, as Transformers 4 and 5 write it.

use serde::Deserialize;

use super::super::config::{
    INNER_WIDTH, LAYERS, POSITIONS, WIDTH, WORDS, activation, check_dropouts, check_heads, check_numbers, default,
    read, refuse,
};
use super::pooling::{self, Pooling};
use crate::error::Result;

/// The fields of `config.json` that the encoder and its heads read.
#[derive(Clone, Debug, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "these are config.json's fields")]
pub(super) struct ModernBertConfig {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    #[serde(default = "default::gelu")]
    pub hidden_activation: String,
    pub max_position_embeddings: i64,
    #[serde(default = "default::initializer_range")]
    pub initializer_range: f64,
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
    #[serde(default)]
    pub norm_bias: bool,
    #[serde(default)]
    pub attention_bias: bool,
    #[serde(default)]
    pub attention_dropout: f64,
    /// Every so many layers one is global, from the first on; `layer_types`, where given, says it layer by layer.
    #[serde(default = "default::three")]
    pub global_attn_every_n_layers: i64,
    pub layer_types: Option<Vec<LayerType>>,
    /// Tokens that a local layer sees: half of them to each side.
    #[serde(default = "local_attention")]
    pub local_attention: i64,
    #[serde(default = "global_rope_theta")]
    pub global_rope_theta: f64,
    #[serde(default = "local_rope_theta")]
    pub local_rope_theta: f64,
    /// Transformers 5's place for the two above.
    pub rope_parameters: Option<RopeParameters>,
    pub rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    pub embedding_dropout: f64,
    #[serde(default)]
    pub mlp_bias: bool,
    #[serde(default)]
    pub mlp_dropout: f64,
    #[serde(default = "default::yes")]
    pub decoder_bias: bool,
    #[serde(default)]
    pub classifier_pooling: ClassifierPooling,
    #[serde(default)]
    pub classifier_dropout: f64,
    #[serde(default)]
    pub classifier_bias: bool,
    #[serde(default = "default::gelu")]
    pub classifier_activation: String,
    #[serde(default = "default::yes")]
    pub tie_word_embeddings: bool,
}

/// Which hidden state the classifier reads.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClassifierPooling {
    #[default]
    Cls,
    Mean,
}

impl ClassifierPooling {
    pub(super) fn pooling(self) -> Pooling {
        match self {
            Self::Cls => pooling::first,
            Self::Mean => pooling::mean,
        }
    }
}

/// How far a layer's attention reaches.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum LayerType {
    FullAttention,
    SlidingAttention,
}

/// The rotary embeddings of each type of layer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RopeParameters {
    full_attention: Option<Rope>,
    sliding_attention: Option<Rope>,
}

#[derive(Clone, Debug, Deserialize)]
struct Rope {
    rope_type: Option<String>,
    rope_theta: Option<f64>,
}

fn norm_eps() -> f64 {
    1e-5
}
fn local_attention() -> i64 {
    128
}
fn global_rope_theta() -> f64 {
    160_000.0
}
fn local_rope_theta() -> f64 {
    10_000.0
}

impl ModernBertConfig {
    /// Reads and checks a `config.json`.
    pub(super) fn parse(json: &str) -> Result<Self> {
        let config: Self = read(json)?;
        check_numbers(&[
            ("vocab_size", config.vocab_size, &WORDS),
            ("hidden_size", config.hidden_size, &WIDTH),
            ("num_hidden_layers", config.num_hidden_layers, &LAYERS),
            ("intermediate_size", config.intermediate_size, &INNER_WIDTH),
            ("max_position_embeddings", config.max_position_embeddings, &POSITIONS),
            ("global_attn_every_n_layers", config.global_attn_every_n_layers, &LAYERS),
            ("local_attention", config.local_attention, &(1..=*POSITIONS.end())),
        ])?;
        check_dropouts(&[
            ("attention_dropout", config.attention_dropout),
            ("embedding_dropout", config.embedding_dropout),
            ("mlp_dropout", config.mlp_dropout),
            ("classifier_dropout", config.classifier_dropout),
        ])?;
        activation("hidden_activation", &config.hidden_activation)?;
        activation("classifier_activation", &config.classifier_activation)?;
        check_heads("num_attention_heads", config.num_attention_heads, "hidden_size", config.hidden_size)?;
        if config.head_size() % 2 != 0 {
            return refuse("num_attention_heads", config.num_attention_heads, "heads of an even size");
        }
        if let Some(types) = config.layer_types.as_ref().filter(|types| types.len() as i64 != config.num_hidden_layers)
        {
            return refuse("layer_types", format!("{} long", types.len()), "one for each of num_hidden_layers");
        }
        if let Some(scaling) = config.rope_scaling.as_ref().filter(|scaling| !scaling.is_null()) {
            return refuse("rope_scaling", scaling, "null");
        }
        for kind in [LayerType::FullAttention, LayerType::SlidingAttention] {
            let rope_type = config.rope(kind).and_then(|rope| rope.rope_type.as_deref());
            if let Some(other) = rope_type.filter(|&name| name != "default") {
                return refuse("rope_parameters' rope_type", other, "default");
            }
        }
        Ok(config)
    }

    /// Width of an attention head.
    pub(super) fn head_size(&self) -> i64 {
        self.hidden_size / self.num_attention_heads
    }

    /// How far the attention of layer `i` reaches.
    pub(super) fn layer_type(&self, i: i64) -> LayerType {
        let listed = self.layer_types.as_ref().and_then(|types| types.get(usize::try_from(i).ok()?));
        let by_turns = match i % self.global_attn_every_n_layers {
            0 => LayerType::FullAttention,
            _ => LayerType::SlidingAttention,
        };
        listed.copied().unwrap_or(by_turns)
    }

    /// The largest distance at which tokens see each other in a local layer.
    pub(super) fn window(&self) -> i64 {
        self.local_attention / 2
    }

    /// The base of the rotary embeddings' frequencies in layers of `kind`.
    pub(super) fn rope_theta(&self, kind: LayerType) -> f64 {
        let old = match kind {
            LayerType::FullAttention => self.global_rope_theta,
            LayerType::SlidingAttention => self.local_rope_theta,
        };
        self.rope(kind).and_then(|rope| rope.rope_theta).unwrap_or(old)
    }

    fn rope(&self, kind: LayerType) -> Option<&Rope> {
        let parameters = self.rope_parameters.as_ref()?;
        match kind {
            LayerType::FullAttention => parameters.full_attention.as_ref(),
            LayerType::SlidingAttention => parameters.sliding_attention.as_ref(),
        }
    }
}
