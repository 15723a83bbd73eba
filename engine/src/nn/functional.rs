//! Operators with two implementations: fused CPU kernels, and [`reference`] in plain libtorch operators, which every
//! other device uses and the tests hold the kernels against.

use tch::{Device, Kind, Tensor};

use super::packed;
use super::{Heads, Hidden, LayerNorm, Mode, Seen, Sequences};
use crate::error::Result;
use crate::native;

/// Sequences longer than this attend through the padded reference: the fused kernel keeps a whole row-by-row score
/// matrix per head in cache, which stops paying off here.
const LONGEST_FUSED_ATTENTION: i64 = 512;

pub(super) fn on_cpu(x: &Tensor) -> bool {
    x.device() == Device::Cpu
}

/// Inverted dropout (Srivastava et al. 2014) with probability `p` when training.
pub fn dropout(x: &Tensor, p: f64, mode: &Mode) -> Result<Tensor> {
    match mode.dropout(p) {
        (0.0, _) => Ok(x.shallow_clone()),
        (p, key) if on_cpu(x) => native::dropout(x, p, key),
        (p, _) => reference::dropout(x, p),
    }
}

/// `norm(residual + dropout(x))`, the end of every post-norm block: `x` `[T, D]` in the compute type.
pub fn dropout_add_norm(x: &Tensor, residual: &Tensor, norm: &LayerNorm, p: f64, mode: &Mode) -> Result<Hidden> {
    let (p, key) = mode.dropout(p);
    if !on_cpu(x) {
        return reference::dropout_add_norm(x, residual, norm, p);
    }
    let (wide, low) = native::dropout_add_norm(x, residual, &norm.weight, &norm.bias, norm.eps, p, key)?;
    let low = low.unwrap_or_else(|| wide.shallow_clone());
    Ok(Hidden { wide, low })
}

/// Softmax attention of every token over what it sees of its own sequence, with dropout on the probabilities: `qkv` `[T, W]`
/// (query, key, value; see [`Heads::widths`]) to `[T, N D]` of the query heads.
pub fn attention(qkv: &Tensor, sequences: &Sequences, heads: Heads, seen: Seen, p: f64, mode: &Mode) -> Result<Tensor> {
    let (p, key) = mode.dropout(p);
    let seen = seen.within(sequences.longest);
    let is_fused = on_cpu(qkv) && seen == Seen::All && heads.query == heads.key_value;
    if is_fused && sequences.longest <= LONGEST_FUSED_ATTENTION {
        native::attention(qkv, &sequences.offsets, sequences.longest, heads.query, p, key)
    } else if packed::has_kernel(qkv, sequences, heads, seen) {
        let scale = 1.0 / (heads.size as f64).sqrt();
        packed::attention(qkv, sequences, heads, seen, scale, p)
    } else {
        reference::attention(qkv, sequences, heads, seen, p)
    }
}

/// [`attention`] with `bias` `[N, L, L]` (float32, of the longest sequence's `L` tokens) added to the scores before
/// softmax. In plain operators on every device: the bias learns, and fused kernels give no gradient of it.
pub fn biased_attention(qkv: &Tensor, sequences: &Sequences, bias: &Tensor, p: f64, mode: &Mode) -> Result<Tensor> {
    let heads = Heads::alike(bias.size()[0], qkv.size()[1] / 3);
    let (q, k, v) = reference::padded(qkv, sequences, heads)?;
    let scale = (q.size()[3] as f64).sqrt();
    let scores = q.f_matmul(&k.f_transpose(2, 3)?)?.f_div_scalar(scale)?.f_add(bias)?;
    let absent = sequences.padding(qkv.device())?.mask.f_logical_not()?;
    let probabilities = scores.f_masked_fill(&absent, f64::NEG_INFINITY)?.f_softmax(-1, Kind::Float)?;
    let probabilities = dropout(&probabilities.f_to_kind(qkv.kind())?, p, mode)?;
    reference::packed(&probabilities.f_matmul(&v)?, sequences)
}

/// The same operators in plain libtorch. Dropout draws from libtorch's generator.
pub mod reference {
    use super::{Heads, Hidden, LayerNorm, Result, Seen, Sequences, Tensor};

    /// See [`super::dropout`].
    pub fn dropout(x: &Tensor, p: f64) -> Result<Tensor> {
        Ok(x.f_dropout(p, p > 0.0)?)
    }

    /// See [`super::dropout_add_norm`].
    pub fn dropout_add_norm(x: &Tensor, residual: &Tensor, norm: &LayerNorm, p: f64) -> Result<Hidden> {
        let sum = residual.f_add(&dropout(x, p)?)?;
        Hidden::new(norm.forward(&sum)?, x.kind())
    }

    /// See [`super::attention`]. Sequences are padded for `scaled_dot_product_attention` and packed again.
    pub fn attention(qkv: &Tensor, sequences: &Sequences, heads: Heads, seen: Seen, p: f64) -> Result<Tensor> {
        let (q, k, v) = padded(qkv, sequences, heads)?;
        let sees_all = sequences.are_even() && seen == Seen::All;
        let mask = (!sees_all).then(|| sequences.mask(seen, qkv.device())).transpose()?;
        let is_grouped = heads.query != heads.key_value;
        let out = Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask, p, false, None, is_grouped)?;
        packed(&out, sequences)
    }

    /// Queries, keys and values of packed `qkv`, each padded to `[S, N, L, D]` of its own heads.
    pub(in crate::nn) fn padded(qkv: &Tensor, sequences: &Sequences, heads: Heads) -> Result<(Tensor, Tensor, Tensor)> {
        let padded = if sequences.are_even() {
            qkv.shallow_clone()
        } else {
            qkv.f_index_select(0, &sequences.padding(qkv.device())?.places)?
        };
        let shape = [sequences.count(), sequences.longest, heads.query + 2 * heads.key_value, heads.size];
        let split = padded.f_view(shape)?.f_permute([0, 2, 1, 3])?;
        let part = |start, count| split.f_narrow(1, start, count);
        let after = heads.query + heads.key_value;
        Ok((part(0, heads.query)?, part(heads.query, heads.key_value)?, part(after, heads.key_value)?))
    }

    /// What attention gives for padded queries, `[S, N, L, D]`, packed to `[T, N D]`.
    pub(in crate::nn) fn packed(out: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        let flat = out.f_permute([0, 2, 1, 3])?.f_reshape([sequences.count() * sequences.longest, -1])?;
        if sequences.are_even() {
            return Ok(flat);
        }
        Ok(flat.f_index_select(0, &sequences.padding(out.device())?.kept)?)
    }
}
