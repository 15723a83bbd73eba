//! Attention of packed sequences on CUDA devices.

use tch::Tensor;

use super::{Heads, Seen, Sequences};
use crate::error::Result;
use crate::native::packed::{self as native, PackedShape};

fn shape(sequences: &Sequences, heads: Heads, seen: Seen, scale: f64, dropout: f64) -> PackedShape {
    let ((left, right), Heads { query, key_value, size }) = (seen.bounds(), heads);
    PackedShape { longest: sequences.longest, query, key_value, head_size: size, left, right, scale, dropout }
}

/// Whether a kernel takes these as they are. Where all sequences are equally long and see all there is, libtorch has kernels
/// without offsets, which are faster still.
pub(super) fn has_kernel(qkv: &Tensor, sequences: &Sequences, heads: Heads, seen: Seen) -> bool {
    let is_simple = sequences.are_even() && matches!(seen, Seen::All | Seen::Causal);
    !is_simple && shape(sequences, heads, seen, 1.0, 0.0).has_kernel(qkv)
}

/// Softmax attention of every token over what it sees of its own sequence: `qkv` `[T, W]` to `[T, N D]`, where there
/// is [a kernel](has_kernel). Of the probabilities the share `p` is dropped.
pub(super) fn attention(
    qkv: &Tensor,
    sequences: &Sequences,
    heads: Heads,
    seen: Seen,
    scale: f64,
    p: f64,
) -> Result<Tensor> {
    let shape = shape(sequences, heads, seen, scale, p);
    native::attention(qkv, &sequences.offsets_on(qkv.device())?, shape)
}
