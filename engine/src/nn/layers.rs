//! The layers every encoder is made of.

use tch::{Device, Kind, Tensor};

use super::{Mode, functional};
use crate::error::Result;
use crate::native::lora::{FrozenLinear, LowRank, Origin, lora_linear};
use crate::params::{Adapters, Builder, Init};

/// `y = x Wᵀ + b` (`torch.nn.Linear`): weight `[out, in]`, bias `[out]`, in the compute type; where the run wants it, with
/// a low-rank adapter (Hu et al. 2021, arXiv:2106.09685): `y += scaling · B A dropout(x)`.
pub struct Linear {
    weight: Tensor,
    /// Whether the weight is `[in, out]`.
    is_transposed: bool,
    bias: Option<Tensor>,
    adapters: Option<Adapters>,
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
            adapters: path.adapters(&[("", output)], input)?,
        })
    }

    /// [`with_init`](Self::with_init) of a layer without bias.
    pub fn without_bias(path: &Builder<'_, '_>, input: i64, output: i64, init: Init) -> Result<Self> {
        let weight = path.matrix("weight", &[output, input], init)?;
        Ok(Self { weight, is_transposed: false, bias: None, adapters: path.adapters(&[("", output)], input)? })
    }

    /// Transformers' `Conv1D`: the layer at `path`, whose weight is stored as `[in, out]`.
    pub fn transposed(path: &Builder<'_, '_>, input: i64, output: i64) -> Result<Self> {
        Ok(Self {
            weight: path.matrix("weight", &[input, output], Init::Required)?,
            is_transposed: true,
            bias: Some(path.matrix("bias", &[output], Init::Required)?),
            adapters: path.adapters(&[("", output)], input)?,
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
            adapters: path.adapters(parts, input)?,
        })
    }

    /// `x` `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.forward_made(x, None, mode)
    }

    /// The same of an `x` that is made of what is kept anyway: adapters then keep that alone.
    pub fn forward_made(&self, x: &Tensor, origin: Option<&Origin<'_>>, mode: &Mode) -> Result<Tensor> {
        let transposed = self.is_transposed.then(|| self.weight.f_transpose(0, 1)).transpose()?;
        let weight = transposed.as_ref().unwrap_or(&self.weight);
        let Some(adapters) = self.adapters.as_ref().filter(|_| mode.has_adapters()) else {
            return Ok(x.f_linear(weight, self.bias.as_ref())?);
        };
        let mut shape = x.size();
        let rows = x.f_reshape([-1, shape.pop().unwrap_or_default()])?;
        let dropped = (adapters.dropout > 0.0 && mode.is_training())
            .then(|| functional::dropout(&rows, adapters.dropout, mode))
            .transpose()?;
        let layer = FrozenLinear { weight, bias: self.bias.as_ref() };
        let Adapters { a, b, starts, widths, scaling, .. } = adapters;
        let low_rank = LowRank { a, b, starts, widths, scaling: *scaling };
        let y = lora_linear(&rows, dropped.as_ref(), origin, &layer, &low_rank)?;
        shape.push(-1);
        Ok(y.f_view(shape.as_slice())?)
    }
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

    /// Where the table lies.
    pub fn device(&self) -> Device {
        self.table.device()
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
