//! What training needs to know of a task, and the tasks: one recipe each.

mod classifying;
mod embedding;
mod image_classification;
mod loss;
mod masked_lm;
mod outputs;
mod splits;
mod text_classification;

pub(crate) use image_classification::EVALUATION_BATCH;
pub(crate) use text_classification::EVALUATION_TOKENS;

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Kind, Tensor};

use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::export::ModelFiles;
use crate::models::text::TextConfig;
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::{LoadReport, ParamTable};
use crate::policy::Policy;
use crate::score::Evaluation;
use finetuned::domain::method::Method;
use finetuned::domain::run::RunSpec;

/// What the forward pass over one batch gives.
pub struct Forward {
    /// The loss summed over the batch (0-dimensional), from which backward starts.
    pub loss_sum: Tensor,
    /// Right predictions (0-dimensional, int64) where there are such, and how many there could be.
    pub correct: Option<(Tensor, u64)>,
    /// Tokens of the batch; images have none.
    pub tokens: u64,
}

/// A task as the training loop sees it: examples by number, nothing of texts or files.
pub trait Recipe {
    /// The number of training examples.
    fn examples(&self) -> usize;

    /// What the loss sum of these examples is divided by: their number, or the sum of their weights.
    fn weight(&self, examples: &[usize], epoch: u64) -> f64;

    /// The forward pass over these training examples, as epoch `epoch` sees them.
    fn forward(&self, examples: &[usize], epoch: u64, mode: &Mode) -> Result<Forward>;

    /// Told which batches come after those that it was told of before: a task may prepare them ahead.
    fn upcoming(&self, _batches: Vec<Vec<usize>>, _epoch: u64) {}

    /// Seconds spent waiting for data so far, where it is prepared ahead.
    fn waited(&self) -> Option<f64> {
        None
    }

    /// An evaluation on the validation data; None if there is none, or if the run shall stop.
    fn validate(&self, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>>;

    /// Whether there is test data.
    fn has_test(&self) -> bool;

    /// An evaluation on the test data; None if the run shall stop.
    fn test(&self, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>>;
}

/// What was read of the data, for the job's owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataSummary {
    pub training: usize,
    pub validation: usize,
    /// Texts of the training data that were cut to fit.
    pub truncated: u64,
    /// Texts of the test data that were.
    pub truncated_test: u64,
    /// Tokens of the training data.
    pub tokens: usize,
}

/// A task ready to train.
pub struct Loaded {
    pub recipe: Box<dyn Recipe>,
    pub table: ParamTable,
    pub policy: Policy,
    pub report: LoadReport,
    pub data: DataSummary,
    pub files: ModelFiles,
}

/// Loads the model and the data that `spec` names, computing matrix products in `compute`.
///
/// # Errors
/// The model or a data file cannot be used.
pub fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    match spec.method {
        Method::TextClassification => text_classification::load(spec, device, compute, observer),
        Method::MaskedLm => masked_lm::load(spec, device, compute, observer),
        Method::Embedding => embedding::load(spec, device, compute, observer),
        Method::ImageClassification => image_classification::load(spec, device, compute, observer),
    }
}

/// The text of a model's `config.json`.
pub(crate) fn read_config(model: &Path) -> Result<String> {
    let path = model.join("config.json");
    std::fs::read_to_string(&path).map_err(EngineError::io(&path))
}

/// Whether a `config.json` has these labels in this order, or, of a regression, one output.
fn has_labels(config_json: &str, labels: &[String], regression: bool) -> bool {
    #[derive(serde::Deserialize)]
    struct Stored {
        #[serde(default)]
        id2label: BTreeMap<String, String>,
        problem_type: Option<String>,
    }
    let Ok(stored) = serde_json::from_str::<Stored>(config_json) else { return false };
    // Transformers takes a single output for a regression, too.
    let is_regression =
        stored.problem_type.as_deref().map_or(stored.id2label.len() == 1, |problem| problem == "regression");
    if is_regression != regression {
        return false;
    }
    regression
        || stored.id2label.len() == labels.len()
            && labels.iter().enumerate().all(|(class, label)| stored.id2label.get(&class.to_string()) == Some(label))
}

/// What is trained of a text model: adapters go to query and value, as PEFT puts them.
fn text_policy(spec: &RunSpec, config: &TextConfig) -> Policy {
    Policy::new(&spec.hyperparameters, config.base_prefix(), config.layers(), config.adapted_layers())
}
