//! GPT-2 (Radford et al. 2019) as in Transformers' `GPT2Model`: a pre-norm decoder with a table of positions, whose linear
//! layers are stored transposed.

use std::rc::Rc;

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::super::config::{
    Activation, INNER_WIDTH, LAYERS, POSITIONS, WIDTH, WORDS, activation, check_dropouts, check_heads, check_numbers,
    default, number, read, refuse,
};
use super::architecture::{CausalHead, TextConfig};
use super::decoder_config::{classification, no_masks};
use super::{TextBackbone, Tokens};
use crate::error::Result;
use crate::nn::causal::{self, Causal, Sight};
use crate::nn::{Embedding, Heads, Hidden, LayerNorm, Linear, Mode, checkpointed, functional};
use crate::params::Builder;
use crate::policy::Anatomy;
use finetuned::domain::backbone::Backbone;

/// The fields of `config.json` that are read.
#[derive(Clone, Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "Transformers' fields")]
struct Gpt2Config {
    vocab_size: i64,
    n_positions: i64,
    n_embd: i64,
    n_layer: i64,
    n_head: i64,
    n_inner: Option<i64>,
    #[serde(default = "gelu_new")]
    activation_function: String,
    #[serde(default = "default::tenth")]
    resid_pdrop: f64,
    #[serde(default = "default::tenth")]
    embd_pdrop: f64,
    #[serde(default = "default::tenth")]
    attn_pdrop: f64,
    #[serde(default = "layer_norm_epsilon")]
    layer_norm_epsilon: f64,
    #[serde(default = "default::initializer_range")]
    initializer_range: f64,
    #[serde(default = "default::yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    add_cross_attention: bool,
    #[serde(default = "default::yes")]
    tie_word_embeddings: bool,
}

fn gelu_new() -> String {
    "gelu_new".to_owned()
}
fn layer_norm_epsilon() -> f64 {
    1e-5
}

/// Reads a `config.json` of the family.
pub(super) fn parse(json: &str) -> Result<TextConfig> {
    let config = Gpt2Config::parse(json)?;
    Ok(TextConfig {
        class: "GPT2",
        backbone: Backbone::TextDecoder,
        anatomy: Anatomy {
            backbone: "transformer",
            embeddings: &["wte", "wpe"],
            outputs: &["lm_head"],
            layers: number(config.n_layer),
            adapted: &["c_attn", "c_proj", "c_fc"],
            is_transposed: true,
        },
        vocab_size: config.vocab_size,
        hidden_size: config.n_embd,
        intermediate_size: config.inner(),
        max_tokens: config.n_positions,
        initializer_range: config.initializer_range,
        has_token_types: false,
        classification: classification(),
        words: Err(no_masks("GPT2")),
        causal: Ok(CausalHead {
            class: "GPT2LMHeadModel".to_owned(),
            is_tied: config.tie_word_embeddings,
            softcap: None,
        }),
        encoder: Box::new(move |path| Ok(Box::new(Gpt2::new(path, &config)?))),
    })
}

impl Gpt2Config {
    fn parse(json: &str) -> Result<Self> {
        let config: Self = read(json)?;
        check_numbers(&[
            ("vocab_size", config.vocab_size, &WORDS),
            ("n_positions", config.n_positions, &POSITIONS),
            ("n_embd", config.n_embd, &WIDTH),
            ("n_layer", config.n_layer, &LAYERS),
            ("n_inner", config.inner(), &INNER_WIDTH),
        ])?;
        check_dropouts(&[
            ("resid_pdrop", config.resid_pdrop),
            ("embd_pdrop", config.embd_pdrop),
            ("attn_pdrop", config.attn_pdrop),
        ])?;
        check_heads("n_head", config.n_head, "n_embd", config.n_embd)?;
        for (field, value, supported) in [
            ("scale_attn_weights", config.scale_attn_weights, true),
            ("scale_attn_by_inverse_layer_idx", config.scale_attn_by_inverse_layer_idx, false),
            ("add_cross_attention", config.add_cross_attention, false),
        ] {
            if value != supported {
                return refuse(field, value, &supported.to_string());
            }
        }
        activation("activation_function", &config.activation_function)?;
        Ok(config)
    }

    fn inner(&self) -> i64 {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }
}

struct Layer {
    attention_norm: LayerNorm,
    query_key_value: Linear,
    attention_output: Linear,
    network_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    activation: Activation,
    causal: Causal,
    attention_dropout: f64,
    dropout: f64,
    compute: Kind,
}

