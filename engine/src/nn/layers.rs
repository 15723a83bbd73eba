//! The layers every encoder is made of.

use tch::{Kind, Tensor};

use super::{Mode, functional};
use crate::error::Result;
use crate::params::{Builder, Init, LoraPair};

/// `y = x Wᵀ + b` (`torch.nn.Linear`): weight `[out, in]`, bias `[out]`, in the compute type; where the run wants it, with
/// a low-rank adapter (Hu et al. 2021, arXiv:2106.09685): `y += scaling · B A dropout(x)`.
pub struct Linear {
    weight: Tensor,
    /// Whether the weight is `[in, out]`.
    is_transposed: bool,
    bias: Option<Tensor>,
    /// One for each part of a fused layer, with the width of its output; empty where no part has one.
    adapters: Vec<(i64, Option<LoraPair>)>,
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
            weight: path.matrix("weight", &[output, input], init)?,
            is_transposed: false,
            bias: Some(path.matrix("bias", &[output], bias)?),
            adapters: adapters(path, &[("", output)], input)?,
        })
    }

    /// [`with_init`](Self::with_init) of a layer without bias.
    pub fn without_bias(path: &Builder<'_, '_>, input: i64, output: i64, init: Init) -> Result<Self> {
        let weight = path.matrix("weight", &[output, input], init)?;
        Ok(Self { weight, is_transposed: false, bias: None, adapters: adapters(path, &[("", output)], input)? })
    }

    /// Transformers' `Conv1D`: the layer at `path`, whose weight is stored as `[in, out]`.
    pub fn transposed(path: &Builder<'_, '_>, input: i64, output: i64) -> Result<Self> {
        Ok(Self {
            weight: path.matrix("weight", &[input, output], Init::Required)?,
            is_transposed: true,
            bias: Some(path.matrix("bias", &[output], Init::Required)?),
            adapters: adapters(path, &[("", output)], input)?,
        })
    }

    /// Several layers over the same input, computed as one: `parts` are their names and the widths of their outputs, which
    /// follow each other in the last dimension.
    pub fn fused(path: &Builder<'_, '_>, parts: &[(&str, i64)], input: i64, has_bias: bool) -> Result<Self> {
        let stacked = |kind: &str, rest: &[i64]| {
            let names: Vec<String> = parts.iter().map(|(name, _)| format!("{name}.{kind}")).collect();
            let widths = parts.iter().map(|(_, width)| *width);
            let named: Vec<(&str, i64)> = names.iter().map(String::as_str).zip(widths).collect();
            path.stacked(&named, rest, Init::Required)
        };
        Ok(Self {
            weight: stacked("weight", &[input])?,
            is_transposed: false,
            bias: has_bias.then(|| stacked("bias", &[])).transpose()?,
            adapters: adapters(path, parts, input)?,
        })
    }

    /// `x` `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        let transposed = self.is_transposed.then(|| self.weight.f_transpose(0, 1)).transpose()?;
        let y = x.f_linear(transposed.as_ref().unwrap_or(&self.weight), self.bias.as_ref())?;
        if self.adapters.is_empty() || !mode.has_adapters() {
            return Ok(y);
        }
        let widths: Vec<i64> = self.adapters.iter().map(|(width, _)| *width).collect();
        let parts = y.f_split_with_sizes(&widths, -1)?;
        let adapted = self.adapters.iter().zip(parts).map(|((_, adapter), part)| match adapter {
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

/// The adapters of the layers called as in `parts` at `path`; none at all where none is wanted.
fn adapters(path: &Builder<'_, '_>, parts: &[(&str, i64)], input: i64) -> Result<Vec<(i64, Option<LoraPair>)>> {
    let of = |&(name, width): &(&str, i64)| Ok((width, path.adapter(name, input, width)?));
    let found = parts.iter().map(of).collect::<Result<Vec<_>>>()?;
    Ok(if found.iter().all(|(_, adapter)| adapter.is_none()) { Vec::new() } else { found })
}

/// `torch.nn.Embedding`: a table `[rows, width]` in float32, or, where it is frozen, in the type of the checkpoint.
pub struct Embedding {
    table: Tensor,
}

impl Embedding {
    /// The table at `path`.
    pub fn new(path: &Builder<'_, '_>, rows: i64, width: i64) -> Result<Self> {
        Ok(Self { table: path.table("weight", &[rows, width], Init::Required)? })
    }

    /// Rows at `ids` (int64 `[T]`): `[T, width]` in float32.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(&self.table, ids, -1, false, false)?.f_to_kind(Kind::Float)?)
    }

    /// The table as a weight in `kind`: `[rows, width]`.
    pub fn weight(&self, kind: Kind) -> Result<Tensor> {
        Ok(self.table.f_to_kind(kind)?)
    }

    /// The table as the weight of an output layer tied to it: `x` `[.., width]` to `[.., rows]`, in the type of `x`.
    pub fn decode(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight(x.kind())?, bias)?)
    }
}
