//! What decoders are made of: fused CPU kernels, and [`reference`] in plain libtorch operators, which every other device
//! uses and the tests hold the kernels against.

use tch::{Device, Kind, Tensor};

use super::{Heads, Mode, RmsNorm, Rotation, Seen, Sequences};
use crate::error::Result;
use crate::native::decoder::{self as native, CausalShape, RmsScale};

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

/// Bytes of the logits that are there at once: enough rows for matrix products to be fast, few beside a model's activations.
const LOGITS_BYTES: i64 = 64 << 20;
/// A GPU is fast from this many rows on.
const DEVICE_ROWS: i64 = 4096;

fn on_cpu(x: &Tensor) -> bool {
    x.device() == Device::Cpu
}

fn scale_of(norm: &RmsNorm) -> RmsScale<'_> {
    RmsScale { weight: &norm.weight, offset: norm.offset, eps: norm.eps }
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
/// probabilities with `p`.
pub fn attention(
    qkv: &Tensor,
    sequences: &Sequences,
    causal: &Causal,
    rotation: Option<&Rotation>,
    p: f64,
    mode: &Mode,
) -> Result<Tensor> {
    let (p, key) = mode.dropout(p);
    if !on_cpu(qkv) || p > 0.0 || causal.softcap.is_some() {
        return reference::attention(qkv, sequences, causal, rotation, p, key);
    }
    let Heads { query, key_value, size } = causal.heads;
    let reach = causal.reach.unwrap_or(i64::MAX);
    let shape =
        CausalShape { longest: sequences.longest, query, key_value, head_size: size, reach, scale: causal.scale };
    native::causal_attention(qkv, rotation.map(Rotation::angles), &sequences.offsets, shape)
}

/// The loss of each row of `x` `[R, D]` whose logits are `x weightᵀ` (`weight` `[V, D]`, of one type with `x`) and whose word is
/// `targets` (int64 `[R]`): float32 `[R]`, and int64 `[R]`, 1 where the word is the likeliest. The logits are never there as
/// a whole.
pub fn linear_cross_entropy(x: &Tensor, weight: &Tensor, targets: &Tensor) -> Result<(Tensor, Tensor)> {
    let bytes = weight.size()[0] * if x.kind() == Kind::Float { 4 } else { 2 };
    let rows = if on_cpu(x) { LOGITS_BYTES / bytes.max(1) } else { DEVICE_ROWS };
    native::linear_cross_entropy(x, weight, targets, rows.max(16))
}

/// The same operators in plain libtorch. Dropout draws from libtorch's generator, seeded with the key.
pub mod reference {
    use super::super::functional::reference::{packed, padded};
    use super::{Causal, Heads, Kind, Result, RmsNorm, Rotation, Sequences, Tensor};

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
        key: u64,
    ) -> Result<Tensor> {
        let heads = causal.heads;
        let turned = rotation.map(|rotation| rotation.apply(qkv, heads)).transpose()?;
        let (q, k, v) = padded(turned.as_ref().unwrap_or(qkv), sequences, heads)?;
        let mask = sequences.mask(causal.seen().within(sequences.longest), qkv.device())?;
        if p > 0.0 {
            tch::manual_seed(key.cast_signed());
        }
        let is_grouped = heads.query != heads.key_value;
        let Some(cap) = causal.softcap else {
            let scale = Some(causal.scale);
            let out = Tensor::f_scaled_dot_product_attention(&q, &k, &v, Some(&mask), p, false, scale, is_grouped)?;
            return packed(&out, sequences);
        };
        let (k, v) = (repeated(&k, heads)?, repeated(&v, heads)?);
        let scores = q.f_matmul(&k.f_transpose(2, 3)?)?.f_mul_scalar(causal.scale)?;
        let scores = scores.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?;
        let scores = scores.f_masked_fill(&mask.f_logical_not()?, f64::NEG_INFINITY)?;
        let probabilities = scores.f_softmax(-1, Kind::Float)?.f_to_kind(qkv.kind())?.f_dropout(p, p > 0.0)?;
        packed(&probabilities.f_matmul(&v)?, sequences)
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
