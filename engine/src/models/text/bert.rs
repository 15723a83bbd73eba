//! BERT (Devlin et al. 2019, arXiv:1810.04805), RoBERTa (Liu et al. 2019, arXiv:1907.11692), XLM-RoBERTa (Conneau et
//! al. 2020, arXiv:1911.02116) and MPNet (Song et al. 2020, arXiv:2004.09297) as in Transformers' `BertModel`,
//! `RobertaModel`, `XLMRobertaModel` and `MPNetModel`.
//!
//! They are one encoder; RoBERTa's and MPNet's positions begin after the padding's id, and MPNet adds a bias by
//! distance to attention's scores. Left out: decoder use, cross-attention and BERT's relative position embeddings; a
//! config that asks for them is refused.

use serde::Deserialize;

use super::config::{activation, check_heads, check_positive, default, read, refuse};
use super::post_norm::{Embeddings, Layer, PostNormEncoder};
use super::relative::{BUCKETS, RelativeBias};
use crate::error::{EngineError, Result};
use crate::nn::{Embedding, LayerNorm, Linear};
use crate::params::Builder;

/// Which of them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum BertFamily {
    Bert,
    Roberta,
    XlmRoberta,
    Mpnet,
}

/// The fields of `config.json` that the encoder and its heads read.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct BertConfig {
    pub model_type: BertFamily,
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    pub intermediate_size: i64,
    #[serde(default = "default::gelu")]
    pub hidden_act: String,
    #[serde(default = "default::tenth")]
    pub hidden_dropout_prob: f64,
    #[serde(default = "default::tenth")]
    pub attention_probs_dropout_prob: f64,
    pub max_position_embeddings: i64,
    #[serde(default = "two")]
    pub type_vocab_size: i64,
    #[serde(default = "default::initializer_range")]
    pub initializer_range: f64,
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    #[serde(default)]
    pub is_decoder: bool,
    #[serde(default)]
    pub add_cross_attention: bool,
    pub classifier_dropout: Option<f64>,
    pub pad_token_id: Option<i64>,
    pub relative_attention_num_buckets: Option<i64>,
    #[serde(default = "default::yes")]
    pub tie_word_embeddings: bool,
}

fn two() -> i64 {
    2
}
fn layer_norm_eps() -> f64 {
    1e-12
}
fn absolute() -> String {
    "absolute".to_owned()
}

impl BertConfig {
    /// Reads and checks a `config.json` of these families.
    pub(super) fn parse(json: &str) -> Result<Self> {
        let mut config: Self = read(json)?;
        activation("hidden_act", &config.hidden_act)?;
        if config.position_embedding_type != "absolute" {
            return refuse("position_embedding_type", &config.position_embedding_type, "absolute");
        }
        if config.is_decoder || config.add_cross_attention {
            return refuse("is_decoder or add_cross_attention", true, "false");
        }
        check_heads("num_attention_heads", config.num_attention_heads, "hidden_size", config.hidden_size)?;
        check_positive("num_hidden_layers", config.num_hidden_layers)?;
        check_positive("type_vocab_size", config.type_vocab_size)?;
        if config.model_type == BertFamily::Mpnet {
            // Transformers' MPNet has no such fields, and its padding is 1 whatever the config says.
            (config.type_vocab_size, config.classifier_dropout, config.pad_token_id) = (1, None, Some(1));
            if let Some(other) = config.relative_attention_num_buckets.filter(|&buckets| buckets != BUCKETS) {
                return refuse("relative_attention_num_buckets", other, "32");
            }
        }
        let first = config.first_position();
        if first < 0 || first >= config.max_position_embeddings {
            return refuse("pad_token_id", first - 1, "at least 0, with room for positions after it");
        }
        Ok(config)
    }

    /// Row of the position table that the first token reads: all but BERT count from the one after the padding's.
    pub(super) fn first_position(&self) -> i64 {
        if self.model_type == BertFamily::Bert { 0 } else { self.pad_token_id.unwrap_or(1) + 1 }
    }

    /// Dropout before the classifier.
    pub(super) fn classifier_dropout(&self) -> f64 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }
}

/// The encoder at `path` (in checkpoints of task models: `bert`, `roberta` or `mpnet`), without the pooler, which
/// belongs to BERT's classifier.
pub(super) fn encoder(path: &Builder<'_, '_>, config: &BertConfig) -> Result<PostNormEncoder> {
    let layer = |i| layer(&path.at("encoder").at("layer").at(i), config);
    let is_mpnet = config.model_type == BertFamily::Mpnet;
    let bias = path.at("encoder").at("relative_attention_bias");
    Ok(PostNormEncoder {
        embeddings: embeddings(&path.at("embeddings"), config)?,
        relative_bias: is_mpnet.then(|| RelativeBias::new(&bias, config.num_attention_heads)).transpose()?,
        layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
        compute: path.compute(),
    })
}

fn embeddings(path: &Builder<'_, '_>, config: &BertConfig) -> Result<Embeddings> {
    let (width, types) = (config.hidden_size, config.type_vocab_size);
    let table = path.at("token_type_embeddings");
    let has_types = config.model_type != BertFamily::Mpnet;
    Ok(Embeddings {
        words: Embedding::new(&path.at("word_embeddings"), config.vocab_size, width)?,
        positions: Embedding::new(&path.at("position_embeddings"), config.max_position_embeddings, width)?,
        first_position: config.first_position(),
        types: has_types.then(|| Ok::<_, EngineError>((Embedding::new(&table, types, width)?, types))).transpose()?,
        norm: LayerNorm::new(&path.at("LayerNorm"), width, config.layer_norm_eps)?,
        dropout: config.hidden_dropout_prob,
    })
}

fn layer(path: &Builder<'_, '_>, config: &BertConfig) -> Result<Layer> {
    let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
    let attention = path.at("attention");
    let (inputs, names, output, norm) = if config.model_type == BertFamily::Mpnet {
        (attention.at("attn"), ["q", "k", "v"], attention.at("attn").at("o"), attention.at("LayerNorm"))
    } else {
        let output = attention.at("output");
        (attention.at("self"), ["query", "key", "value"], output.at("dense"), output.at("LayerNorm"))
    };
    Ok(Layer {
        query_key_value: Linear::fused(&inputs, &names.map(|name| (name, width)), width, true)?,
        attention_output: Linear::new(&output, width, width)?,
        attention_norm: LayerNorm::new(&norm, width, eps)?,
        intermediate: Linear::new(&path.at("intermediate").at("dense"), width, inner)?,
        output: Linear::new(&path.at("output").at("dense"), inner, width)?,
        output_norm: LayerNorm::new(&path.at("output").at("LayerNorm"), width, eps)?,
        activation: activation("hidden_act", &config.hidden_act)?,
        heads: config.num_attention_heads,
        attention_dropout: config.attention_probs_dropout_prob,
        attention_output_dropout: config.hidden_dropout_prob,
        output_dropout: config.hidden_dropout_prob,
    })
}
