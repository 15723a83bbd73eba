//! BERT (Devlin et al. 2019, arXiv:1810.04805) as in Transformers' `BertModel`, on packed batches.
//!
//! Post-norm encoder with learned absolute positions. Left out: decoder use, cross-attention and relative position
//! embeddings; a config that asks for them is refused. Shapes: see [`crate::nn`].

use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::error::{EngineError, Result};
use crate::nn::{Embedding, Hidden, LayerNorm, Linear, Mode, Sequences, functional};
use crate::params::{Builder, Init};

/// The fields of `config.json` that the encoder reads.
#[derive(Clone, Debug, Deserialize)]
pub struct BertConfig {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub intermediate_size: i64,
    #[serde(default = "gelu")]
    pub hidden_act: String,
    #[serde(default = "tenth")]
    pub hidden_dropout_prob: f64,
    #[serde(default = "tenth")]
    pub attention_probs_dropout_prob: f64,
    pub max_position_embeddings: i64,
    #[serde(default = "two")]
    pub type_vocab_size: i64,
    #[serde(default = "initializer_range")]
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
}

fn gelu() -> String {
    "gelu".to_owned()
}
fn tenth() -> f64 {
    0.1
}
fn two() -> i64 {
    2
}
fn initializer_range() -> f64 {
    0.02
}
fn layer_norm_eps() -> f64 {
    1e-12
}
fn absolute() -> String {
    "absolute".to_owned()
}

impl BertConfig {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// A field is missing or asks for something that is not built; the message names it.
    pub fn parse(json: &str) -> Result<Self> {
        let config: Self = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json))
            .map_err(|error| EngineError::model(format!("config.json: {error}")))?;
        let refuse = |field: &str, value: &dyn std::fmt::Display, allowed: &str| {
            Err(EngineError::model(format!("config.json: {field} is {value}; supported: {allowed}")))
        };
        if !matches!(config.hidden_act.as_str(), "gelu" | "relu" | "gelu_new") {
            return refuse("hidden_act", &config.hidden_act, "gelu, gelu_new, relu");
        }
        if config.position_embedding_type != "absolute" {
            return refuse("position_embedding_type", &config.position_embedding_type, "absolute");
        }
        if config.is_decoder || config.add_cross_attention {
            return refuse("is_decoder or add_cross_attention", &true, "false");
        }
        if config.num_attention_heads < 1 || config.hidden_size % config.num_attention_heads != 0 {
            return refuse("num_attention_heads", &config.num_attention_heads, "a divisor of hidden_size");
        }
        Ok(config)
    }

    /// Dropout before the classifier.
    pub fn classifier_dropout(&self) -> f64 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }
}

/// The tokens of a packed batch; all int64 `[T]` on the model's device.
pub struct Tokens {
    pub ids: Tensor,
    /// Position of each token in its own sequence.
    pub positions: Tensor,
    /// Segment of each token (0 or 1 for BERT).
    pub types: Tensor,
    pub sequences: Sequences,
}

struct Embeddings {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    dropout: f64,
}

impl Embeddings {
    fn new(path: &Builder<'_, '_>, config: &BertConfig) -> Result<Self> {
        let width = config.hidden_size;
        Ok(Self {
            words: Embedding::new(&path.at("word_embeddings"), config.vocab_size, width)?,
            positions: Embedding::new(&path.at("position_embeddings"), config.max_position_embeddings, width)?,
            types: Embedding::new(&path.at("token_type_embeddings"), config.type_vocab_size, width)?,
            norm: LayerNorm::new(&path.at("LayerNorm"), width, config.layer_norm_eps)?,
            dropout: config.hidden_dropout_prob,
        })
    }

    fn forward(&self, tokens: &Tokens, compute: Kind, mode: &Mode) -> Result<Hidden> {
        let words = self.words.forward(&tokens.ids)?;
        let types = self.types.forward(&tokens.types)?;
        let positions = self.positions.forward(&tokens.positions)?;
        let sum = words.f_add(&types)?.f_add(&positions)?;
        Hidden::new(functional::dropout(&self.norm.forward(&sum)?, self.dropout, mode)?, compute)
    }
}

struct Layer {
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    activation: fn(&Tensor) -> Result<Tensor>,
    heads: i64,
    attention_dropout: f64,
    hidden_dropout: f64,
}

