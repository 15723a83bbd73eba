//! The decoder that Llama and its like are: pre-norm layers without mean, rotary positions, grouped queries, gated
//! feed-forward networks. Families differ in what [`DecoderPlan`] says.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::super::config::Activation;
use super::rope::Rope;
use super::{TextBackbone, Tokens};
use crate::error::Result;
use crate::nn::causal::{self, Causal, Sight};
use crate::nn::{Embedding, Heads, Hidden, Linear, Mode, RmsNorm, Rotary, Rotation, checkpointed};
use crate::params::{Builder, Init};

/// What a family's `config.json` says of its decoder.
#[derive(Clone)]
pub(super) struct DecoderPlan {
    pub vocab_size: i64,
    pub width: i64,
    pub inner: i64,
    pub heads: Heads,
    pub layers: Vec<LayerPlan>,
    /// What kinds of layers turn by.
    pub ropes: Vec<Rope>,
    pub norm_eps: f64,
    /// What the weights of norms are differences to.
    pub norm_offset: f64,
    /// What embeddings are multiplied by.
    pub embedding_scale: Option<f64>,
    /// What attention's scores are multiplied by.
    pub attention_scale: f64,
    pub attention_softcap: Option<f64>,
    pub attention_dropout: f64,
    pub biases: Biases,
    /// Whether each head of queries and keys is normed.
    pub has_head_norms: bool,
    /// Whether what attention and network give is normed before it is added.
    pub has_post_norms: bool,
    /// Whether checkpoints have queries, keys and values in one tensor, and the network's two inputs, too.
    pub is_joined: bool,
    /// Of the gate; None for that of [`causal::swiglu`].
    pub activation: Option<Activation>,
}

/// Which linear layers have biases.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Biases {
    pub query_key_value: bool,
    pub attention_output: bool,
    pub network: bool,
}

/// What tells layers apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerPlan {
    /// How far back a token sees.
    pub reach: Option<i64>,
    /// Its kind's place in [`DecoderPlan::ropes`].
    pub rope: usize,
}

struct Layer {
    attention_norm: RmsNorm,
    query_key_value: Linear,
    /// Of queries and of keys.
    head_norms: Option<[RmsNorm; 2]>,
    attention_output: Linear,
    after_attention: Option<RmsNorm>,
    network_norm: RmsNorm,
    gate_and_up: Linear,
    down: Linear,
    after_network: Option<RmsNorm>,
    activation: Option<Activation>,
    causal: Causal,
    rope: usize,
    dropout: f64,
}

/// The residual stream in float32, and what is still to be added to it, in the compute type.
struct Stream {
    sum: Tensor,
    pending: Option<Tensor>,
    compute: Kind,
}

impl Stream {
    /// Adds what is pending; the norm of the sum, in the compute type.
    fn normed(&mut self, norm: &RmsNorm) -> Result<Tensor> {
        let Some(pending) = self.pending.take() else { return causal::rms_norm(&self.sum, norm, self.compute) };
        let (sum, normed) = causal::add_rms_norm(&pending, &self.sum, norm)?;
        self.sum = sum;
        Ok(normed)
    }
}

