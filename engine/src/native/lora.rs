//! Linear layers with low-rank adapters as one operator.

use std::ffi::{c_double, c_int};
use std::ptr::null_mut;

use tch::Tensor;

use super::decoder::RmsScale;
use super::nf4::{Nf4, Parts};
use super::{Raw, check, owned, raw};
use crate::error::Result;

unsafe extern "C" {
    fn ft_lora_linear(
        out: *mut Raw,
        x: Raw,
        dropped: Raw,
        a: Raw,
        b: Raw,
        weight: Raw,
        bias: Raw,
        starts: *const i64,
        widths: *const i64,
        count: i64,
        scaling: c_double,
        way: i64,
        source: Raw,
        norm_weight: Raw,
        offset: c_double,
        eps: c_double,
        pieces: *const Raw,
        offsets: *const c_double,
        rows: *const i64,
        count_quantized: i64,
        columns: i64,
        is_transposed: c_int,
    ) -> c_int;
}

/// A frozen linear layer.
pub struct FrozenLinear<'a> {
    pub weight: FrozenWeight<'a>,
    pub bias: Option<&'a Tensor>,
}

/// The weight of a frozen layer.
pub enum FrozenWeight<'a> {
    /// `[out, in]`, of any strides.
    Dense(&'a Tensor),
    /// Read anew whenever it is needed; `[in, out]` if it is transposed.
    Quantized { weight: &'a Nf4, is_transposed: bool },
}

/// Adapters of parts of its output: `a` `[parts · r, in]`, `b` `[widths, r]` with the parts one below the other, and where each
/// part begins and how wide it is.
pub struct LowRank<'a> {
    pub a: &'a Tensor,
    pub b: &'a Tensor,
    pub starts: &'a [i64],
    pub widths: &'a [i64],
    pub scaling: f64,
}

/// What the input of a layer was made of by an operator of [`decoder`](super::decoder) on the CPU: the input is made of it
/// again in backward, and not kept.
pub enum Origin<'a> {
    /// `silu(gate) * up` of this.
    Swiglu(&'a Tensor),
    /// The norm of this.
    RmsNorm(&'a Tensor, RmsScale<'a>),
}

/// `x Wᵀ + b`, and in each part `scaling · B A dropped` more: `x` `[T, in]` to `[T, out]`. `dropped` is `x` after dropout,
/// where there is any. Without it and with an `origin` of `x` that is kept, and `x` is not.
pub fn lora_linear(
    x: &Tensor,
    dropped: Option<&Tensor>,
    origin: Option<&Origin<'_>>,
    layer: &FrozenLinear<'_>,
    adapters: &LowRank<'_>,
) -> Result<Tensor> {
    let mut out = null_mut();
    let optional = |tensor: Option<&Tensor>| tensor.map_or(null_mut(), raw);
    let (way, source, norm) = match origin {
        None => (0, None, None),
        Some(Origin::Swiglu(source)) => (1, Some(*source), None),
        Some(Origin::RmsNorm(source, scale)) => (2, Some(*source), Some(scale)),
    };
    let (dense, quantized, is_transposed) = match layer.weight {
        FrozenWeight::Dense(weight) => (Some(weight), Parts::default(), false),
        FrozenWeight::Quantized { weight, is_transposed } => (None, weight.parts(), is_transposed),
    };
    let count = adapters.starts.len().min(adapters.widths.len()) as i64;
    // SAFETY: the tensors outlive the call, both slices have `count` numbers, and the shim takes null for what is not there.
    check(unsafe {
        ft_lora_linear(
            &raw mut out,
            raw(x),
            optional(dropped),
            raw(adapters.a),
            raw(adapters.b),
            optional(dense),
            optional(layer.bias),
            adapters.starts.as_ptr(),
            adapters.widths.as_ptr(),
            count.max(1),
            adapters.scaling,
            way,
            optional(source),
            optional(norm.map(|scale| scale.weight)),
            norm.map_or(0.0, |scale| scale.offset),
            norm.map_or(0.0, |scale| scale.eps),
            quantized.pieces.as_ptr(),
            quantized.offsets.as_ptr(),
            quantized.rows.as_ptr(),
            quantized.count,
            quantized.columns,
            c_int::from(is_transposed),
        )
    })?;
    Ok(owned(out))
}
