//! Parameters by their Hugging Face names: one mechanism for loading, mixed precision, freezing, the optimizer,
//! checkpoints and export.

mod builder;
mod export;

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

pub use builder::{Adapters, Builder, Init, LoadReport, Placement, Weight, build, build_beside};
pub use export::Export;

use crate::error::{EngineError, Result};
use crate::native;
use crate::weights::Weights;

/// A parameter that is trained. Where a layer computes with several Hugging Face tensors as one (query, key and value),
/// they are `parts` stacked along the first dimension.
pub struct Param {
    /// Name and number of rows of each part, in order.
    pub parts: Vec<(String, i64)>,
    /// The values in float32, which the optimizer updates.
    pub master: Tensor,
    /// The values that forward reads: `master` itself, or its bfloat16 copy.
    pub compute: Tensor,
    /// Whether AdamW decays it: matrices yes, biases and norms no.
    pub decays: bool,
    /// What its learning rate is multiplied by.
    pub rate: f64,
    accumulated: Option<Tensor>,
}

/// A parameter that is not trained: the values that forward reads, in the type that it computes in, and no others. What
/// is saved of it is read from the base model again.
struct Frozen {
    /// Name, shape, and float32 values of each part; these where the base model has none.
    parts: Vec<(String, Vec<i64>, Option<Tensor>)>,
    values: usize,
    /// What forward reads, where it is the base model's and another model upon the same base may read it too.
    shared: Option<Tensor>,
}

impl Param {
    /// The gradient of the last backward passes, in the compute type, or in float32 once accumulated.
    pub fn grad(&self) -> Option<Tensor> {
        if let Some(sum) = &self.accumulated {
            return Some(sum.shallow_clone());
        }
        let grad = self.compute.grad();
        grad.defined().then_some(grad)
    }

    /// The bfloat16 copy to refresh after an update, if there is one.
    pub fn low(&self) -> Option<&Tensor> {
        (self.compute.kind() != Kind::Float).then_some(&self.compute)
    }

    /// A tensor shaped like this parameter, cut into its parts by name.
    pub fn split(&self, tensor: &Tensor) -> Result<Vec<(&str, Tensor)>> {
        let mut start = 0;
        let mut parts = Vec::with_capacity(self.parts.len());
        for (name, rows) in &self.parts {
            parts.push((name.as_str(), tensor.f_narrow(0, start, *rows)?));
            start += rows;
        }
        Ok(parts)
    }
}

/// A tensor that is saved with the model and restored with it, but not trained: a norm's running statistics.
struct Buffer {
    name: String,
    /// Float32, or int64 for counters; layers change it in place.
    value: Tensor,
}

/// A low-rank adapter of a linear layer.
struct AdaptedLayer {
    /// The full name of the layer.
    module: String,
    scaling: f64,
    /// Whether its weight is `[in, out]`.
    is_transposed: bool,
}

/// All parameters and buffers of a model, in the order in which the model was built.
pub struct ParamTable {
    params: Vec<Param>,
    frozen: Vec<Frozen>,
    buffers: Vec<Buffer>,
    adapters: Vec<AdaptedLayer>,
    base: Weights,
}