impl Layer {
    fn new(path: &Builder<'_, '_>, plan: &DecoderPlan, layer: LayerPlan) -> Result<Self> {
        let (attention, network) = (path.at("self_attn"), path.at("mlp"));
        let norm = |name: &str| RmsNorm::new(&path.at(name), plan.width, plan.norm_offset, plan.norm_eps);
        let head_norm = |name| RmsNorm::new(&attention.at(name), plan.heads.size, plan.norm_offset, plan.norm_eps);
        let (after_attention, network_norm, after_network) = if plan.has_post_norms {
            let after = Some(norm("post_attention_layernorm")?);
            (after, norm("pre_feedforward_layernorm")?, Some(norm("post_feedforward_layernorm")?))
        } else {
            (None, norm("post_attention_layernorm")?, None)
        };
        let [query, key, value] = plan.heads.widths();
        let parts: &[(&str, i64)] = if plan.is_joined {
            &[("qkv_proj", query + key + value)]
        } else {
            &[("q_proj", query), ("k_proj", key), ("v_proj", value)]
        };
        let inputs: &[(&str, i64)] = if plan.is_joined {
            &[("gate_up_proj", 2 * plan.inner)]
        } else {
            &[("gate_proj", plan.inner), ("up_proj", plan.inner)]
        };
        let biases = plan.biases;
        Ok(Self {
            attention_norm: norm("input_layernorm")?,
            query_key_value: Linear::fused(&attention, parts, plan.width, biases.query_key_value)?,
            head_norms: if plan.has_head_norms { Some([head_norm("q_norm")?, head_norm("k_norm")?]) } else { None },
            attention_output: linear(&attention.at("o_proj"), query, plan.width, biases.attention_output)?,
            after_attention,
            network_norm,
            gate_and_up: Linear::fused(&network, inputs, plan.width, biases.network)?,
            down: linear(&network.at("down_proj"), plan.inner, plan.width, biases.network)?,
            after_network,
            activation: plan.activation,
            causal: Causal {
                heads: plan.heads,
                reach: layer.reach,
                scale: plan.attention_scale,
                softcap: plan.attention_softcap,
            },
            rope: layer.rope,
            dropout: plan.attention_dropout,
        })
    }

    /// Attention over the norm of `sum`, which is `normed`.
    fn attend(
        &self,
        sum: &Tensor,
        normed: &Tensor,
        sight: Sight<'_>,
        rotation: &Rotation,
        mode: &Mode,
    ) -> Result<Tensor> {
        let origin = causal::of_norm(sum, &self.attention_norm);
        let mut qkv = self.query_key_value.forward_made(normed, origin.as_ref(), mode)?;
        if let Some(norms) = &self.head_norms {
            qkv = self.with_normed_heads(&qkv, norms)?;
        }
        causal::attention(&qkv, sight, &self.causal, Some(rotation), self.dropout, mode)
    }

    fn with_normed_heads(&self, qkv: &Tensor, norms: &[RmsNorm; 2]) -> Result<Tensor> {
        let [query, key, value] = self.causal.heads.widths();
        let parts = qkv.f_split_with_sizes([query, key, value], 1)?;
        let normed = |part: &Tensor, norm: &RmsNorm| -> Result<Tensor> {
            let heads = part.f_reshape([part.size()[0], -1, self.causal.heads.size])?;
            Ok(norm.forward(&heads)?.f_to_kind(qkv.kind())?.f_flatten(1, 2)?)
        };
        let [query_norm, key_norm] = norms;
        Ok(Tensor::f_cat(&[normed(&parts[0], query_norm)?, normed(&parts[1], key_norm)?, parts[2].shallow_clone()], 1)?)
    }

    /// The network on the norm of `sum`, which is `normed`.
    fn network(&self, sum: &Tensor, normed: &Tensor, mode: &Mode) -> Result<Tensor> {
        let origin = causal::of_norm(sum, &self.network_norm);
        let inner = self.gate_and_up.forward_made(normed, origin.as_ref(), mode)?;
        match self.activation {
            None => self.down.forward_made(&causal::swiglu(&inner)?, causal::of_swiglu(&inner).as_ref(), mode),
            Some(activation) => {
                let parts = inner.f_chunk(2, -1)?;
                self.down.forward(&activation(&parts[0])?.f_mul(&parts[1])?, mode)
            }
        }
    }

    /// The stream behind this layer, whose tokens see `sight`; of those at `rows` alone, where only these are wanted.
    fn forward(
        &self,
        stream: &mut Stream,
        sight: Sight<'_>,
        rotation: &Rotation,
        rows: Option<&Tensor>,
        mode: &Mode,
    ) -> Result<()> {
        let normed = stream.normed(&self.attention_norm)?;
        let mut attended = self.attend(&stream.sum, &normed, sight, rotation, mode)?;
        if let Some(rows) = rows {
            stream.sum = stream.sum.f_index_select(0, rows)?;
            attended = attended.f_index_select(0, rows)?;
        }
        let out = self.attention_output.forward(&attended, mode)?;
        stream.pending = Some(after(out, self.after_attention.as_ref())?);
        let normed = stream.normed(&self.network_norm)?;
        let out = self.network(&stream.sum, &normed, mode)?;
        stream.pending = Some(after(out, self.after_network.as_ref())?);
        Ok(())
    }
}

