//! Norms: with mean and bias, and without.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::params::{Builder, Init};

/// `torch.nn.LayerNorm` over the last dimension, in float32.
pub struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub eps: f64,
}

impl LayerNorm {
    /// The norm at `path`, `width` wide.
    pub fn new(path: &Builder<'_, '_>, width: i64, eps: f64) -> Result<Self> {
        Self::with_init(path, width, eps, Init::Required, true)
    }

    /// The norm at `path`; `init` says where its weight comes from (a new one is [`Init::Ones`]), and `has_bias`
    /// whether it has a bias. Without one it computes with constant zeros, which are no parameter.
    pub fn with_init(path: &Builder<'_, '_>, width: i64, eps: f64, init: Init, has_bias: bool) -> Result<Self> {
        let weight = path.float("weight", &[width], init)?;
        let bias = match (has_bias, init) {
            (false, _) => weight.f_detach()?.f_zeros_like()?,
            (true, Init::Required) => path.float("bias", &[width], Init::Required)?,
            (true, _) => path.float("bias", &[width], Init::Zeros)?,
        };
        Ok(Self { weight, bias, eps })
    }

    /// `x` `[.., width]` in float32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.size1()?;
        Ok(x.f_layer_norm([width], Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }
}

/// `LlamaRMSNorm` over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467), computed in float32:
/// `x / rms(x) * (offset + weight)`.
pub struct RmsNorm {
    pub weight: Tensor,
    /// What the weight is a difference to: 0, or 1 as Gemma has it.
    pub offset: f64,
    pub eps: f64,
}

impl RmsNorm {
    /// The norm at `path`, `width` wide.
    pub fn new(path: &Builder<'_, '_>, width: i64, offset: f64, eps: f64) -> Result<Self> {
        Ok(Self { weight: path.float("weight", &[width], Init::Required)?, offset, eps })
    }

    /// `x` `[.., width]` of any float type, normed in float32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_to_kind(Kind::Float)?;
        let mean = x.f_square()?.f_mean_dim(-1, true, Kind::Float)?;
        let scale =
            if self.offset == 0.0 { self.weight.shallow_clone() } else { self.weight.f_add_scalar(self.offset)? };
        Ok(x.f_mul(&mean.f_add_scalar(self.eps)?.f_rsqrt()?)?.f_mul(&scale)?)
    }
}
