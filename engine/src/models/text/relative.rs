//! Attention's bias by distance, as in Transformers' `MPNetEncoder` and T5 (Raffel et al. 2020, arXiv:1910.10683): each
//! head learns a number for every bucket of distances.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::nn::{Embedding, Sequences};
use crate::params::Builder;

/// Buckets of distances, half of them for tokens before the query; Transformers' code knows no other number.
pub(super) const BUCKETS: i64 = 32;

/// The distance from which on all share the last bucket.
const MAX_DISTANCE: i64 = 128;

/// The learned numbers.
pub(super) struct RelativeBias {
    table: Embedding,
}

impl RelativeBias {
    /// The table at `path`.
    pub(super) fn new(path: &Builder<'_, '_>, heads: i64) -> Result<Self> {
        Ok(Self { table: Embedding::new(path, BUCKETS, heads)? })
    }

    /// What is added to the scores of sequences of up to `L` tokens: `[N, L, L]` in float32.
    pub(super) fn forward(&self, sequences: &Sequences) -> Result<Tensor> {
        let (longest, device) = (sequences.longest, sequences.first.device());
        let by_distance = self.table.forward(&buckets(longest, device)?)?;
        let column = Tensor::f_arange(longest, (Kind::Int64, device))?;
        // Distances from -(L - 1) on are rows 0 and up.
        let rows = column.f_unsqueeze(0)?.f_sub(&column.f_unsqueeze(1)?)?.f_add_scalar(longest - 1)?;
        let bias = by_distance.f_index_select(0, &rows.f_view([-1])?)?;
        Ok(bias.f_view([longest, longest, -1])?.f_permute([2, 0, 1])?)
    }
}

/// The bucket of each distance from `-(L - 1)` to `L - 1` (of key from query), int64 `[2 L - 1]`: near ones have their
/// own, far ones share theirs on a logarithmic scale.
fn buckets(longest: i64, device: Device) -> Result<Tensor> {
    let (half, exact) = (BUCKETS / 2, BUCKETS / 4);
    let distances = Tensor::f_arange_start(1 - longest, longest, (Kind::Int64, device))?;
    let after = distances.f_gt(0)?.f_to_kind(Kind::Int64)?.f_mul_scalar(half)?;
    let far = distances.f_abs()?;
    let scale = (MAX_DISTANCE as f64 / exact as f64).ln();
    let shared = far.f_clamp_min(exact)?.f_to_kind(Kind::Float)?.f_div_scalar(exact)?.f_log()?;
    let shared = shared.f_div_scalar(scale)?.f_mul_scalar(half - exact)?.f_to_kind(Kind::Int64)?;
    let shared = shared.f_add_scalar(exact)?.f_clamp_max(half - 1)?;
    Ok(far.f_where_self(&far.f_lt(exact)?, &shared)?.f_add(&after)?)
}
