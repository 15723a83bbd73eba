//! What decoders are made of: fused CPU kernels, attention of packed sequences on CUDA devices, and [`reference`] in plain libtorch
//! operators, which everything else uses and the tests hold the kernels against.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use super::functional::on_cpu;
use super::packed;
use super::{Heads, KvCache, Mode, RmsNorm, Rotation, Seen, Sequences};
use crate::error::Result;
use crate::native::decoder::{self as native, CausalShape, RmsScale};
use crate::native::lora::Origin;

/// How a decoder's layer attends.
#[derive(Clone, Copy, Debug)]
pub struct Causal {
    pub heads: Heads,
    /// How far back a token sees; None for all the way.
    pub reach: Option<i64>,
    /// What scores are multiplied by.
    pub scale: f64,
    /// Scores are squeezed to between minus this and this by a hyperbolic tangent (Gemma 2).
    pub softcap: Option<f64>,
}

impl Causal {
    fn seen(&self) -> Seen {
        self.reach.map_or(Seen::Causal, Seen::CausalWindow)
    }
}

/// What the tokens of a batch can see.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    pub sequences: &'a Sequences,
    /// Where the batch is one sequence that goes on: what was read of it, and the number of the layer that asks.
    pub past: Option<(&'a RefCell<KvCache>, usize)>,
}

/// Bytes of the logits that are there at once: enough rows for matrix products to be fast, few beside a model's activations.
const LOGITS_BYTES: i64 = 64 << 20;
/// A GPU is fast from this many rows on.
const DEVICE_ROWS: i64 = 4096;

fn scale_of(norm: &RmsNorm) -> RmsScale<'_> {
    RmsScale { weight: &norm.weight, offset: norm.offset, eps: norm.eps }
}

/// What a norm is made of, where it can be made again; None where it is kept.
pub fn of_norm<'a>(sum: &'a Tensor, norm: &'a RmsNorm) -> Option<Origin<'a>> {
    on_cpu(sum).then(|| Origin::RmsNorm(sum, scale_of(norm)))
}

/// The same of what [`swiglu`] gives.
pub fn of_swiglu(x: &Tensor) -> Option<Origin<'_>> {
    on_cpu(x).then_some(Origin::Swiglu(x))
}

/// The norm of `x` (float32 `[T, D]`) in `compute`.
pub fn rms_norm(x: &Tensor, norm: &RmsNorm, compute: Kind) -> Result<Tensor> {
    if on_cpu(x) { native::rms_norm(x, &scale_of(norm), compute) } else { reference::rms_norm(x, norm, compute) }
}

/// The residual stream `[T, D]` in float32 after `x` (in the compute type) is added, and its norm in the type of `x`.
pub fn add_rms_norm(x: &Tensor, residual: &Tensor, norm: &RmsNorm) -> Result<(Tensor, Tensor)> {
    if on_cpu(x) {
        native::add_rms_norm(x, residual, &scale_of(norm))
    } else {
        reference::add_rms_norm(x, residual, norm)
    }
}

/// `silu(gate) * up` of `x` `[T, 2 I]`, the gate first: `[T, I]`.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    if on_cpu(x) { native::swiglu(x) } else { reference::swiglu(x) }
}

/// Softmax attention of every token over itself and those before it in its sequence: `qkv` `[T, W]` (see
/// [`Heads::widths`]) to `[T, N D]` of the query heads. Queries and keys are turned by `rotation`; dropout on the
/// probabilities with `p`, but where the batch goes on from tokens that were read before.
pub fn attention(
    qkv: &Tensor,
    sight: Sight<'_>,
    causal: &Causal,
    rotation: Option<&Rotation>,
    p: f64,
    mode: &Mode,
) -> Result<Tensor> {
    let Sight { sequences, past } = sight;
    if let Some((cache, layer)) = past {
        return reference::attention_to_past(qkv, &mut cache.borrow_mut(), layer, causal, rotation);
    }
    let (p, _) = mode.dropout(p);
    let Heads { query, key_value, size } = causal.heads;
    if p == 0.0 && causal.softcap.is_none() && on_cpu(qkv) {
        let reach = causal.reach.unwrap_or(i64::MAX);
        let shape =
            CausalShape { longest: sequences.longest, query, key_value, head_size: size, reach, scale: causal.scale };
        return native::causal_attention(qkv, rotation.map(Rotation::angles), &sequences.offsets, shape);
    }
    let seen = causal.seen().within(sequences.longest);
    if causal.softcap.is_none() && packed::has_kernel(qkv, sequences, causal.heads, seen) {
        let turned = rotation.map(|rotation| rotation.apply(qkv, causal.heads)).transpose()?;
        return packed::attention(turned.as_ref().unwrap_or(qkv), sequences, causal.heads, seen, causal.scale, p);
    }
    reference::attention(qkv, sequences, causal, rotation, p)
}

/// The loss of each row of `x` `[R, D]` whose logits are `x weightᵀ` (`weight` `[V, D]`, of one type with `x`) and whose word is
/// `targets` (int64 `[R]`): float32 `[R]`, and int64 `[R]`, 1 where the word is the likeliest. The logits are never there as
/// a whole.
pub fn linear_cross_entropy(x: &Tensor, weight: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
    let bytes = weight.size()[0] * if x.kind() == Kind::Float { 4 } else { 2 };
    let rows = if on_cpu(x) { LOGITS_BYTES / bytes.max(1) } else { DEVICE_ROWS };
    native::linear_cross_entropy(x, weight, targets, rows.max(16))
}

/// The same operators in plain libtorch. Dropout draws from libtorch's generator.
pub mod reference {
    use super::super::functional::reference::{packed, padded};
    use super::{Causal, Heads, Kind, KvCache, Result, RmsNorm, Rotation, Seen, Sequences, Tensor};

