//! The values that a run uses, by what they govern. In JSON they stand side by side.

use serde::{Deserialize, Serialize};

use super::super::method::problem::ProblemType;
use super::objects::{Adapter, EarlyStopping, Freeze};
use super::own::Own;

/// How the learning rate falls after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    Linear,
    Cosine,
    Constant,
}

/// The type of matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Decided by the trainer when it sees its device.
    Auto,
    Fp32,
    /// Float32 whose factors a GPU rounds to ten bits.
    Tf32,
    Bf16,
}

/// How often something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    Epoch,
    #[serde(untagged)]
    Steps(u64),
}

impl Interval {
    /// Whether it falls on `step` (from 1), given the steps of an epoch.
    pub fn is_due(self, step: u64, steps_per_epoch: u64) -> bool {
        match self {
            Self::Epoch => step.is_multiple_of(steps_per_epoch.max(1)),
            Self::Steps(steps) => step.is_multiple_of(steps.max(1)),
        }
    }
}

/// The values a run uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hyperparameters {
    #[serde(flatten)]
    pub course: Course,
    #[serde(flatten)]
    pub optimizer: Optimizer,
    #[serde(flatten)]
    pub tuning: Tuning,
    pub precision: Precision,
    /// Whether a run gives the same bits each time on the same device.
    #[serde(default = "yes")]
    pub deterministic: bool,
    /// What the method has besides.
    #[serde(flatten)]
    pub own: Own,
}

/// How long a run goes, in which portions, and when it looks and saves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    pub n_epochs: u32,
    pub batch_size: u32,
    pub gradient_accumulation_steps: u32,
    /// 0 for models of images.
    #[serde(default)]
    pub max_sequence_length: u32,
    pub eval_interval: Interval,
    pub checkpoint_interval: Interval,
    pub keep_checkpoints: u32,
    #[serde(default)]
    pub early_stopping: EarlyStopping,
}

/// How far each step goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    pub learning_rate_multiplier: f64,
    pub learning_rate: f64,
    pub lr_schedule: LrSchedule,
    pub warmup_ratio: f64,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
    #[serde(default)]
    pub optimizer: OptimizerWord,
}

/// How the moments of AdamW are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OptimizerWord {
    /// In float32.
    #[default]
    #[serde(rename = "adamw")]
    Adamw,
    /// In eight bits each.
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
}

impl OptimizerWord {
    /// Bytes of both moments of a parameter.
    pub fn bytes(self) -> f64 {
        match self {
            Self::Adamw => 8.0,
            // The scales of 256 values take four bytes.
            Self::Adamw8bit => 2.0 + 8.0 / 256.0,
        }
    }
}

/// Which weights are trained, and how fast beside each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    #[serde(default)]
    pub freeze: Freeze,
    #[serde(default)]
    pub adapter: Adapter,
    #[serde(default = "one")]
    pub layerwise_lr_decay: f64,
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

impl Hyperparameters {
    /// What a classifier predicts.
    pub fn problem_type(&self) -> ProblemType {
        self.own.problem_type().unwrap_or_default()
    }
}
