//! Layers. Each holds the tensors it computes with; parameters belong to the [`ParamTable`](crate::params::ParamTable).
//!
//! Shape legend used throughout: `T` tokens of a packed batch, `S` sequences, `D` width, `N` heads, `C` classes.

mod attention;
mod cache;
pub mod causal;
mod checkpoint;
mod convolution;
pub mod functional;
mod layers;
mod norm;
mod packed;
mod rotary;
mod sequences;

use std::cell::Cell;

use tch::{Kind, Tensor};

pub use attention::{Heads, Seen};
pub use cache::KvCache;
pub use checkpoint::checkpointed;
pub use convolution::{BatchNorm2d, Conv2d, channels_last, global_average};
pub use layers::{Embedding, Linear};
pub use norm::{LayerNorm, RmsNorm};
pub use rotary::{Rotary, Rotation};
pub use sequences::Sequences;

use crate::error::Result;
use finetuned::domain::random::mix;

/// How a forward pass runs: with dropout and batch statistics, or without; and whether adapters count.
///
/// Masks of dropout depend on the seed of the pass alone, so a resumed run draws the same ones. Kernels of ours draw them from a
/// key that counts up from the seed, one per layer; operators of libtorch from its generator, seeded once for the pass, as a
/// captured CUDA graph can have it.
#[derive(Clone, Debug)]
pub struct Mode {
    next_key: Option<Cell<u64>>,
    has_adapters: bool,
    /// How many layers are computed again in backward.
    computed_again: usize,
}

impl Mode {
    /// No dropout.
    pub fn eval() -> Self {
        Self { next_key: None, has_adapters: true, computed_again: 0 }
    }

    /// Dropout with masks drawn from `seed`, also by libtorch's generators from here on.
    pub fn train(seed: u64) -> Self {
        tch::manual_seed(mix(seed).cast_signed());
        Self { next_key: Some(Cell::new(seed)), has_adapters: true, computed_again: 0 }
    }

    /// The same as if there were no low-rank adapters: what a run started from, but for a head that is trained beside them.
    #[must_use]
    pub fn without_adapters(self) -> Self {
        Self { has_adapters: false, ..self }
    }

    /// The same, keeping of the first `layers` layers nothing that backward can compute again ([`checkpointed`]).
    #[must_use]
    pub fn computing_again(self, layers: usize) -> Self {
        Self { computed_again: layers, ..self }
    }

    /// Whether backward computes layer number `layer` again, of models that can.
    pub(super) fn computes_again(&self, layer: usize) -> bool {
        self.is_training() && layer < self.computed_again
    }

    /// The key of the next dropout layer; 0 where there is no dropout.
    pub(super) fn next_key(&self) -> u64 {
        self.next_key.as_ref().map_or(0, Cell::get)
    }

    /// Goes on with this key.
    pub(super) fn draw_from(&self, key: u64) {
        if let Some(next) = &self.next_key {
            next.set(key);
        }
    }

    /// Whether adapters count.
    pub fn has_adapters(&self) -> bool {
        self.has_adapters
    }

    /// Whether this is a step of training: batch norms then use the batch's statistics and keep running ones.
    pub fn is_training(&self) -> bool {
        self.next_key.is_some()
    }

    /// The probability and key of the next dropout layer: probability 0 when evaluating.
    pub fn dropout(&self, p: f64) -> (f64, u64) {
        match &self.next_key {
            Some(next) => {
                let key = next.get();
                next.set(key.wrapping_add(1));
                (p, mix(key))
            }
            None => (0.0, 0),
        }
    }
}

/// Hidden states in the two types that mixed precision keeps: the residual stream in float32, and the same values
/// in the type that matrix products compute in (the very same tensor when that is float32 too).
pub struct Hidden {
    pub wide: Tensor,
    pub low: Tensor,
}

impl Hidden {
    /// From float32 hidden states `[T, D]`.
    pub fn new(wide: Tensor, compute: Kind) -> Result<Self> {
        let low = if compute == Kind::Float { wide.shallow_clone() } else { wide.f_to_kind(compute)? };
        Ok(Self { wide, low })
    }

    /// The rows at `index` (int64 `[S]`).
    pub fn select(&self, index: &Tensor) -> Result<Self> {
        let wide = self.wide.f_index_select(0, index)?;
        let low =
            if self.low.kind() == Kind::Float { wide.shallow_clone() } else { self.low.f_index_select(0, index)? };
        Ok(Self { wide, low })
    }
}
