//! Heads as data: the steps that a family puts between hidden states and an output layer.

use tch::{Kind, Tensor};

use super::config::Activation;
use crate::error::Result;
use crate::nn::{LayerNorm, Linear, Mode, functional};
use crate::params::{Builder, Init};

/// One step, of the backbone's width all along.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Dropout(f64),
    /// `torch.nn.Linear` at this path.
    Linear {
        path: &'static str,
        has_bias: bool,
    },
    Activation(Activation),
    /// `torch.nn.LayerNorm` at this path.
    Norm {
        path: &'static str,
        eps: f64,
        has_bias: bool,
    },
}

enum Layer {
    Dropout(f64),
    Linear(Linear),
    Activation(Activation),
    Norm(LayerNorm),
}

/// Steps with their parameters.
pub struct Steps {
    layers: Vec<Layer>,
    compute: Kind,
}

impl Steps {
    /// The steps at the root of a checkpoint, `width` wide; whatever a checkpoint lacks of them starts anew, weights as
    /// `fresh`.
    pub fn new(root: &Builder<'_, '_>, steps: &[Step], width: i64, fresh: Init) -> Result<Self> {
        let layer = |step: &Step| {
            Ok(match *step {
                Step::Dropout(p) => Layer::Dropout(p),
                Step::Linear { path, has_bias: true } => {
                    Layer::Linear(Linear::with_init(&root.at(path), width, width, fresh)?)
                }
                Step::Linear { path, has_bias: false } => {
                    Layer::Linear(Linear::without_bias(&root.at(path), width, width, fresh)?)
                }
                Step::Activation(function) => Layer::Activation(function),
                Step::Norm { path, eps, has_bias } => {
                    Layer::Norm(LayerNorm::with_init(&root.at(path), width, eps, Init::Ones, has_bias)?)
                }
            })
        };
        Ok(Self { layers: steps.iter().map(layer).collect::<Result<_>>()?, compute: root.compute() })
    }

    /// `x` `[.., D]` to `[.., D]`, both in the compute type.
    pub fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        for layer in &self.layers {
            x = match layer {
                Layer::Dropout(p) => functional::dropout(&x, *p, mode)?,
                Layer::Linear(linear) => linear.forward(&x, mode)?,
                Layer::Activation(function) => function(&x)?,
                Layer::Norm(norm) => norm.forward(&x.f_to_kind(Kind::Float)?)?.f_to_kind(self.compute)?,
            };
        }
        Ok(x)
    }
}
