//! Building a model: each layer takes its parameters from the checkpoint by name.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::{AdaptedLayer, Buffer, Frozen, Param, ParamTable};
use crate::error::{EngineError, Result};
use crate::policy::{EVERYTHING, Policy};
use crate::weights::Weights;

/// How a parameter that the checkpoint does not have starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// It must be in the checkpoint.
    Required,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    Zeros,
    Ones,
    /// Never taken from the checkpoint: normal with this standard deviation (0 gives zeros).
    Fresh(f64),
    /// Never taken from the checkpoint: uniform from minus this to this.
    Uniform(f64),
}

/// The two matrices of a low-rank adapter in the compute type: `a` `[r, in]` and `b` `[out, r]`.
pub struct LoraPair {
    pub a: Tensor,
    pub b: Tensor,
    pub scaling: f64,
    pub dropout: f64,
}

struct BuilderState<'w> {
    weights: &'w Weights,
    device: Device,
    compute: Kind,
    policy: &'w Policy,
    params: Vec<Param>,
    frozen: Vec<Frozen>,
    buffers: Vec<Buffer>,
    adapters: Vec<AdaptedLayer>,
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

    /// A parameter of matrix products of `shape`, given out in the compute type.
    pub fn matrix(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        self.stacked(&[(name, shape[0])], &shape[1..], init)
    }

    /// Several such parameters as one, by name and rows: they are stacked along the first dimension, and `rest` are the
    /// other dimensions of each.
    pub fn stacked(&self, parts: &[(&str, i64)], rest: &[i64], init: Init) -> Result<Tensor> {
        let compute = self.state.borrow().compute;
        self.add(parts, rest, init, compute)
    }

    /// A parameter that is used in float32 whatever the precision: embeddings and norms.
    pub fn float(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        self.add(&[(name, shape[0])], &shape[1..], init, Kind::Float)
    }

    /// A parameter that is looked up and then used in float32: a table of embeddings. Where it is frozen it is given out in
    /// the type that the checkpoint has it in.
    pub fn table(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let stored = self.state.borrow().weights.kind_of(&self.join(name)).unwrap_or(Kind::Float);
        let is_trained = self.state.borrow().policy.of(&self.join(name)).0;
        self.add(&[(name, shape[0])], &shape[1..], init, if is_trained { Kind::Float } else { stored })
    }

    /// A float32 tensor that the layer itself keeps up to date; it must be in the checkpoint.
    pub fn buffer(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let mut state = self.state.borrow_mut();
        let name = self.join(name);
        let value = state.weights.load(&name, shape)?.f_to_device(state.device)?;
        let handle = value.shallow_clone();
        state.buffers.push(Buffer { name, value });
        Ok(handle)
    }

    /// An int64 number that the layer counts up, 0 where the checkpoint has none (as in PyTorch). It stays on the CPU:
    /// nothing computes with it.
    pub fn counter(&self, name: &str) -> Result<Tensor> {
        let mut state = self.state.borrow_mut();
        let name = self.join(name);
        let value = if state.weights.contains(&name) {
            state.weights.load_as(&name, &[], Kind::Int64)?
        } else {
            Tensor::f_zeros([0; 0], (Kind::Int64, Device::Cpu))?
        };
        let handle = value.shallow_clone();
        state.buffers.push(Buffer { name, value });
        Ok(handle)
    }

    /// The adapter of the linear layer called `name` here (empty for the path itself), if the run wants one there.
    pub fn adapter(&self, name: &str, input: i64, output: i64) -> Result<Option<LoraPair>> {
        let module = if name.is_empty() { self.path.clone() } else { self.join(name) };
        let Some(lora) = self.state.borrow().policy.adapter_of(&module).cloned() else { return Ok(None) };
        let compute = self.state.borrow().compute;
        let root = Self { state: self.state, path: String::new() };
        // As PEFT: a linear layer's own initialisation, and zeros, so that training starts from the base model.
        let bound = 1.0 / (input as f64).sqrt();
        let r = i64::from(lora.r);
        let a = root.add(&[(&format!("{module}.lora_A.weight"), r)], &[input], Init::Uniform(bound), compute)?;
        let b = root.add(&[(&format!("{module}.lora_B.weight"), output)], &[r], Init::Fresh(0.0), compute)?;
        let is_transposed = self.state.borrow().policy.is_transposed();
        self.state.borrow_mut().adapters.push(AdaptedLayer { module, scaling: lora.scaling(), is_transposed });
        Ok(Some(LoraPair { a, b, scaling: lora.scaling(), dropout: lora.dropout }))
    }

    fn add(&self, named: &[(&str, i64)], rest: &[i64], init: Init, compute: Kind) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let mut values = Vec::with_capacity(named.len());
        let mut parts = Vec::with_capacity(named.len());
        for &(name, rows) in named {
            let (full, shape) = (self.join(name), [&[rows], rest].concat());
            let is_fresh = matches!(init, Init::Fresh(_) | Init::Uniform(_)) || !state.weights.contains(&full);
            if is_fresh {
                state.initialised.push(full.clone());
            }
            let fresh = if is_fresh && !state.weights.is_outline() { init.values(&shape)? } else { None };
            values.push(match &fresh {
                Some(fresh) => fresh.shallow_clone(),
                None if is_fresh && init != Init::Required => Tensor::f_empty(&shape, (Kind::Float, Device::Cpu))?,
                None => state.weights.load(&full, &shape)?,
            });
            parts.push((full, shape, fresh));
        }
        let whole = match values.as_slice() {
            [one] => one.shallow_clone(),
            // Of an outline nothing is to be read, not even what is not there.
            _ if state.weights.is_outline() => {
                let rows: i64 = named.iter().map(|(_, rows)| rows).sum();
                Tensor::f_empty([&[rows], rest].concat(), (Kind::Float, Device::Cpu))?
            }
            several => Tensor::f_cat(several, 0)?,
        };
        drop(values);
        let (is_trained, rate) = state.policy.of(&parts[0].0);
        if !is_trained {
            let values = whole.numel();
            let compute = whole.f_to_kind(compute)?.f_to_device(state.device)?.f_contiguous()?;
            state.frozen.push(Frozen { parts, values });
            return Ok(compute);
        }
        let master = whole.f_to_device(state.device)?.f_contiguous()?;
        // Biases and norms have one dimension, everything else has more (Transformers' rule, by shape).
        let decays = !rest.is_empty();
        let low = if compute == Kind::Float { master.shallow_clone() } else { master.f_to_kind(compute)? };
        let compute = low.f_set_requires_grad(true)?;
        let handle = compute.shallow_clone();
        let parts = parts.into_iter().map(|(name, shape, _)| (name, shape[0])).collect();
        state.params.push(Param { parts, master, compute, decays, rate, accumulated: None });
        Ok(handle)
    }
}

