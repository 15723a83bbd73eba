//! Building a model: each layer takes its parameters from the checkpoint by name.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::{AdaptedLayer, Buffer, Frozen, Param, ParamTable};
use crate::error::{EngineError, Result};
use crate::native::nf4::Nf4;
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

/// The weight of a linear layer, in the compute type.
pub enum Weight {
    Dense(Tensor),
    /// Frozen, and with adapters beside it.
    Quantized(Nf4),
}

/// The low-rank adapters of parts of a layer's output, in the compute type: `a` `[parts · r, in]`, and `b` `[widths, r]` with
/// the parts one below the other.
pub struct Adapters {
    pub a: Tensor,
    pub b: Tensor,
    /// Where each part begins in the layer's output.
    pub starts: Vec<i64>,
    pub widths: Vec<i64>,
    pub scaling: f64,
    pub dropout: f64,
}

struct BuilderState<'w> {
    weights: &'w Weights,
    device: Device,
    compute: Kind,
    policy: &'w Policy,
    /// A model upon the same base, whose tensors are taken where they are the base's.
    beside: Option<&'w ParamTable>,
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

    /// The weight of a linear layer, as [`stacked`](Self::stacked); quantised where it has adapters and the run wants it.
    pub fn weight(&self, parts: &[(&str, i64)], rest: &[i64], init: Init, is_adapted: bool) -> Result<Weight> {
        if !(is_adapted && self.state.borrow().policy.quantizes()) {
            return self.stacked(parts, rest, init).map(Weight::Dense);
        }
        let _guard = tch::no_grad_guard();
        let mut state = self.state.borrow_mut();
        let load = |&(name, rows): &(&str, i64)| {
            let (full, shape) = (self.join(name), [&[rows], rest].concat());
            let values = state.weights.load(&full, &shape)?.f_contiguous()?;
            Ok((values, (full, shape, None)))
        };
        let (values, parts): (Vec<Tensor>, Vec<_>) =
            parts.iter().map(load).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let count = values.iter().map(Tensor::numel).sum();
        state.frozen.push(Frozen { parts, values: count, shared: None });
        if state.weights.is_outline() {
            return Tensor::f_cat(&values, 0).map(Weight::Dense).map_err(Into::into);
        }
        Nf4::quantize(&values, state.device).map(Weight::Quantized)
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

    /// Whether a layer whose output has these parts gets adapters.
    pub fn adapts(&self, parts: &[(&str, i64)]) -> bool {
        parts.iter().any(|(name, _)| self.state.borrow().policy.adapter_of(&self.module(name)).is_some())
    }

    fn module(&self, part: &str) -> String {
        if part.is_empty() { self.path.clone() } else { self.join(part) }
    }

    /// The adapters of a layer whose output has these parts, one behind the other, as far as the run wants any: their names here
    /// (empty for the path itself), and their widths.
    pub fn adapters(&self, parts: &[(&str, i64)], input: i64) -> Result<Option<Adapters>> {
        let (mut modules, mut starts, mut widths, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut lora = None;
        for &(name, width) in parts {
            let module = self.module(name);
            if let Some(wanted) = self.state.borrow().policy.adapter_of(&module).cloned() {
                lora = Some(wanted);
                modules.push(module);
                starts.push(start);
                widths.push(width);
            }
            start += width;
        }
        let Some(lora) = lora else { return Ok(None) };
        let compute = self.state.borrow().compute;
        let root = Self { state: self.state, path: String::new() };
        let matrix = |which: &str, rows: &dyn Fn(usize) -> i64, width: i64, init: Init| {
            let names: Vec<String> = modules.iter().map(|module| format!("{module}.lora_{which}.weight")).collect();
            let named: Vec<(&str, i64)> = names.iter().enumerate().map(|(i, name)| (name.as_str(), rows(i))).collect();
            root.add(&named, &[width], init, compute)
        };
        // As PEFT: a linear layer's own initialisation, and zeros, so that training starts from the base model.
        let (r, bound) = (i64::from(lora.r), 1.0 / (input as f64).sqrt());
        let start = |fresh| if lora.continued { Init::Required } else { fresh };
        let a = matrix("A", &|_| r, input, start(Init::Uniform(bound)))?;
        let b = matrix("B", &|i| widths[i], r, start(Init::Fresh(0.0)))?;
        let mut state = self.state.borrow_mut();
        let (scaling, is_transposed) = (lora.scaling(), state.policy.is_transposed());
        state.adapters.extend(modules.into_iter().map(|module| AdaptedLayer { module, scaling, is_transposed }));
        Ok(Some(Adapters { a, b, starts, widths, scaling, dropout: lora.dropout }))
    }

    fn add(&self, named: &[(&str, i64)], rest: &[i64], init: Init, compute: Kind) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(shared) = state.shared(named.iter().map(|&(name, rows)| (self.join(name), rows)), rest, compute) {
            return Ok(shared);
        }
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
            let shared = parts.iter().all(|(name, ..)| state.weights.is_of_base(name)).then(|| compute.shallow_clone());
            state.frozen.push(Frozen { parts, values, shared });
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

impl BuilderState<'_> {
    /// The parameter of these parts, by name and rows, as the model beside this one has it: where it is frozen, and the
    /// base model's in both.
    fn shared(&mut self, named: impl Iterator<Item = (String, i64)>, rest: &[i64], compute: Kind) -> Option<Tensor> {
        let beside = self.beside?;
        let parts: Vec<_> = named.map(|(name, rows)| (name, [&[rows], rest].concat(), None)).collect();
        let is_of_base = |(name, ..): &(String, Vec<i64>, Option<Tensor>)| self.weights.is_of_base(name);
        if self.policy.of(&parts[0].0).0 || !parts.iter().all(is_of_base) {
            return None;
        }
        let shared = beside.shared(&parts, compute)?;
        self.frozen.push(Frozen { parts, values: shared.numel(), shared: Some(shared.shallow_clone()) });
        Some(shared)
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
    build_beside(None, weights, placement, model)
}

/// The same beside another model, whose base is this one's too: what is the base's in both is held once.
///
/// # Errors
/// As [`build`].
pub fn build_beside<M>(
    beside: Option<&ParamTable>,
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
        beside,
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
