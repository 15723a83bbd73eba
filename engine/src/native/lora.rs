//! Linear layers with low-rank adapters as one operator.

use std::ffi::c_double;
use std::ptr::null_mut;

use tch::Tensor;

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
    ) -> std::ffi::c_int;
}

/// A frozen linear layer.
pub struct FrozenLinear<'a> {
    /// `[out, in]`, of any strides.
    pub weight: &'a Tensor,
    pub bias: Option<&'a Tensor>,
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

/// `x Wᵀ + b`, and in each part `scaling · B A dropped` more: `x` `[T, in]` to `[T, out]`. `dropped` is `x` after dropout,
/// where there is any.
pub fn lora_linear(
    x: &Tensor,
    dropped: Option<&Tensor>,
    layer: &FrozenLinear<'_>,
    adapters: &LowRank<'_>,
) -> Result<Tensor> {
    let mut out = null_mut();
    let optional = |tensor: Option<&Tensor>| tensor.map_or(null_mut(), raw);
    let count = adapters.starts.len().min(adapters.widths.len()) as i64;
    // SAFETY: the tensors outlive the call, both slices have `count` numbers, and the shim takes null for what is not there.
    check(unsafe {
        ft_lora_linear(
            &raw mut out,
            raw(x),
            optional(dropped),
            raw(adapters.a),
            raw(adapters.b),
            raw(layer.weight),
            optional(layer.bias),
            adapters.starts.as_ptr(),
            adapters.widths.as_ptr(),
            count.max(1),
            adapters.scaling,
        )
    })?;
    Ok(owned(out))
}