impl ParamTable {
    /// The parameters that are trained.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.params.iter()
    }

    /// What forward reads of the frozen parameter with these parts, if it is the base model's alone, in `kind`.
    fn shared(&self, parts: &[(String, Vec<i64>, Option<Tensor>)], kind: Kind) -> Option<Tensor> {
        let are_these = |frozen: &&Frozen| {
            frozen.parts.len() == parts.len()
                && frozen.parts.iter().zip(parts).all(|(one, other)| (&one.0, &one.1) == (&other.0, &other.1))
        };
        let found = self.frozen.iter().find(are_these)?.shared.as_ref()?;
        (found.kind() == kind).then(|| found.shallow_clone())
    }

    /// The number of scalar parameters.
    pub fn count(&self) -> usize {
        self.trained_count() + self.frozen.iter().map(|frozen| frozen.values).sum::<usize>()
    }

    /// The number of scalar parameters that are trained.
    pub fn trained_count(&self) -> usize {
        self.params.iter().map(|param| param.master.numel()).sum()
    }

    /// Adds the gradients of the backward pass just done to float32 sums and clears them, so that several
    /// micro-batches add up without bfloat16 rounding.
    pub fn accumulate_grads(&mut self) -> Result<()> {
        for param in &mut self.params {
            let grad = param.compute.grad();
            if !grad.defined() {
                continue;
            }
            match &mut param.accumulated {
                Some(sum) => drop(sum.f_add_(&grad.f_to_kind(Kind::Float)?)?),
                None => param.accumulated = Some(grad.f_to_kind(Kind::Float)?),
            }
        }
        self.clear_compute_grads()
    }

    /// Forgets all gradients.
    pub fn clear_grads(&mut self) -> Result<()> {
        for param in &mut self.params {
            param.accumulated = None;
        }
        self.clear_compute_grads()
    }

    fn clear_compute_grads(&self) -> Result<()> {
        native::clear_grads(&self.params.iter().map(|param| &param.compute).collect::<Vec<_>>())
    }

    /// The whole model as it is saved, with what training changed from `trained` (what [`trained`](Self::trained) or
    /// [`state`](Self::state) gives): adapters
    /// merged into the layers that they belong to.
    ///
    /// # Errors
    /// A value is missing in `trained`.
    pub fn export(&self, trained: &BTreeMap<String, Tensor>) -> Result<Export> {
        Export::new(self, trained)
    }

    /// The values of all parameters (float32) and buffers by Hugging Face name, adapters merged into the layers that they
    /// belong to.
    pub fn named(&self) -> Result<BTreeMap<String, Tensor>> {
        self.export(&self.state()?)?.all()
    }

    /// Whether low-rank adapters are trained beside layers.
    pub fn has_adapters(&self) -> bool {
        !self.adapters.is_empty()
    }

    /// The type of the base model's floats.
    pub fn base_kind(&self) -> Kind {
        self.base.kind()
    }

    /// The full names of the layers that have adapters.
    pub fn adapted_modules(&self) -> impl Iterator<Item = &str> {
        self.adapters.iter().map(|adapter| adapter.module.as_str())
    }

    /// Everything that training changes, as it is: the float32 values of what is trained, and buffers.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for param in &self.params {
            for (name, part) in param.split(&param.master)? {
                state.insert(name.to_owned(), part);
            }
        }
        state.extend(self.buffers.iter().map(|buffer| (buffer.name.clone(), buffer.value.shallow_clone())));
        Ok(state)
    }

    /// Copies of everything that training changes, on the CPU: of adapters their matrices as `{layer}.lora_A.weight`
    /// `[r, in]` and `{layer}.lora_B.weight` `[out, r]`.
    pub fn trained(&self) -> Result<BTreeMap<String, Tensor>> {
        copies(self.state()?)
    }

    /// Reads what [`trained`](Self::trained) gave from a file.
    pub fn read(&self, weights: &Weights) -> Result<BTreeMap<String, Tensor>> {
        let load = |(name, value): (String, Tensor)| {
            let loaded = weights.load_as(&name, &value.size(), value.kind())?;
            Ok((name, loaded))
        };
        self.state()?.into_iter().map(load).collect()
    }

    /// Overwrites what training changes with the tensors of their names in `weights`; all must be there with the right
    /// shape.
    pub fn restore(&mut self, weights: &Weights) -> Result<()> {
        let values = self.read(weights)?;
        self.put_back(&values)
    }

    /// Puts back what [`trained`](Self::trained) gave.
    pub fn put_back(&mut self, values: &BTreeMap<String, Tensor>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (name, mut value) in self.state()? {
            let earlier = values.get(&name);
            value
                .f_copy_(earlier.ok_or_else(|| EngineError::native(format!("there is no earlier value of {name}")))?)?;
        }
        for param in &self.params {
            if let Some(low) = param.low() {
                low.shallow_clone().f_copy_(&param.master)?;
            }
        }
        Ok(())
    }
}

/// Copies of tensors on the CPU.
///
/// # Errors
/// libtorch fails.
pub fn copies(tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let _guard = tch::no_grad_guard();
    let copy = |(name, tensor): (String, Tensor)| -> Result<(String, Tensor)> {
        let mut copy = Tensor::f_empty(tensor.size(), (tensor.kind(), Device::Cpu))?;
        copy.f_copy_(&tensor)?;
        Ok((name, copy))
    };
    tensors.into_iter().map(copy).collect()
}
