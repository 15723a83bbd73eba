//! Operators with two implementations: fused CPU kernels, and [`reference`] in plain libtorch operators, which every
//! other device uses and the tests hold the kernels against.

use tch::{Device, Tensor};

use super::{Hidden, LayerNorm, Mode, Sequences};
use crate::error::Result;
use crate::native;

/// Sequences longer than this attend through the padded reference: the fused kernel keeps a whole row-by-row score
/// matrix per head in cache, which stops paying off here.
const LONGEST_FUSED_ATTENTION: i64 = 512;

fn on_cpu(x: &Tensor) -> bool {
    x.device() == Device::Cpu
}

/// Inverted dropout (Srivastava et al. 2014) with probability `p` when training.
pub fn dropout(x: &Tensor, p: f64, mode: &Mode) -> Result<Tensor> {
    match mode.dropout(p) {
        (0.0, _) => Ok(x.shallow_clone()),
        (p, key) if on_cpu(x) => native::dropout(x, p, key),
        (p, key) => reference::dropout(x, p, key),
    }
}

/// `norm(residual + dropout(x))`, the end of every post-norm block: `x` `[T, D]` in the compute type.
pub fn dropout_add_norm(x: &Tensor, residual: &Tensor, norm: &LayerNorm, p: f64, mode: &Mode) -> Result<Hidden> {
    let (p, key) = mode.dropout(p);
    if !on_cpu(x) {
        return reference::dropout_add_norm(x, residual, norm, p, key);
    }
    let (wide, low) = native::dropout_add_norm(x, residual, &norm.weight, &norm.bias, norm.eps, p, key)?;
    let low = low.unwrap_or_else(|| wide.shallow_clone());
    Ok(Hidden { wide, low })
}

/// Softmax attention of every token over its own sequence, with dropout on the probabilities: `qkv` `[T, 3 N D]`
/// (query, key, value; each `N` heads of `D`) to `[T, N D]`.
pub fn attention(qkv: &Tensor, sequences: &Sequences, heads: i64, p: f64, mode: &Mode) -> Result<Tensor> {
    let (p, key) = mode.dropout(p);
    if on_cpu(qkv) && sequences.longest <= LONGEST_FUSED_ATTENTION {
        native::attention(qkv, &sequences.offsets, sequences.longest, heads, p, key)
    } else {
        reference::attention(qkv, sequences, heads, p, key)
    }
}

/// The same operators in plain libtorch. Dropout draws from libtorch's generator, seeded with the key.
pub mod reference {
    use super::{Hidden, LayerNorm, Result, Sequences, Tensor};

    fn seed(p: f64, key: u64) {
        if p > 0.0 {
            tch::manual_seed(key.cast_signed());
        }
    }

    /// See [`super::dropout`].
    pub fn dropout(x: &Tensor, p: f64, key: u64) -> Result<Tensor> {
        seed(p, key);
        Ok(x.f_dropout(p, p > 0.0)?)
    }

    /// See [`super::dropout_add_norm`].
    pub fn dropout_add_norm(x: &Tensor, residual: &Tensor, norm: &LayerNorm, p: f64, key: u64) -> Result<Hidden> {
        let sum = residual.f_add(&dropout(x, p, key)?)?;
        Hidden::new(norm.forward(&sum)?, x.kind())
    }

    /// See [`super::attention`]. Sequences are padded for `scaled_dot_product_attention` and packed again.
    pub fn attention(qkv: &Tensor, sequences: &Sequences, heads: i64, p: f64, key: u64) -> Result<Tensor> {
        let (count, longest) = (sequences.count(), sequences.longest);
        let size = qkv.size()[1] / 3 / heads;
        let padding = sequences.padding(qkv.device())?;
        let padded = qkv.f_index_select(0, &padding.places)?;
        let split = padded.f_view([count, longest, 3, heads, size])?.f_permute([2, 0, 3, 1, 4])?;
        let (q, k, v) = (split.f_select(0, 0)?, split.f_select(0, 1)?, split.f_select(0, 2)?);
        seed(p, key);
        let out = Tensor::f_scaled_dot_product_attention(&q, &k, &v, Some(&padding.mask), p, false, None, false)?;
        let flat = out.f_permute([0, 2, 1, 3])?.f_reshape([count * longest, heads * size])?;
        Ok(flat.f_index_select(0, &padding.kept)?)
    }
}
