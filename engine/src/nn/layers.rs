//! The layers every encoder is made of.

use tch::{Device, Kind, Tensor};

use super::{Mode, functional};
use crate::error::Result;
use crate::native::lora::{FrozenLinear, FrozenWeight, LowRank, Origin, lora_linear};
use crate::params::{Adapters, Builder, Init, Weight};

/// `y = x Wᵀ + b` (`torch.nn.Linear`): weight `[out, in]`, bias `[out]`, in the compute type; where the run wants it, with
/// a low-rank adapter (Hu et al. 2021, arXiv:2106.09685): `y += scaling · B A dropout(x)`.
pub struct Linear {
    weight: Weight,
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
        let bias = |path: &Builder<'_, '_>| path.matrix("bias", &[output], bias).map(Some);
        Self::built(path, &[("", output)], (&[("weight", output)], input), init, bias)
    }

    /// [`with_init`](Self::with_init) of a layer without bias.
    pub fn without_bias(path: &Builder<'_, '_>, input: i64, output: i64, init: Init) -> Result<Self> {
        Self::built(path, &[("", output)], (&[("weight", output)], input), init, |_| Ok(None))
    }

    /// The layer whose output has these parts, of the weights that are given with the width of what they have rows of.
    fn built(
        path: &Builder<'_, '_>,
        parts: &[(&str, i64)],
        (weights, input): (&[(&str, i64)], i64),
        init: Init,
        bias: impl FnOnce(&Builder<'_, '_>) -> Result<Option<Tensor>>,
    ) -> Result<Self> {
        let is_adapted = path.adapts(parts);
        let weight = path.weight(weights, &[input], init, is_adapted)?;
        Ok(Self { weight, is_transposed: false, bias: bias(path)?, adapters: path.adapters(parts, input)? })
    }

    /// Transformers' `Conv1D`: the layer at `path`, whose weight is stored as `[in, out]`.
    pub fn transposed(path: &Builder<'_, '_>, input: i64, output: i64) -> Result<Self> {
        let parts = [("", output)];
        Ok(Self {
            weight: path.weight(&[("weight", input)], &[output], Init::Required, path.adapts(&parts))?,
            is_transposed: true,
            bias: Some(path.matrix("bias", &[output], Init::Required)?),
            adapters: path.adapters(&parts, input)?,
        })
    }

    /// Several layers over the same input, computed as one: `parts` are their names and the widths of their outputs, which
    /// follow each other in the last dimension.
    pub fn fused(path: &Builder<'_, '_>, parts: &[(&str, i64)], input: i64, has_bias: bool) -> Result<Self> {
        let names = |kind: &str| parts.iter().map(|(name, _)| format!("{name}.{kind}")).collect::<Vec<_>>();
        let widths = || parts.iter().map(|(_, width)| *width);
        let (weights, biases) = (names("weight"), names("bias"));
        let named: Vec<(&str, i64)> = weights.iter().map(String::as_str).zip(widths()).collect();
        let bias = |path: &Builder<'_, '_>| {
            let named: Vec<(&str, i64)> = biases.iter().map(String::as_str).zip(widths()).collect();
            has_bias.then(|| path.stacked(&named, &[], Init::Required)).transpose()
        };
        Self::built(path, parts, (&named, input), Init::Required, bias)
    }

    /// `x` `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.forward_made(x, None, mode)
    }

    /// The same of an `x` that is made of what is kept anyway: adapters then keep that alone.
    pub fn forward_made(&self, x: &Tensor, origin: Option<&Origin<'_>>, mode: &Mode) -> Result<Tensor> {
        let Some(adapters) = self.adapters.as_ref().filter(|_| mode.has_adapters()) else {
            return Ok(x.f_linear(&self.dense(x.kind())?, self.bias.as_ref())?);
        };
        let mut shape = x.size();
        let rows = x.f_reshape([-1, shape.pop().unwrap_or_default()])?;
        let dropped = (adapters.dropout > 0.0 && mode.is_training())
            .then(|| functional::dropout(&rows, adapters.dropout, mode))
            .transpose()?;
        let dense;
        let weight = match &self.weight {
            Weight::Quantized(weight) => FrozenWeight::Quantized { weight, is_transposed: self.is_transposed },
            Weight::Dense(_) => {
                dense = self.dense(x.kind())?;
                FrozenWeight::Dense(&dense)
            }
        };
        let layer = FrozenLinear { weight, bias: self.bias.as_ref() };
        let Adapters { a, b, starts, widths, scaling, .. } = adapters;
        let low_rank = LowRank { a, b, starts, widths, scaling: *scaling };
        let y = lora_linear(&rows, dropped.as_ref(), origin, &layer, &low_rank)?;
        shape.push(-1);
        Ok(y.f_view(shape.as_slice())?)
    }

    /// The weight `[out, in]`; a quantised one is read in `kind`.
    fn dense(&self, kind: Kind) -> Result<Tensor> {
        let weight = match &self.weight {
            Weight::Dense(weight) => weight.shallow_clone(),
            Weight::Quantized(weight) => weight.dense(kind)?,
        };
        Ok(if self.is_transposed { weight.f_transpose(0, 1)? } else { weight })
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
