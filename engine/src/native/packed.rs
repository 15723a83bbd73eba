//! Attention of packed sequences by libtorch's CUDA kernels.

use std::ffi::c_int;
use std::ptr::null_mut;

use tch::{Kind, Tensor};

use super::{Raw, check, owned, raw};
use crate::error::Result;

unsafe extern "C" {
    fn ft_packed_attention(out: *mut Raw, qkv: Raw, offsets: Raw, shape: *const PackedShape) -> c_int;
}

/// What attention is over, laid out as `Packed` in `native/packed_attention.cpp`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PackedShape {
    /// Tokens of the longest sequence.
    pub longest: i64,
    /// Heads of queries, which share the heads of keys and values in groups.
    pub query: i64,
    pub key_value: i64,
    pub head_size: i64,
    /// How far a token sees before itself and behind itself; all the way below 0.
    pub left: i64,
    pub right: i64,
    /// What scores are multiplied by.
    pub scale: f64,
    /// The share of probabilities that is dropped, drawn by libtorch's generator.
    pub dropout: f64,
}

impl PackedShape {
    /// Whether there is a kernel for this of `qkv`: of half-precision numbers with heads of up to 256 dimensions, a multiple of 8;
    /// of float32 without groups and windows.
    pub fn has_kernel(&self, qkv: &Tensor) -> bool {
        if !qkv.device().is_cuda() {
            return false;
        }
        match qkv.kind() {
            Kind::BFloat16 | Kind::Half => self.head_size % 8 == 0 && self.head_size <= 256,
            Kind::Float => self.query == self.key_value && self.left < 0 && self.right <= 0 && self.head_size % 4 == 0,
            _ => false,
        }
    }
}

/// Softmax attention within each packed sequence: `qkv` `[tokens, (query + 2 key_value) head_size]` to
/// `[tokens, query head_size]`. `offsets` is int32 `[sequences + 1]` on its device.
///
/// # Errors
/// There is [no kernel](PackedShape::has_kernel), or libtorch fails.
pub fn attention(qkv: &Tensor, offsets: &Tensor, shape: PackedShape) -> Result<Tensor> {
    let mut out = null_mut();
    // SAFETY: the tensors outlive the call; `out` is written only on success.
    check(unsafe { ft_packed_attention(&raw mut out, raw(qkv), raw(offsets), &raw const shape) })?;
    Ok(owned(out))
}
