//! The layers every encoder is made of.

use tch::Tensor;

use crate::error::Result;
use crate::params::{Builder, Init};

/// `y = x Wᵀ + b` (`torch.nn.Linear`): weight `[out, in]`, bias `[out]`, in the compute type.
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// The layer at `path`, from the checkpoint.
    pub fn new(path: &Builder<'_, '_>, input: i64, output: i64) -> Result<Self> {
        Self::with_init(path, input, output, Init::Required)
    }

    /// The layer at `path`; `init` says where its weight comes from, and a fresh weight gets a zero bias.
    pub fn with_init(path: &Builder<'_, '_>, input: i64, output: i64, init: Init) -> Result<Self> {
        let bias = match init {
            Init::Normal(_) => Init::Zeros,
            Init::Fresh(_) => Init::Fresh(0.0),
            other => other,
        };
        Ok(Self {
            weight: path.matrix(&["weight"], &[output, input], init)?,
            bias: path.matrix(&["bias"], &[output], bias)?,
        })
    }

    /// Three layers over the same input, computed as one: their outputs follow each other in the last dimension.
    pub fn fused(path: &Builder<'_, '_>, names: [&str; 3], input: i64, output: i64) -> Result<Self> {
        let [weights, biases] = ["weight", "bias"].map(|kind| names.map(|name| format!("{name}.{kind}")));
        let weights = weights.each_ref().map(String::as_str);
        let biases = biases.each_ref().map(String::as_str);
        Ok(Self {
            weight: path.matrix(&weights, &[output, input], Init::Required)?,
            bias: path.matrix(&biases, &[output], Init::Required)?,
        })
    }

    /// `x` `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

/// `torch.nn.LayerNorm` over the last dimension, in float32.
pub struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub eps: f64,
}

impl LayerNorm {
    /// The norm at `path`, `width` wide.
    pub fn new(path: &Builder<'_, '_>, width: i64, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: path.float("weight", &[width], Init::Required)?,
            bias: path.float("bias", &[width], Init::Required)?,
            eps,
        })
    }

    /// `x` `[.., width]` in float32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.size1()?;
        Ok(x.f_layer_norm([width], Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }
}

/// `torch.nn.Embedding`: a table `[rows, width]` in float32.
pub struct Embedding {
    table: Tensor,
}

impl Embedding {
    /// The table at `path`.
    pub fn new(path: &Builder<'_, '_>, rows: i64, width: i64) -> Result<Self> {
        Ok(Self { table: path.float("weight", &[rows, width], Init::Required)? })
    }

    /// Rows at `ids` (int64 `[T]`): `[T, width]`.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(&self.table, ids, -1, false, false)?)
    }
}