impl Init {
    /// New float32 values on the CPU; None where they must be in the checkpoint.
    fn values(self, shape: &[i64]) -> Result<Option<Tensor>> {
        let kind = (Kind::Float, Device::Cpu);
        Ok(match self {
            Self::Required => None,
            Self::Normal(std) | Self::Fresh(std) => Some(Tensor::f_randn(shape, kind)?.f_mul_scalar(std)?),
            Self::Uniform(bound) => Some(Tensor::f_empty(shape, kind)?.f_uniform_(-bound, bound)?),
            Self::Zeros => Some(Tensor::f_zeros(shape, kind)?),
            Self::Ones => Some(Tensor::f_ones(shape, kind)?),
        })
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

/// Where and how a model is built.
#[derive(Clone, Copy)]
pub struct Placement<'a> {
    pub device: Device,
    /// The type of matrix products.
    pub compute: Kind,
    /// What parameters that start anew are drawn from, on the CPU, so they are the same on every device.
    pub seed: i64,
    /// What is trained.
    pub policy: &'a Policy,
}

impl Placement<'static> {
    /// With everything trained.
    pub fn new(device: Device, compute: Kind, seed: i64) -> Self {
        Self { device, compute, seed, policy: &EVERYTHING }
    }
}

/// Builds a model from `weights`.
///
/// # Errors
/// A required tensor is missing or has another shape, or no layer is called as an adapter wants it.
pub fn build<M>(
    weights: &Weights,
    placement: Placement<'_>,
    model: impl FnOnce(&Builder<'_, '_>) -> Result<M>,
) -> Result<(M, ParamTable, LoadReport)> {
    let Placement { device, compute, seed, policy } = placement;
    tch::manual_seed(seed);
    let state = RefCell::new(BuilderState {
        weights,
        device,
        compute,
        policy,
        params: Vec::new(),
        frozen: Vec::new(),
        buffers: Vec::new(),
        adapters: Vec::new(),
        initialised: Vec::new(),
    });
    let model = model(&Builder { state: &state, path: String::new() })?;
    let BuilderState { params, frozen, buffers, adapters, initialised, .. } = state.into_inner();
    let trained = params.iter().flat_map(|param| param.parts.iter().map(|(name, _)| name));
    let fixed = frozen.iter().flat_map(|frozen| frozen.parts.iter().map(|(name, ..)| name));
    let mut names: Vec<&str> = trained.chain(fixed).map(String::as_str).collect();
    names.extend(buffers.iter().map(|buffer| buffer.name.as_str()));
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find_map(|pair| (pair[0] == pair[1]).then_some(pair[0])) {
        return Err(EngineError::native(format!("parameter {twice} was built twice")));
    }
    policy.check_adapters(adapters.iter().map(|adapter| adapter.module.as_str()))?;
    let unused = weights.names_other_than(&names);
    let initialised = initialised.into_iter().filter(|name| !name.contains(".lora_")).collect();
    let table = ParamTable { params, frozen, buffers, adapters, base: weights.clone() };
    Ok((model, table, LoadReport { initialised, unused }))
}
