//! The layers every encoder is made of.

use tch::Tensor;

use super::{Mode, functional};
use crate::error::Result;
use crate::params::{Builder, Init, LoraPair};

/// `y = x Wᵀ + b` (`torch.nn.Linear`): weight `[out, in]`, bias `[out]`, in the compute type; where the run wants it, with
/// a low-rank adapter (Hu et al. 2021, arXiv:2106.09685): `y += scaling · B A dropout(x)`.
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    /// One for each part of a fused layer; empty where no part has one.
    adapters: Vec<Option<LoraPair>>,
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
            bias: Some(path.matrix(&["bias"], &[output], bias)?),
            adapters: adapters(path, &[""], input, output)?,
        })
    }

    /// [`with_init`](Self::with_init) of a layer without bias.
    pub fn without_bias(path: &Builder<'_, '_>, input: i64, output: i64, init: Init) -> Result<Self> {
        let weight = path.matrix(&["weight"], &[output, input], init)?;
        Ok(Self { weight, bias: None, adapters: adapters(path, &[""], input, output)? })
    }

    /// Three layers over the same input, computed as one: their outputs follow each other in the last dimension.
    pub fn fused(path: &Builder<'_, '_>, names: [&str; 3], input: i64, output: i64) -> Result<Self> {
        let [weights, biases] = ["weight", "bias"].map(|kind| names.map(|name| format!("{name}.{kind}")));
        let weights = weights.each_ref().map(String::as_str);
        let biases = biases.each_ref().map(String::as_str);
        Ok(Self {
            weight: path.matrix(&weights, &[output, input], Init::Required)?,
            bias: Some(path.matrix(&biases, &[output], Init::Required)?),
            adapters: adapters(path, &names, input, output)?,
        })
    }

    /// [`fused`](Self::fused) of layers without bias.
    pub fn fused_without_bias(path: &Builder<'_, '_>, names: [&str; 3], input: i64, output: i64) -> Result<Self> {
        let weights = names.map(|name| format!("{name}.weight"));
        let weights = weights.each_ref().map(String::as_str);
        let weight = path.matrix(&weights, &[output, input], Init::Required)?;
        Ok(Self { weight, bias: None, adapters: adapters(path, &names, input, output)? })
    }

    /// `x` `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        let y = x.f_linear(&self.weight, self.bias.as_ref())?;
        if self.adapters.is_empty() {
            return Ok(y);
        }
        let parts = y.f_chunk(self.adapters.len() as i64, -1)?;
        let adapted = self.adapters.iter().zip(parts).map(|(adapter, part)| match adapter {
            None => Ok(part),
            Some(LoraPair { a, b, scaling, dropout }) => {
                let x = functional::dropout(x, *dropout, mode)?;
                let delta = x.f_linear(a, None::<&Tensor>)?.f_linear(b, None::<&Tensor>)?;
                Ok(part.f_add(&delta.f_mul_scalar(*scaling)?)?)
            }
        });
        Ok(Tensor::f_cat(&adapted.collect::<Result<Vec<_>>>()?, -1)?)
    }
}

/// The adapters of the layers called `names` at `path`; none at all where none is wanted.
fn adapters(path: &Builder<'_, '_>, names: &[&str], input: i64, output: i64) -> Result<Vec<Option<LoraPair>>> {
    let found = names.iter().map(|name| path.adapter(name, input, output)).collect::<Result<Vec<_>>>()?;
    Ok(if found.iter().all(Option::is_none) { Vec::new() } else { found })
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
    /// The table as the weight of an output layer tied to it: `x` `[.., width]` to `[.., rows]`, in the type of `x`.
    pub fn decode(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok(x.f_linear(&self.table.f_to_kind(x.kind())?, bias)?)
    }
}
