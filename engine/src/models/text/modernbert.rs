//! ModernBERT (Warner et al. 2024, arXiv:2412.13663) as in Transformers' `ModernBertModel`: a pre-norm encoder with
//! rotary positions, gated feed-forward networks, and layers that see a window of the sequence in turn with layers that
//! see all.

use tch::{Kind, Tensor};

use super::super::config::{Activation, activation, number};
use super::super::heads::Step;
use super::architecture::{ClassificationHead, TextConfig, WordHead, classifier, encoder_only};
use super::modernbert_config::{LayerType, ModernBertConfig};
use super::{TextBackbone, Tokens};
use crate::error::Result;
use crate::nn::{Embedding, Heads, Hidden, LayerNorm, Linear, Mode, Rotary, Rotation, Seen, functional};
use crate::params::{Builder, Init};
use crate::policy::Anatomy;
use finetuned::domain::backbone::Backbone;

/// Reads a `config.json` of the family.
pub(super) fn parse(json: &str) -> Result<TextConfig> {
    let config = ModernBertConfig::parse(json)?;
    let transform = vec![
        Step::Linear { path: "head.dense", has_bias: config.classifier_bias },
        Step::Activation(activation("classifier_activation", &config.classifier_activation)?),
        Step::Norm { path: "head.norm", eps: config.norm_eps, has_bias: config.norm_bias },
    ];
    Ok(TextConfig {
        class: "ModernBert",
        backbone: Backbone::TextTransformer,
        anatomy: Anatomy {
            backbone: "model",
            embeddings: &["embeddings"],
            layers: number(config.num_hidden_layers),
            adapted: &["Wqkv"],
            ..Anatomy::default()
        },
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        max_tokens: config.max_position_embeddings,
        initializer_range: config.initializer_range,
        has_token_types: false,
        classification: ClassificationHead {
            pooling: config.classifier_pooling.pooling(),
            pooler: Vec::new(),
            steps: [transform.as_slice(), &[Step::Dropout(config.classifier_dropout)]].concat(),
            output: classifier,
        },
        words: WordHead { steps: transform, bias: config.decoder_bias.then_some("decoder.bias") }
            .if_tied(config.tie_word_embeddings),
        causal: encoder_only(),
        encoder: Box::new(move |path| Ok(Box::new(ModernBert::new(path, &config)?))),
    })
}

/// A linear layer of the encoder, with a bias where the config says so.
fn linear(path: &Builder<'_, '_>, input: i64, output: i64, has_bias: bool) -> Result<Linear> {
    if has_bias { Linear::new(path, input, output) } else { Linear::without_bias(path, input, output, Init::Required) }
}

fn norm(path: &Builder<'_, '_>, config: &ModernBertConfig) -> Result<LayerNorm> {
    LayerNorm::with_init(path, config.hidden_size, config.norm_eps, Init::Required, config.norm_bias)
}

struct Layer {
    /// None in the first layer, whose input the embeddings have normed.
    attention_norm: Option<LayerNorm>,
    query_key_value: Linear,
    attention_output: Linear,
    network_norm: LayerNorm,
    /// Gives the input of the activation and its gate, one after the other.
    input_and_gate: Linear,
    output: Linear,
    activation: Activation,
    heads: Heads,
    kind: LayerType,
    seen: Seen,
    attention_dropout: f64,
    network_dropout: f64,
    compute: Kind,
}

