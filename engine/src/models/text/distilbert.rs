//! DistilBERT (Sanh et al. 2019, arXiv:1910.01108) as in Transformers' `DistilBertModel`: BERT's encoder without
//! segments, and without dropout on attention's output, under names of its own.

use serde::Deserialize;

use super::super::config::{
    INNER_WIDTH, LAYERS, POSITIONS, WIDTH, WORDS, activation, check_dropouts, check_heads, check_numbers, default,
    number, read, relu,
};
use super::super::heads::Step;
use super::architecture::{ClassificationHead, TextConfig, WordHead, classifier, encoder_only};
use super::pooling;
use super::post_norm::{Embeddings, Layer, PostNormEncoder};
use crate::error::Result;
use crate::nn::{Embedding, Heads, LayerNorm, Linear};
use crate::params::Builder;
use crate::policy::Anatomy;
use finetuned::domain::backbone::Backbone;

/// The epsilon of every norm, which its config cannot change.
const NORM_EPS: f64 = 1e-12;

/// The fields of `config.json` that the encoder and its heads read. Position tables filled with sines
/// (`sinusoidal_pos_embds`) are saved like learned ones.
#[derive(Clone, Debug, Deserialize)]
struct DistilBertConfig {
    vocab_size: i64,
    dim: i64,
    n_layers: i64,
    n_heads: i64,
    hidden_dim: i64,
    max_position_embeddings: i64,
    #[serde(default = "default::gelu")]
    activation: String,
    #[serde(default = "default::tenth")]
    dropout: f64,
    #[serde(default = "default::tenth")]
    attention_dropout: f64,
    #[serde(default = "fifth")]
    seq_classif_dropout: f64,
    #[serde(default = "default::initializer_range")]
    initializer_range: f64,
    #[serde(default = "default::yes")]
    tie_word_embeddings: bool,
}

fn fifth() -> f64 {
    0.2
}

/// Reads a `config.json` of the family.
pub(super) fn parse(json: &str) -> Result<TextConfig> {
    let config: DistilBertConfig = read(json)?;
    check_numbers(&[
        ("vocab_size", config.vocab_size, &WORDS),
        ("dim", config.dim, &WIDTH),
        ("n_layers", config.n_layers, &LAYERS),
        ("hidden_dim", config.hidden_dim, &INNER_WIDTH),
        ("max_position_embeddings", config.max_position_embeddings, &POSITIONS),
    ])?;
    check_dropouts(&[
        ("dropout", config.dropout),
        ("attention_dropout", config.attention_dropout),
        ("seq_classif_dropout", config.seq_classif_dropout),
    ])?;
    let function = activation("activation", &config.activation)?;
    check_heads("n_heads", config.n_heads, "dim", config.dim)?;
    let dense = |path| Step::Linear { path, has_bias: true };
    Ok(TextConfig {
        class: "DistilBert",
        backbone: Backbone::TextTransformer,
        anatomy: Anatomy {
            backbone: "distilbert",
            embeddings: &["embeddings"],
            layers: number(config.n_layers),
            adapted: &["q_lin", "v_lin"],
            ..Anatomy::default()
        },
        vocab_size: config.vocab_size,
        hidden_size: config.dim,
        intermediate_size: config.hidden_dim,
        max_tokens: config.max_position_embeddings,
        initializer_range: config.initializer_range,
        has_token_types: false,
        classification: ClassificationHead {
            pooling: pooling::first,
            pooler: Vec::new(),
            steps: vec![dense("pre_classifier"), Step::Activation(relu), Step::Dropout(config.seq_classif_dropout)],
            output: classifier,
        },
        words: WordHead {
            steps: vec![
                dense("vocab_transform"),
                Step::Activation(function),
                Step::Norm { path: "vocab_layer_norm", eps: NORM_EPS, has_bias: true },
            ],
            bias: Some("vocab_projector.bias"),
        }
        .if_tied(config.tie_word_embeddings),
        causal: encoder_only(),
        encoder: Box::new(move |path| Ok(Box::new(encoder(path, &config)?))),
    })
}

/// The encoder at `path` (in checkpoints of task models: `distilbert`).
fn encoder(path: &Builder<'_, '_>, config: &DistilBertConfig) -> Result<PostNormEncoder> {
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
        heads: Heads::alike(config.n_heads, width),
        attention_dropout: config.attention_dropout,
        attention_output_dropout: 0.0,
        output_dropout: config.dropout,
    })
}
