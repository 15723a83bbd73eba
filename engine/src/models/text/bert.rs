//! BERT (Devlin et al. 2019, arXiv:1810.04805), RoBERTa (Liu et al. 2019, arXiv:1907.11692), XLM-RoBERTa (Conneau et
//! al. 2020, arXiv:1911.02116) and MPNet (Song et al. 2020, arXiv:2004.09297) as in Transformers' `BertModel`,
//! `RobertaModel`, `XLMRobertaModel` and `MPNetModel`.
//!
//! They are one encoder; RoBERTa's and MPNet's positions begin after the padding's id, and MPNet adds a bias by
//! distance to attention's scores. Left out: decoder use, cross-attention and BERT's relative position embeddings; a
//! config that asks for them is refused.

use serde::Deserialize;

use super::super::config::{
    FEW, INNER_WIDTH, LAYERS, POSITIONS, WIDTH, WORDS, activation, check_dropouts, check_heads, check_numbers, default,
    gelu, number, read, refuse, tanh,
};
use super::super::heads::Step;
use super::architecture::{ClassificationHead, MakeOutput, TextConfig, WordHead, classifier, encoder_only};
use super::pooling;
use super::post_norm::{Embeddings, Layer, PostNormEncoder};
use super::relative::{BUCKETS, RelativeBias};
use crate::error::{EngineError, Result};
use crate::nn::{Embedding, Heads, LayerNorm, Linear};
use crate::params::{Builder, Init};
use crate::policy::Anatomy;
use finetuned::domain::backbone::Backbone;

/// Which of them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum BertFamily {
    Bert,
    Roberta,
    XlmRoberta,
    Mpnet,
}

/// The fields of `config.json` that the encoder and its heads read.
#[derive(Clone, Debug, Deserialize)]
struct BertConfig {
    model_type: BertFamily,
    vocab_size: i64,
    hidden_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    intermediate_size: i64,
    #[serde(default = "default::gelu")]
    hidden_act: String,
    #[serde(default = "default::tenth")]
    hidden_dropout_prob: f64,
    #[serde(default = "default::tenth")]
    attention_probs_dropout_prob: f64,
    max_position_embeddings: i64,
    #[serde(default = "default::two")]
    type_vocab_size: i64,
    #[serde(default = "default::initializer_range")]
    initializer_range: f64,
    #[serde(default = "default::layer_norm_eps")]
    layer_norm_eps: f64,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default)]
    add_cross_attention: bool,
    classifier_dropout: Option<f64>,
    pad_token_id: Option<i64>,
    relative_attention_num_buckets: Option<i64>,
    #[serde(default = "default::yes")]
    tie_word_embeddings: bool,
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// Reads a `config.json` of these families.
pub(super) fn parse(json: &str) -> Result<TextConfig> {
    let config = BertConfig::parse(json)?;
    let (class, prefix) = match config.model_type {
        BertFamily::Bert => ("Bert", "bert"),
        BertFamily::Roberta => ("Roberta", "roberta"),
        BertFamily::XlmRoberta => ("XLMRoberta", "roberta"),
        BertFamily::Mpnet => ("MPNet", "mpnet"),
    };
    Ok(TextConfig {
        class,
        backbone: Backbone::TextTransformer,
        anatomy: Anatomy {
            backbone: prefix,
            embeddings: &["embeddings"],
            layers: number(config.num_hidden_layers),
            adapted: if config.model_type == BertFamily::Mpnet { &["q", "v"] } else { &["query", "value"] },
            ..Anatomy::default()
        },
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        max_tokens: config.max_position_embeddings - config.first_position(),
        initializer_range: config.initializer_range,
        has_token_types: config.type_vocab_size > 1,
        classification: config.classification_head(),
        words: config.word_head()?.if_tied(config.tie_word_embeddings),
        causal: encoder_only(),
        encoder: Box::new(move |path| Ok(Box::new(encoder(path, &config)?))),
    })
}

fn roberta_output(root: &Builder<'_, '_>, width: i64, outputs: i64, init: Init) -> Result<Linear> {
    Linear::with_init(&root.at("classifier.out_proj"), width, outputs, init)
}