impl Layer {
    fn new(path: &Builder<'_, '_>, config: &ModernBertConfig, i: i64) -> Result<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let (attention, network) = (path.at("attn"), path.at("mlp"));
        Ok(Self {
            attention_norm: (i > 0).then(|| norm(&path.at("attn_norm"), config)).transpose()?,
            query_key_value: linear(&attention.at("Wqkv"), width, 3 * width, config.attention_bias)?,
            attention_output: linear(&attention.at("Wo"), width, width, config.attention_bias)?,
            network_norm: norm(&path.at("mlp_norm"), config)?,
            input_and_gate: linear(&network.at("Wi"), width, 2 * inner, config.mlp_bias)?,
            output: linear(&network.at("Wo"), inner, width, config.mlp_bias)?,
            activation: activation("hidden_activation", &config.hidden_activation)?,
            heads: Heads::alike(config.num_attention_heads, width),
            kind: config.layer_type(i),
            seen: match config.layer_type(i) {
                LayerType::FullAttention => Seen::All,
                LayerType::SlidingAttention => Seen::Window(config.window()),
            },
            attention_dropout: config.attention_dropout,
            network_dropout: config.mlp_dropout,
            compute: path.compute(),
        })
    }

    fn attend(&self, x: &Tensor, tokens: &Tokens, rotation: &Rotation, mode: &Mode) -> Result<Tensor> {
        let normed = self.attention_norm.as_ref().map_or_else(|| Ok(x.shallow_clone()), |norm| norm.forward(x))?;
        let qkv = self.query_key_value.forward(&normed.f_to_kind(self.compute)?, mode)?;
        let qkv = rotation.apply(&qkv, self.heads)?;
        functional::attention(&qkv, &tokens.sequences, self.heads, self.seen, self.attention_dropout, mode)
    }

    /// Everything after attention, which looks at each token alone: `x` in float32.
    fn transform(&self, x: &Tensor, attended: &Tensor, mode: &Mode) -> Result<Tensor> {
        let out = self.attention_output.forward(attended, mode)?;
        let x = x.f_add(&functional::dropout(&out, self.attention_dropout, mode)?)?;
        let normed = self.network_norm.forward(&x)?.f_to_kind(self.compute)?;
        let inner = self.input_and_gate.forward(&normed, mode)?.f_chunk(2, -1)?;
        let gated = (self.activation)(&inner[0])?.f_mul(&inner[1])?;
        let out = self.output.forward(&functional::dropout(&gated, self.network_dropout, mode)?, mode)?;
        Ok(x.f_add(&out)?)
    }
}

/// The encoder.
pub(super) struct ModernBert {
    words: Embedding,
    norm: LayerNorm,
    dropout: f64,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    global: Rotary,
    local: Rotary,
    compute: Kind,
}

impl ModernBert {
    /// The encoder at `path` (in checkpoints of task models: `model`).
    pub(super) fn new(path: &Builder<'_, '_>, config: &ModernBertConfig) -> Result<Self> {
        let embeddings = path.at("embeddings");
        let words = Embedding::new(&embeddings.at("tok_embeddings"), config.vocab_size, config.hidden_size)?;
        let first_norm = norm(&embeddings.at("norm"), config)?;
        let device = first_norm.weight.device();
        let rotary = |kind| Rotary::new(config.head_size(), config.rope_theta(kind), device);
        Ok(Self {
            words,
            norm: first_norm,
            dropout: config.embedding_dropout,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::new(&path.at("layers").at(i), config, i))
                .collect::<Result<_>>()?,
            final_norm: norm(&path.at("final_norm"), config)?,
            global: rotary(LayerType::FullAttention)?,
            local: rotary(LayerType::SlidingAttention)?,
            compute: path.compute(),
        })
    }
}

impl TextBackbone for ModernBert {
    fn hidden(&self, tokens: &Tokens, rows: Option<&Tensor>, mode: &Mode) -> Result<Hidden> {
        let (global, local) = (self.global.at(&tokens.positions)?, self.local.at(&tokens.positions)?);
        let embedded = self.norm.forward(&self.words.forward(&tokens.ids)?)?;
        let mut x = functional::dropout(&embedded, self.dropout, mode)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let rotation = match layer.kind {
                LayerType::FullAttention => &global,
                LayerType::SlidingAttention => &local,
            };
            let mut attended = layer.attend(&x, tokens, rotation, mode)?;
            if let Some(rows) = rows.filter(|_| i + 1 == self.layers.len()) {
                x = x.f_index_select(0, rows)?;
                attended = attended.f_index_select(0, rows)?;
            }
            x = layer.transform(&x, &attended, mode)?;
        }
        Hidden::new(self.final_norm.forward(&x)?, self.compute)
    }

    fn words(&self) -> &Embedding {
        &self.words
    }
}