/// What is added to the stream, normed first where the family does so.
fn after(out: Tensor, norm: Option<&RmsNorm>) -> Result<Tensor> {
    match norm {
        Some(norm) => Ok(norm.forward(&out)?.f_to_kind(out.kind())?),
        None => Ok(out),
    }
}

fn linear(path: &Builder<'_, '_>, input: i64, output: i64, has_bias: bool) -> Result<Linear> {
    if has_bias { Linear::new(path, input, output) } else { Linear::without_bias(path, input, output, Init::Required) }
}

/// The decoder.
pub(super) struct Decoder {
    words: Embedding,
    embedding_scale: Option<f64>,
    layers: Rc<Vec<Layer>>,
    final_norm: RmsNorm,
    rotaries: Vec<Rotary>,
    compute: Kind,
}

impl Decoder {
    /// The decoder at `path` (in checkpoints of language models: `model`).
    pub(super) fn new(path: &Builder<'_, '_>, plan: &DecoderPlan) -> Result<Self> {
        let layer = |(i, &layer): (usize, &LayerPlan)| Layer::new(&path.at("layers").at(i), plan, layer);
        let words = Embedding::new(&path.at("embed_tokens"), plan.vocab_size, plan.width)?;
        let layers = plan.layers.iter().enumerate().map(layer).collect::<Result<Vec<_>>>()?;
        let final_norm = RmsNorm::new(&path.at("norm"), plan.width, plan.norm_offset, plan.norm_eps)?;
        let device: Device = final_norm.weight.device();
        let rotary = |rope: &Rope| Rotary::of(&rope.frequencies, rope.magnitude, device);
        Ok(Self {
            words,
            embedding_scale: plan.embedding_scale,
            layers: Rc::new(layers),
            final_norm,
            rotaries: plan.ropes.iter().map(rotary).collect::<Result<_>>()?,
            compute: path.compute(),
        })
    }
}

impl TextBackbone for Decoder {
    fn hidden(&self, tokens: &Tokens, rows: Option<&Tensor>, mode: &Mode) -> Result<Hidden> {
        let rotations = self.rotaries.iter().map(|rotary| rotary.at(&tokens.positions)).collect::<Result<Vec<_>>>()?;
        let mut embedded = self.words.forward(&tokens.ids)?;
        if let Some(scale) = self.embedding_scale {
            embedded = embedded.f_mul_scalar(scale)?;
        }
        let (rotations, tokens) = (Rc::new(rotations), Rc::new(tokens.shared()));
        let mut parts = (embedded, None);
        for number in 0..self.layers.len() {
            let (layers, rotations, tokens) = (Rc::clone(&self.layers), Rc::clone(&rotations), Rc::clone(&tokens));
            let rows = rows.filter(|_| number + 1 == self.layers.len()).map(Tensor::shallow_clone);
            let compute = self.compute;
            let layer = move |sum, pending, mode: &Mode| {
                let (layer, mut stream) = (&layers[number], Stream { sum, pending, compute });
                layer.forward(&mut stream, tokens.sight(number), &rotations[layer.rope], rows.as_ref(), mode)?;
                Ok((stream.sum, stream.pending))
            };
            parts = checkpointed(number, layer, parts, mode)?;
        }
        let mut stream = Stream { sum: parts.0, pending: parts.1, compute: self.compute };
        let low = stream.normed(&self.final_norm)?;
        Ok(Hidden { wide: low.f_to_kind(Kind::Float)?, low })
    }

    fn words(&self) -> &Embedding {
        &self.words
    }
}
