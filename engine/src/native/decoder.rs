//! The fused operators of decoders. References in plain libtorch operators: [`crate::nn::causal`].

use std::ffi::{c_double, c_int};
use std::ptr::null_mut;

use tch::{Kind, Tensor};

use super::{Raw, check, owned, raw};
use crate::error::Result;

unsafe extern "C" {
    fn ft_rms_norm(
        out: *mut Raw,
        x: Raw,
        residual: Raw,
        weight: Raw,
        offset: c_double,
        eps: c_double,
        low: c_int,
    ) -> c_int;
    fn ft_swiglu(out: *mut Raw, x: Raw) -> c_int;
    fn ft_causal_attention(
        out: *mut Raw,
        qkv: Raw,
        cosine: Raw,
        sine: Raw,
        offsets: Raw,
        shape: *const CausalShape,
    ) -> c_int;
    fn ft_linear_cross_entropy(out: *mut Raw, x: Raw, weight: Raw, targets: Raw, chunk: i64) -> c_int;
}

/// What a norm without mean multiplies by, and how: `offset + weight`.
pub struct RmsScale<'a> {
    /// Float32 `[width]`.
    pub weight: &'a Tensor,
    pub offset: f64,
    pub eps: f64,
}

/// The norm of `residual` (float32 `[rows, width]`) in `kind`.
pub fn rms_norm(residual: &Tensor, scale: &RmsScale<'_>, kind: Kind) -> Result<Tensor> {
    let (mut out, low) = ([null_mut(); 2], c_int::from(kind != Kind::Float));
    // SAFETY: the tensors outlive the call; `out` has the two places the shim writes.
    check(unsafe {
        ft_rms_norm(out.as_mut_ptr(), null_mut(), raw(residual), raw(scale.weight), scale.offset, scale.eps, low)
    })?;
    Ok(owned(out[0]))
}

/// The sum of `x` (float32 or bfloat16) and `residual` (float32), both `[rows, width]`, and its norm in the type of `x`.
pub fn add_rms_norm(x: &Tensor, residual: &Tensor, scale: &RmsScale<'_>) -> Result<(Tensor, Tensor)> {
    let mut out = [null_mut(); 2];
    // SAFETY: the tensors outlive the call; `out` has the two places, both of which the shim writes where x is there.
    check(unsafe {
        ft_rms_norm(out.as_mut_ptr(), raw(x), raw(residual), raw(scale.weight), scale.offset, scale.eps, 0)
    })?;
    Ok((owned(out[1]), owned(out[0])))
}

/// `silu(gate) * up` of `x` `[rows, 2 width]`, the gate before what it lets through: `[rows, width]`.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    let mut out = null_mut();
    // SAFETY: the tensor outlives the call; `out` is written only on success.
    check(unsafe { ft_swiglu(&raw mut out, raw(x)) })?;
    Ok(owned(out))
}

/// What causal attention is over, laid out as in `native/causal.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CausalShape {
    /// Tokens of the longest sequence.
    pub longest: i64,
    /// Heads of queries, which share the heads of keys and values in groups.
    pub query: i64,
    pub key_value: i64,
    pub head_size: i64,
    /// How far back a token sees.
    pub reach: i64,
    /// What scores are multiplied by.
    pub scale: f64,
}

/// Causal softmax attention within each packed sequence: `qkv` `[tokens, (query + 2 key_value) head_size]` to
/// `[tokens, query head_size]`. `angles` are cosines and sines, float32 `[tokens, head_size / 2]`, by which queries and keys
/// are turned first; `offsets` is int32 `[sequences + 1]` on the CPU.
pub fn causal_attention(
    qkv: &Tensor,
    angles: Option<(&Tensor, &Tensor)>,
    offsets: &Tensor,
    shape: CausalShape,
) -> Result<Tensor> {
    let mut out = null_mut();
    let (cosine, sine) = angles.map_or((null_mut(), null_mut()), |(cosine, sine)| (raw(cosine), raw(sine)));
    // SAFETY: the tensors outlive the call, and the shim takes null for no angles; `out` is written only on success.
    check(unsafe { ft_causal_attention(&raw mut out, raw(qkv), cosine, sine, raw(offsets), &raw const shape) })?;
    Ok(owned(out))
}

/// The cross-entropy of `x weightᵀ` against `targets`, row by row, without ever holding the logits of more than `chunk` rows:
/// `x` `[R, D]` and `weight` `[V, D]` of one type, targets int64 `[R]` below `V`. Gives the losses in float32 `[R]`, and
/// int64 `[R]`: 1 where the target is the likeliest word.
pub fn linear_cross_entropy(x: &Tensor, weight: &Tensor, targets: &Tensor, chunk: i64) -> Result<(Tensor, Tensor)> {
    let mut out = [null_mut(); 2];
    // SAFETY: the tensors outlive the call; `out` has the two places the shim writes.
    check(unsafe { ft_linear_cross_entropy(out.as_mut_ptr(), raw(x), raw(weight), raw(targets), chunk.max(1)) })?;
    Ok((owned(out[0]), owned(out[1])))
}