    /// See [`super::rms_norm`].
    pub fn rms_norm(x: &Tensor, norm: &RmsNorm, compute: Kind) -> Result<Tensor> {
        Ok(norm.forward(x)?.f_to_kind(compute)?)
    }

    /// See [`super::add_rms_norm`].
    pub fn add_rms_norm(x: &Tensor, residual: &Tensor, norm: &RmsNorm) -> Result<(Tensor, Tensor)> {
        let sum = residual.f_add(x)?;
        let low = rms_norm(&sum, norm, x.kind())?;
        Ok((sum, low))
    }

    /// See [`super::swiglu`].
    pub fn swiglu(x: &Tensor) -> Result<Tensor> {
        let parts = x.f_chunk(2, -1)?;
        Ok(parts[0].f_silu()?.f_mul(&parts[1])?)
    }

    /// See [`super::attention`]. Sequences are padded and packed again.
    pub fn attention(
        qkv: &Tensor,
        sequences: &Sequences,
        causal: &Causal,
        rotation: Option<&Rotation>,
        p: f64,
    ) -> Result<Tensor> {
        let heads = causal.heads;
        let turned = rotation.map(|rotation| rotation.apply(qkv, heads)).transpose()?;
        let (q, k, v) = padded(turned.as_ref().unwrap_or(qkv), sequences, heads)?;
        let seen = causal.seen().within(sequences.longest);
        let out = if sequences.are_even() && seen == Seen::Causal && causal.softcap.is_none() {
            dot_product([&q, &k, &v], None, causal, p)?
        } else {
            attend([&q, &k, &v], &sequences.mask(seen, qkv.device())?, causal, p)?
        };
        packed(&out, sequences)
    }

    /// Attention of the tokens of one sequence that follow those in `cache`, to which they are added.
    pub(super) fn attention_to_past(
        qkv: &Tensor,
        cache: &mut KvCache,
        layer: usize,
        causal: &Causal,
        rotation: Option<&Rotation>,
    ) -> Result<Tensor> {
        let (heads, tokens) = (causal.heads, qkv.size()[0]);
        let turned = rotation.map(|rotation| rotation.apply(qkv, heads)).transpose()?;
        let all = turned.as_ref().unwrap_or(qkv);
        let split = all.f_view([tokens, heads.query + 2 * heads.key_value, heads.size])?.f_transpose(0, 1)?;
        let part = |start, count| split.f_narrow(0, start, count);
        let q = part(0, heads.query)?.f_unsqueeze(0)?;
        let (k, v) = (part(heads.query, heads.key_value)?, part(heads.query + heads.key_value, heads.key_value)?);
        let start = cache.length();
        let (k, v) = cache.extend(layer, &k, &v)?;
        let at = |from: i64, count: i64| Tensor::f_arange_start(from, from + count, (Kind::Int64, qkv.device()));
        let before = at(start, tokens)?.f_unsqueeze(1)?.f_sub(&at(0, start + tokens)?)?;
        let reach = causal.reach.unwrap_or(i64::MAX);
        let mask = before.f_ge(0)?.f_logical_and(&before.f_le(reach)?)?;
        let out = attend([&q, &k.f_unsqueeze(0)?, &v.f_unsqueeze(0)?], &mask, causal, 0.0)?;
        Ok(out.f_squeeze_dim(0)?.f_transpose(0, 1)?.f_reshape([tokens, -1])?)
    }

    /// Queries `[.., N, T, D]` on keys and values `[.., K, L, D]` where `mask` is true.
    fn attend([q, k, v]: [&Tensor; 3], mask: &Tensor, causal: &Causal, p: f64) -> Result<Tensor> {
        let heads = causal.heads;
        let Some(cap) = causal.softcap else { return dot_product([q, k, v], Some(mask), causal, p) };
        let (k, v) = (repeated(k, heads)?, repeated(v, heads)?);
        let scores = q.f_matmul(&k.f_transpose(2, 3)?)?.f_mul_scalar(causal.scale)?;
        let scores = scores.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?;
        let scores = scores.f_masked_fill(&mask.f_logical_not()?, f64::NEG_INFINITY)?;
        let probabilities = scores.f_softmax(-1, Kind::Float)?.f_to_kind(q.kind())?.f_dropout(p, p > 0.0)?;
        Ok(probabilities.f_matmul(&v)?)
    }

    /// The same by libtorch's own operator; without a mask each query sees the keys up to its own place.
    fn dot_product([q, k, v]: [&Tensor; 3], mask: Option<&Tensor>, causal: &Causal, p: f64) -> Result<Tensor> {
        let (scale, is_grouped) = (Some(causal.scale), causal.heads.query != causal.heads.key_value);
        Ok(Tensor::f_scaled_dot_product_attention(q, k, v, mask, p, mask.is_none(), scale, is_grouped)?)
    }

    /// Keys or values `[S, K, L, D]` for each head of queries, `[S, N, L, D]`.
    fn repeated(x: &Tensor, heads: Heads) -> Result<Tensor> {
        Ok(x.f_repeat_interleave_self_int(heads.query / heads.key_value, 1, None)?)
    }

    /// See [`super::linear_cross_entropy`].
    pub fn linear_cross_entropy(x: &Tensor, weight: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
        let logits = x.f_linear(weight, None::<&Tensor>)?.f_to_kind(Kind::Float)?;
        let losses = logits.f_cross_entropy_loss(targets, None::<Tensor>, tch::Reduction::None, -100, 0.0)?;
        Ok((losses, logits.f_argmax(-1, false)?.f_eq_tensor(targets)?.f_to_kind(Kind::Int64)?))
    }
}
