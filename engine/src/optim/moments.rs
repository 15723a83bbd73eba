//! The two moments of a parameter, as a run keeps them.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::native::adamw::{BLOCK, Moments};
use crate::params::Param;
use finetuned::domain::hyperparameters::OptimizerWord;

/// Parameters with fewer values have moments in float32 whatever is asked for, as in bitsandbytes (`min_8bit_size`).
const LEAST: usize = 4096;

/// The moments of a parameter.
pub(super) enum Kept {
    /// In float32, of its shape.
    Full([Tensor; 2]),
    /// In eight bits: codes, uint8 in whole blocks, and the scales of these in float32; of the first and of the second.
    EightBit([Tensor; 4]),
}

/// What `torch.optim` calls them.
const NAMES: [&str; 2] = ["exp_avg", "exp_avg_sq"];

impl Kept {
    /// Those of a parameter that had no update.
    pub(super) fn new(master: &Tensor, word: OptimizerWord) -> Result<Self> {
        if word == OptimizerWord::Adamw || master.numel() < LEAST {
            return Ok(Self::Full([master.f_zeros_like()?, master.f_zeros_like()?]));
        }
        let blocks = (master.numel() as i64 + BLOCK - 1) / BLOCK;
        let codes = || Tensor::f_zeros([blocks * BLOCK], (Kind::Uint8, master.device()));
        let scales = || Tensor::f_zeros([blocks], (Kind::Float, master.device()));
        Ok(Self::EightBit([codes()?, scales()?, codes()?, scales()?]))
    }

    pub(super) fn of_update(&self) -> Moments<'_> {
        match self {
            Self::Full([first, second]) => Moments::Full(first, second),
            Self::EightBit(moments) => Moments::EightBit(moments.each_ref()),
        }
    }

    /// All of it by name.
    pub(super) fn named(&self, param: &Param) -> Result<Vec<(String, Tensor)>> {
        let mut named = Vec::new();
        match self {
            Self::Full(moments) => {
                for (kind, moment) in NAMES.iter().zip(moments) {
                    let parts = param.split(moment)?.into_iter();
                    named.extend(parts.map(|(name, part)| (format!("{kind}.{name}"), part)));
                }
            }
            Self::EightBit(moments) => {
                let name = &param.parts[0].0;
                for (kind, [codes, scales]) in NAMES.iter().zip(moments.as_chunks::<2>().0) {
                    named.push((format!("{kind}.{name}"), codes.shallow_clone()));
                    named.push((format!("{kind}_scale.{name}"), scales.shallow_clone()));
                }
            }
        }
        Ok(named)
    }
}
