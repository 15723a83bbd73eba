//! What training needs to know of a task, and the tasks: one recipe each.

mod base;
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

use std::path::Path;

use tch::{Kind, Tensor};

use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::export::ModelFiles;
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::{Init, LoadReport, ParamTable};
use crate::policy::Policy;
use crate::score::Evaluation;
use finetuned::domain::head::Head;
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

/// A task as the registry has it.
struct Task {
    load: fn(&RunSpec, ComputeDevice, Kind, &dyn Observer) -> Result<Loaded>,
    check: fn(&Path) -> Result<()>,
}

/// The task of a method: the one place that tells methods apart.
fn task(method: Method) -> Task {
    match method {
        Method::TextClassification => Task { load: text_classification::load, check: text_classification::check },
        Method::MaskedLm => Task { load: masked_lm::load, check: masked_lm::check },
        Method::Embedding => Task { load: embedding::load, check: embedding::check },
        Method::ImageClassification => Task { load: image_classification::load, check: image_classification::check },
    }
}

/// Loads the model and the data that `spec` names, computing matrix products in `compute`.
///
/// # Errors
/// The model or a data file cannot be used.
pub fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    (task(spec.method).load)(spec, device, compute, observer)
}

/// Whether a method can train the model in `directory`, of whose weights no value is read.
///
/// # Errors
/// It cannot; the error says what the model lacks.
pub fn check(method: Method, directory: &Path) -> Result<()> {
    (task(method).check)(directory)
}

/// How the last layer of a classifier starts: it is taken over only from a model that predicts the same labels in the same
/// order, or, where there are none, a value.
fn head_init(config_json: &str, labels: &[String], initializer_range: f64) -> Init {
    let has_head = Head::read(config_json.as_bytes()).is_ok_and(|head| head.predicts(labels));
    if has_head { Init::Normal(initializer_range) } else { Init::Fresh(initializer_range) }
}

/// What is trained of a model whose backbone of `layers` layers is called `prefix`; adapters go to layers called as in
/// `adapted` where nothing else is asked for.
fn policy(spec: &RunSpec, prefix: &str, layers: u32, adapted: &[&str]) -> Policy {
    let policy = Policy::new(&spec.hyperparameters, prefix, layers, adapted);
    if spec.training.is_some() { policy } else { policy.idle() }
}

/// The method's own settings of a run.
fn settings<T: serde::de::DeserializeOwned>(spec: &RunSpec) -> Result<T> {
    let settings = spec.method.settings(&spec.hyperparameters);
    settings.map_err(|error| EngineError::native(format!("the run spec is malformed: {}", error.chain())))
}