impl Layer {
    fn new(path: &Builder<'_, '_>, config: &Gpt2Config) -> Result<Self> {
        let (attention, network) = (path.at("attn"), path.at("mlp"));
        let (width, inner) = (config.n_embd, config.inner());
        let norm = |name: &str| LayerNorm::new(&path.at(name), width, config.layer_norm_epsilon);
        let heads = Heads::alike(config.n_head, width);
        Ok(Self {
            attention_norm: norm("ln_1")?,
            query_key_value: Linear::transposed(&attention.at("c_attn"), width, 3 * width)?,
            attention_output: Linear::transposed(&attention.at("c_proj"), width, width)?,
            network_norm: norm("ln_2")?,
            intermediate: Linear::transposed(&network.at("c_fc"), width, inner)?,
            output: Linear::transposed(&network.at("c_proj"), inner, width)?,
            activation: activation("activation_function", &config.activation_function)?,
            causal: Causal { heads, reach: None, scale: 1.0 / (heads.size as f64).sqrt(), softcap: None },
            attention_dropout: config.attn_pdrop,
            dropout: config.resid_pdrop,
            compute: path.compute(),
        })
    }

    fn attend(&self, x: &Tensor, sight: Sight<'_>, mode: &Mode) -> Result<Tensor> {
        let normed = self.attention_norm.forward(x)?.f_to_kind(self.compute)?;
        let qkv = self.query_key_value.forward(&normed, mode)?;
        causal::attention(&qkv, sight, &self.causal, None, self.attention_dropout, mode)
    }

    /// Everything after attention, which looks at each token alone: `x` in float32.
    fn transform(&self, x: &Tensor, attended: &Tensor, mode: &Mode) -> Result<Tensor> {
        let out = self.attention_output.forward(attended, mode)?;
        let x = x.f_add(&functional::dropout(&out, self.dropout, mode)?)?;
        let normed = self.network_norm.forward(&x)?.f_to_kind(self.compute)?;
        let inner = (self.activation)(&self.intermediate.forward(&normed, mode)?)?;
        let out = self.output.forward(&inner, mode)?;
        Ok(x.f_add(&functional::dropout(&out, self.dropout, mode)?)?)
    }
}

/// The decoder.
struct Gpt2 {
    words: Embedding,
    positions: Embedding,
    dropout: f64,
    layers: Rc<Vec<Layer>>,
    final_norm: LayerNorm,
    compute: Kind,
}

impl Gpt2 {
    /// The decoder at `path` (in checkpoints of language models: `transformer`).
    fn new(path: &Builder<'_, '_>, config: &Gpt2Config) -> Result<Self> {
        let at = path.at("h");
        let layers = (0..config.n_layer).map(|i| Layer::new(&at.at(i), config)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            words: Embedding::new(&path.at("wte"), config.vocab_size, config.n_embd)?,
            positions: Embedding::new(&path.at("wpe"), config.n_positions, config.n_embd)?,
            dropout: config.embd_pdrop,
            layers: Rc::new(layers),
            final_norm: LayerNorm::new(&path.at("ln_f"), config.n_embd, config.layer_norm_epsilon)?,
            compute: path.compute(),
        })
    }
}

impl TextBackbone for Gpt2 {
    fn hidden(&self, tokens: &Tokens, rows: Option<&Tensor>, mode: &Mode) -> Result<Hidden> {
        let embedded = self.words.forward(&tokens.ids)?.f_add(&self.positions.forward(&tokens.positions)?)?;
        let mut x = functional::dropout(&embedded, self.dropout, mode)?;
        let tokens = Rc::new(tokens.shared());
        for number in 0..self.layers.len() {
            let (layers, tokens) = (Rc::clone(&self.layers), Rc::clone(&tokens));
            let rows = rows.filter(|_| number + 1 == self.layers.len()).map(Tensor::shallow_clone);
            let layer = move |mut x: Tensor, _, mode: &Mode| {
                let layer = &layers[number];
                let mut attended = layer.attend(&x, tokens.sight(number), mode)?;
                if let Some(rows) = &rows {
                    x = x.f_index_select(0, rows)?;
                    attended = attended.f_index_select(0, rows)?;
                }
                Ok((layer.transform(&x, &attended, mode)?, None))
            };
            (x, _) = checkpointed(number, layer, (x, None), mode)?;
        }
        Hidden::new(self.final_norm.forward(&x)?, self.compute)
    }

    fn words(&self) -> &Embedding {
        &self.words
    }
}