impl Layer {
    fn new(path: &Builder<'_, '_>, config: &BertConfig) -> Result<Self> {
        let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let attention = path.at("attention");
        Ok(Self {
            query_key_value: Linear::fused(&attention.at("self"), ["query", "key", "value"], width, width)?,
            attention_output: Linear::new(&attention.at("output").at("dense"), width, width)?,
            attention_norm: LayerNorm::new(&attention.at("output").at("LayerNorm"), width, eps)?,
            intermediate: Linear::new(&path.at("intermediate").at("dense"), width, inner)?,
            output: Linear::new(&path.at("output").at("dense"), inner, width)?,
            output_norm: LayerNorm::new(&path.at("output").at("LayerNorm"), width, eps)?,
            activation: match config.hidden_act.as_str() {
                "relu" => |x| Ok(x.f_relu()?),
                "gelu_new" => |x| Ok(x.f_gelu("tanh")?),
                _ => |x| Ok(x.f_gelu("none")?),
            },
            heads: config.num_attention_heads,
            attention_dropout: config.attention_probs_dropout_prob,
            hidden_dropout: config.hidden_dropout_prob,
        })
    }

    fn attend(&self, x: &Hidden, sequences: &Sequences, mode: &Mode) -> Result<Tensor> {
        let qkv = self.query_key_value.forward(&x.low)?;
        functional::attention(&qkv, sequences, self.heads, self.attention_dropout, mode)
    }

    /// Everything after attention, which looks at each token alone.
    fn transform(&self, x: &Hidden, attended: &Tensor, mode: &Mode) -> Result<Hidden> {
        let p = self.hidden_dropout;
        let out = self.attention_output.forward(attended)?;
        let x = functional::dropout_add_norm(&out, &x.wide, &self.attention_norm, p, mode)?;
        let inner = (self.activation)(&self.intermediate.forward(&x.low)?)?;
        let out = self.output.forward(&inner)?;
        functional::dropout_add_norm(&out, &x.wide, &self.output_norm, p, mode)
    }
}

/// Embeddings, encoder layers and the pooler (`tanh(dense(first token))`).
pub struct Bert {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    pooler: Linear,
    compute: Kind,
}

impl Bert {
    /// The encoder at `path` (in checkpoints of task models: `bert`). A checkpoint without pooler gets a new one.
    pub fn new(path: &Builder<'_, '_>, config: &BertConfig) -> Result<Self> {
        let width = config.hidden_size;
        let layer = |i| Layer::new(&path.at("encoder").at("layer").at(i), config);
        let pooler = path.at("pooler").at("dense");
        Ok(Self {
            embeddings: Embeddings::new(&path.at("embeddings"), config)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            pooler: Linear::with_init(&pooler, width, width, Init::Normal(config.initializer_range))?,
            compute: path.compute(),
        })
    }

    /// The pooled first tokens: `[S, D]` in the compute type.
    ///
    /// Only first tokens reach the pooler, so the last layer transforms them alone; its attention still sees every
    /// token, and the result is the same.
    pub fn pooled(&self, tokens: &Tokens, mode: &Mode) -> Result<Tensor> {
        let sequences = &tokens.sequences;
        let mut x = self.embeddings.forward(tokens, self.compute, mode)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let mut attended = layer.attend(&x, sequences, mode)?;
            if i + 1 == self.layers.len() {
                x = x.select(&sequences.first)?;
                attended = attended.f_index_select(0, &sequences.first)?;
            }
            x = layer.transform(&x, &attended, mode)?;
        }
        Ok(self.pooler.forward(&x.low)?.f_tanh()?)
    }
}

/// `BertForSequenceClassification`: dropout and a linear layer on the pooled first token.
pub struct BertClassifier {
    bert: Bert,
    classifier: Linear,
    dropout: f64,
}

impl BertClassifier {
    /// The classifier at the root of a checkpoint; `head` says whether its last layer starts anew.
    pub fn new(root: &Builder<'_, '_>, config: &BertConfig, classes: i64, head: Init) -> Result<Self> {
        Ok(Self {
            bert: Bert::new(&root.at("bert"), config)?,
            classifier: Linear::with_init(&root.at("classifier"), config.hidden_size, classes, head)?,
            dropout: config.classifier_dropout(),
        })
    }

    /// Logits `[S, C]` in float32.
    pub fn forward(&self, tokens: &Tokens, mode: &Mode) -> Result<Tensor> {
        let pooled = functional::dropout(&self.bert.pooled(tokens, mode)?, self.dropout, mode)?;
        Ok(self.classifier.forward(&pooled)?.f_to_kind(Kind::Float)?)
    }
}
