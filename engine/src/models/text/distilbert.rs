//! DistilBERT (Sanh et al. 2019, arXiv:1910.01108) as in Transformers' `DistilBertModel`: BERT's encoder without
//! segments, and without dropout on attention's output, under names of its own.

use serde::Deserialize;

use super::config::{activation, check_heads, check_positive, default, read};
use super::post_norm::{Embeddings, Layer, PostNormEncoder};
use crate::error::Result;
use crate::nn::{Embedding, LayerNorm, Linear};
use crate::params::Builder;

/// The epsilon of every norm, which its config cannot change.
pub(super) const NORM_EPS: f64 = 1e-12;

/// The fields of `config.json` that the encoder and its heads read. Position tables filled with sines
/// (`sinusoidal_pos_embds`) are saved like learned ones.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct DistilBertConfig {
    pub vocab_size: i64,
    pub dim: i64,
    pub n_layers: i64,
    pub n_heads: i64,
    pub hidden_dim: i64,
    pub max_position_embeddings: i64,
    #[serde(default = "default::gelu")]
    pub activation: String,
    #[serde(default = "default::tenth")]
    pub dropout: f64,
    #[serde(default = "default::tenth")]
    pub attention_dropout: f64,
    #[serde(default = "fifth")]
    pub seq_classif_dropout: f64,
    #[serde(default = "default::initializer_range")]
    pub initializer_range: f64,
    #[serde(default = "default::yes")]
    pub tie_word_embeddings: bool,
}

fn fifth() -> f64 {
    0.2
}

impl DistilBertConfig {
    /// Reads and checks a `config.json`.
    pub(super) fn parse(json: &str) -> Result<Self> {
        let config: Self = read(json)?;
        activation("activation", &config.activation)?;
        check_heads("n_heads", config.n_heads, "dim", config.dim)?;
        check_positive("n_layers", config.n_layers)?;
        Ok(config)
    }
}

/// The encoder at `path` (in checkpoints of task models: `distilbert`).
pub(super) fn encoder(path: &Builder<'_, '_>, config: &DistilBertConfig) -> Result<PostNormEncoder> {
    let width = config.dim;
    let embeddings = path.at("embeddings");
    let layer = |i| layer(&path.at("transformer").at("layer").at(i), config);
    Ok(PostNormEncoder {
        embeddings: Embeddings {
            words: Embedding::new(&embeddings.at("word_embeddings"), config.vocab_size, width)?,
            positions: Embedding::new(&embeddings.at("position_embeddings"), config.max_position_embeddings, width)?,
            first_position: 0,
            types: None,
            norm: LayerNorm::new(&embeddings.at("LayerNorm"), width, NORM_EPS)?,
            dropout: config.dropout,
        },
        relative_bias: None,
        layers: (0..config.n_layers).map(layer).collect::<Result<_>>()?,
        compute: path.compute(),
    })
}

fn layer(path: &Builder<'_, '_>, config: &DistilBertConfig) -> Result<Layer> {
    let (width, inner) = (config.dim, config.hidden_dim);
    let (attention, network) = (path.at("attention"), path.at("ffn"));
    Ok(Layer {
        query_key_value: Linear::fused(
            &attention,
            &["q_lin", "k_lin", "v_lin"].map(|name| (name, width)),
            width,
            true,
        )?,
        attention_output: Linear::new(&attention.at("out_lin"), width, width)?,
        attention_norm: LayerNorm::new(&path.at("sa_layer_norm"), width, NORM_EPS)?,
        intermediate: Linear::new(&network.at("lin1"), width, inner)?,
        output: Linear::new(&network.at("lin2"), inner, width)?,
        output_norm: LayerNorm::new(&path.at("output_layer_norm"), width, NORM_EPS)?,
        activation: activation("activation", &config.activation)?,
        heads: config.n_heads,
        attention_dropout: config.attention_dropout,
        attention_output_dropout: 0.0,
        output_dropout: config.dropout,
    })
}
