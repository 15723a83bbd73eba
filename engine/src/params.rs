//! Parameters by their Hugging Face names: one mechanism for loading, mixed precision, freezing, the optimizer,
//! checkpoints and export.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::error::{EngineError, Result};
use crate::native;
use crate::weights::Weights;

/// One trainable tensor. Where a layer computes with several Hugging Face tensors as one (query, key and value), they
/// are `parts` stacked along the first dimension.
pub struct Param {
    /// Name and number of rows of each part, in order.
    pub parts: Vec<(String, i64)>,
    /// The values in float32, which the optimizer updates.
    pub master: Tensor,
    /// The values that forward reads: `master` itself, or its bfloat16 copy.
    pub compute: Tensor,
    /// Whether AdamW decays it: matrices yes, biases and norms no.
    pub decays: bool,
    accumulated: Option<Tensor>,
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

/// All parameters of a model, in the order in which the model was built.
pub struct ParamTable {
    params: Vec<Param>,
}

impl ParamTable {
    /// The parameters.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.params.iter()
    }

    /// The number of scalar parameters.
    pub fn count(&self) -> usize {
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

    /// The float32 values by Hugging Face name.
    pub fn named(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut named = BTreeMap::new();
        for param in &self.params {
            for (name, part) in param.split(&param.master)? {
                named.insert(name.to_owned(), part);
            }
        }
        Ok(named)
    }

    /// Overwrites every value with the tensor of its name in `weights`; all must be there with the right shape.
    pub fn restore(&mut self, weights: &Weights) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for param in &mut self.params {
            for (name, part) in param.split(&param.master)? {
                let value = weights.load(name, &part.size())?;
                part.shallow_clone().f_copy_(&value)?;
            }
            if param.low().is_some() {
                param.compute.f_copy_(&param.master)?;
            }
        }
        Ok(())
    }
}

/// How a parameter that the checkpoint does not have starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// It must be in the checkpoint.
    Required,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    Zeros,
    /// Never taken from the checkpoint: normal with this standard deviation (0 gives zeros).
    Fresh(f64),
}

struct BuilderState<'w> {
    weights: &'w Weights,
    device: Device,
    compute: Kind,
    params: Vec<Param>,
    initialised: Vec<String>,
}

/// Builds a model's layers at a path of names, as in the checkpoint: `root.at("encoder").at("layer").at(0)`.
pub struct Builder<'a, 'w> {
    state: &'a RefCell<BuilderState<'w>>,
    path: String,
}

impl Builder<'_, '_> {
    /// The path one name deeper.
    #[must_use]
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { state: self.state, path: self.join(name) }
    }

    fn join(&self, name: impl std::fmt::Display) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// The type that matrix products compute in.
    pub fn compute(&self) -> Kind {
        self.state.borrow().compute
    }

    /// A parameter of matrix products, given out in the compute type. `names` are stacked along the first dimension,
    /// each of `shape`.
    pub fn matrix(&self, names: &[&str], shape: &[i64], init: Init) -> Result<Tensor> {
        let compute = self.state.borrow().compute;
        self.add(names, shape, init, compute)
    }

    /// A parameter that is used in float32 whatever the precision: embeddings and norms.
    pub fn float(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        self.add(&[name], shape, init, Kind::Float)
    }

    fn add(&self, names: &[&str], shape: &[i64], init: Init, compute: Kind) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut state = self.state.borrow_mut();
        let mut values = Vec::with_capacity(names.len());
        let mut parts = Vec::with_capacity(names.len());
        for name in names {
            let full = self.join(name);
            let fresh = matches!(init, Init::Fresh(_)) || !state.weights.contains(&full);
            if fresh {
                state.initialised.push(full.clone());
            }
            values.push(match init {
                Init::Normal(std) | Init::Fresh(std) if fresh => {
                    Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?.f_mul_scalar(std)?
                }
                Init::Zeros if fresh => Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?,
                _ => state.weights.load(&full, shape)?,
            });
            parts.push((full, shape[0]));
        }
        let master = Tensor::f_cat(&values, 0)?.f_to_device(state.device)?.f_contiguous()?;
        // Biases and norms have one dimension, everything else has more (Transformers' rule, by shape).
        let decays = shape.len() > 1;
        let low = if compute == Kind::Float { master.shallow_clone() } else { master.f_to_kind(compute)? };
        let compute = low.f_set_requires_grad(true)?;
        let handle = compute.shallow_clone();
        state.params.push(Param { parts, master, compute, decays, accumulated: None });
        Ok(handle)
    }
}

/// What loading found.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Parameters of the model that start anew.
    pub initialised: Vec<String>,
    /// Tensors of the checkpoint that the model does not have.
    pub unused: Vec<String>,
}

/// Builds a model from `weights` on `device`, with matrix products in `compute`. Parameters that start anew are drawn
/// on the CPU from `seed`, so they are the same on every device.
///
/// # Errors
/// A required tensor is missing or has another shape.
pub fn build<M>(
    weights: &Weights,
    device: Device,
    compute: Kind,
    seed: i64,
    model: impl FnOnce(&Builder<'_, '_>) -> Result<M>,
) -> Result<(M, ParamTable, LoadReport)> {
    tch::manual_seed(seed);
    let state = RefCell::new(BuilderState { weights, device, compute, params: Vec::new(), initialised: Vec::new() });
    let model = model(&Builder { state: &state, path: String::new() })?;
    let state = state.into_inner();
    let mut names: Vec<&str> = state.params.iter().flat_map(|p| p.parts.iter().map(|part| part.0.as_str())).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find_map(|pair| (pair[0] == pair[1]).then_some(pair[0])) {
        return Err(EngineError::native(format!("parameter {twice} was built twice")));
    }
    let unused = weights.names_other_than(&names);
    Ok((model, ParamTable { params: state.params }, LoadReport { initialised: state.initialised, unused }))
}