impl BertConfig {
    fn parse(json: &str) -> Result<Self> {
        let mut config: Self = read(json)?;
        check_numbers(&[
            ("vocab_size", config.vocab_size, &WORDS),
            ("hidden_size", config.hidden_size, &WIDTH),
            ("num_hidden_layers", config.num_hidden_layers, &LAYERS),
            ("intermediate_size", config.intermediate_size, &INNER_WIDTH),
            ("max_position_embeddings", config.max_position_embeddings, &POSITIONS),
            ("type_vocab_size", config.type_vocab_size, &FEW),
        ])?;
        check_dropouts(&[
            ("hidden_dropout_prob", config.hidden_dropout_prob),
            ("attention_probs_dropout_prob", config.attention_probs_dropout_prob),
            ("classifier_dropout", config.classifier_dropout.unwrap_or_default()),
        ])?;
        activation("hidden_act", &config.hidden_act)?;
        if config.position_embedding_type != "absolute" {
            return refuse("position_embedding_type", &config.position_embedding_type, "absolute");
        }
        if config.is_decoder || config.add_cross_attention {
            return refuse("is_decoder or add_cross_attention", true, "false");
        }
        check_heads("num_attention_heads", config.num_attention_heads, "hidden_size", config.hidden_size)?;
        if config.model_type == BertFamily::Mpnet {
            // Transformers' MPNet has no such fields, and its padding is 1 whatever the config says.
            (config.type_vocab_size, config.classifier_dropout, config.pad_token_id) = (1, None, Some(1));
            if let Some(other) = config.relative_attention_num_buckets.filter(|&buckets| buckets != BUCKETS) {
                return refuse("relative_attention_num_buckets", other, "32");
            }
        }
        let (first, rows) = (config.first_position(), config.max_position_embeddings);
        if first < 0 || rows - first < *POSITIONS.start() {
            let room = format!("0 and more, with room for {} positions after it", POSITIONS.start());
            return refuse("pad_token_id", first - 1, &room);
        }
        Ok(config)
    }

    /// Row of the position table that the first token reads: all but BERT count from the one after the padding's.
    fn first_position(&self) -> i64 {
        if self.model_type == BertFamily::Bert { 0 } else { self.pad_token_id.unwrap_or(1).saturating_add(1) }
    }

    /// BERT's classifier has a pooler that belongs to the encoder's checkpoint; the others' have a layer of their own.
    fn classification_head(&self) -> ClassificationHead {
        let dropout = self.classifier_dropout.unwrap_or(self.hidden_dropout_prob);
        let dense = |path| vec![Step::Linear { path, has_bias: true }, Step::Activation(tanh)];
        let (pooler, steps, output) = if self.model_type == BertFamily::Bert {
            (dense("bert.pooler.dense"), vec![Step::Dropout(dropout)], classifier as MakeOutput)
        } else {
            let mut steps = dense("classifier.dense");
            steps.insert(0, Step::Dropout(dropout));
            steps.push(Step::Dropout(dropout));
            (Vec::new(), steps, roberta_output as MakeOutput)
        };
        ClassificationHead { pooling: pooling::first, pooler, steps, output }
    }

    /// RoBERTa's and MPNet's head has GELU whatever its encoder has.
    fn word_head(&self) -> Result<WordHead> {
        let (dense, norm, activation, bias) = if self.model_type == BertFamily::Bert {
            let activation = activation("hidden_act", &self.hidden_act)?;
            let dense = "cls.predictions.transform.dense";
            (dense, "cls.predictions.transform.LayerNorm", activation, "cls.predictions.bias")
        } else {
            ("lm_head.dense", "lm_head.layer_norm", gelu as _, "lm_head.bias")
        };
        let steps = vec![
            Step::Linear { path: dense, has_bias: true },
            Step::Activation(activation),
            Step::Norm { path: norm, eps: self.layer_norm_eps, has_bias: true },
        ];
        Ok(WordHead { steps, bias: Some(bias) })
    }
}

/// The encoder at `path` (in checkpoints of task models: `bert`, `roberta` or `mpnet`), without the pooler, which
/// belongs to BERT's classifier.
fn encoder(path: &Builder<'_, '_>, config: &BertConfig) -> Result<PostNormEncoder> {
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
        heads: Heads::alike(config.num_attention_heads, width),
        attention_dropout: config.attention_probs_dropout_prob,
        attention_output_dropout: config.hidden_dropout_prob,
        output_dropout: config.hidden_dropout_prob,
    })
}
