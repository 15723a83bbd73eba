//! AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) as `torch.optim.AdamW` computes it, or with moments in eight bits as
//! torchao's and bitsandbytes' `AdamW8bit`.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::moments::Kept;
use crate::error::Result;
use crate::native::adamw::{self, AdamWItem, AdamWScalars, Joint, OptimizerKernel};
use crate::params::{Param, ParamTable};
use crate::weights::Weights;
use finetuned::domain::hyperparameters::{Optimizer, OptimizerWord};

/// The constants of a run.
#[derive(Clone, Copy, Debug)]
pub struct AdamWConfig {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Decay of matrices; biases and norms are exempt.
    pub weight_decay: f64,
    /// The L2 norm to which gradients are clipped; 0 means not at all.
    pub max_grad_norm: f64,
    /// How moments are kept.
    pub word: OptimizerWord,
    pub kernel: OptimizerKernel,
}

impl AdamWConfig {
    /// PyTorch's defaults with this decay and clipping.
    pub fn new(weight_decay: f64, max_grad_norm: f64) -> Self {
        let (word, kernel) = (OptimizerWord::default(), OptimizerKernel::Auto);
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, max_grad_norm, word, kernel }
    }

    /// As a run asks for it.
    pub fn of(h: &Optimizer) -> Self {
        Self { word: h.optimizer, ..Self::new(h.weight_decay, h.max_grad_norm) }
    }
}

/// The optimizer's state: two moments beside each parameter, and the number of updates done.
pub struct AdamW {
    config: AdamWConfig,
    moments: Vec<Kept>,
    updates: i64,
    /// Float32, 0-dimensional, beside the parameters: 1 once a step was not finite.
    halted: Tensor,
}

impl AdamW {
    /// A fresh state for all parameters of `table` that are trained.
    pub fn new(table: &ParamTable, config: AdamWConfig) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let moments = table.iter().map(|param| Kept::new(&param.master, config.word)).collect::<Result<Vec<_>>>()?;
        let device = table.iter().next().map_or(Device::Cpu, |param| param.master.device());
        Ok(Self { config, moments, updates: 0, halted: Tensor::f_zeros([0_i64; 0], (Kind::Float, device))? })
    }

    /// The L2 norm of the present gradients.
    pub fn grad_norm(&self, table: &ParamTable) -> Result<Tensor> {
        let grads: Vec<Tensor> = table.iter().filter_map(Param::grad).collect();
        adamw::grad_norm(&grads.iter().collect::<Vec<_>>(), self.config.kernel)
    }

    /// Changes nothing any more if one of these is not finite: from the next [`step`](Self::step) on, and before anybody has
    /// read them.
    pub fn halt_unless_finite(&mut self, values: &[&Tensor]) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for value in values {
            let broken = value.f_isfinite()?.f_logical_not()?.f_to_kind(Kind::Float)?;
            self.halted = self.halted.f_maximum(&broken)?;
        }
        Ok(())
    }

    /// One update of every parameter that has a gradient, after clipping by the joint `norm`; forgets the gradients. Each
    /// parameter's rate is `learning_rate` times its own factor.
    pub fn step(&mut self, table: &mut ParamTable, learning_rate: f64, norm: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.updates += 1;
        let grads: Vec<Option<Tensor>> = table.iter().map(Param::grad).collect();
        let mut groups: Vec<(f64, Vec<AdamWItem<'_>>)> = Vec::new();
        for ((param, grad), moments) in table.iter().zip(&grads).zip(&self.moments) {
            let Some(grad) = grad else { continue };
            let item = AdamWItem {
                parameter: &param.master,
                grad,
                moments: moments.of_update(),
                low: param.low(),
                weight_decay: if param.decays { self.config.weight_decay } else { 0.0 },
            };
            match groups.iter_mut().find(|(rate, _)| *rate == param.rate) {
                Some((_, items)) => items.push(item),
                None => groups.push((param.rate, vec![item])),
            }
        }
        for (rate, items) in groups {
            let scalars = AdamWScalars {
                learning_rate: learning_rate * rate,
                beta1: self.config.beta1,
                beta2: self.config.beta2,
                eps: self.config.eps,
                step: self.updates,
                max_norm: self.config.max_grad_norm,
            };
            adamw::adamw(&items, Joint { norm, halted: &self.halted }, scalars, self.config.kernel)?;
        }
        table.clear_grads()
    }

    /// The moments by the names that `torch.optim` gives them, per parameter part: `exp_avg.{name}` and
    /// `exp_avg_sq.{name}`. Those in eight bits are whole, by the name of a parameter's first part: the codes so, and the scales as
    /// `exp_avg_scale.{name}` and `exp_avg_sq_scale.{name}`.
    pub fn named_state(&self, table: &ParamTable) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (param, moments) in table.iter().zip(&self.moments) {
            state.extend(moments.named(param)?);
        }
        Ok(state)
    }

    /// Goes on after `updates` updates with saved moments.
    ///
    /// # Errors
    /// A moment is missing or has another shape.
    pub fn restore(&mut self, table: &ParamTable, state: &Weights, updates: u64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (param, moments) in table.iter().zip(&self.moments) {
            for (name, mut value) in moments.named(param)? {
                value.f_copy_(&state.load_as(&name, &value.size(), value.kind())?)?;
            }
        }
        self.updates = updates.cast_signed();
        Ok(())
    }
}
