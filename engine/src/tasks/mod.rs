//! What training needs to know of a method: one task each.

mod ahead;
mod base;
mod causal;
mod causal_lm;
mod classification;
mod classifying;
mod dpo;
mod embedding;
mod examples;
mod guessed;
mod image_classification;
mod loss;
mod masked_lm;
mod outputs;
mod preview;
mod ranking;
mod supervised;
mod task;
mod text_classification;
mod writing;

pub use ahead::AnyTask;
pub use examples::ExampleTable;
pub use task::{Counts, Forward};

use std::collections::BTreeMap;
use std::path::Path;

use tch::Kind;

use crate::data::splits::Splits;
use crate::data::texts::Texts;
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::export::ModelFiles;
use crate::observer::Observer;
use crate::params::{Init, LoadReport, ParamTable};
use crate::policy::{Anatomy, Policy};
use crate::text::TextTokenizer;
use finetuned::dataset::preview::PreviewSpec;
use finetuned::domain::head::Head;
use finetuned::domain::hyperparameters::Hyperparameters;
use finetuned::domain::method::Method;
use finetuned::domain::preview::Preview;
use finetuned::domain::report::{Part, TokenLengths};
use finetuned::domain::run::RunSpec;

/// What was read of the data, for the job's owner.
#[derive(Clone, Debug, Default)]
pub struct DataSummary {
    pub training: usize,
    pub validation: usize,
    /// Tokens of the training data.
    pub tokens: usize,
    /// How long the texts are, of what there is.
    pub token_lengths: BTreeMap<Part, TokenLengths>,
}

impl DataSummary {
    /// That of texts. Some examples are several.
    fn of_texts<T>(splits: &Splits<T>, examples: impl Fn(&T) -> usize, texts: impl Fn(&T) -> &Texts) -> Self {
        let Splits { training, validation, test } = splits;
        let parts = [(Part::Training, training), (Part::Validation, validation), (Part::Test, test)];
        let there = parts.into_iter().map(|(part, data)| (part, texts(data))).filter(|(_, texts)| !texts.is_empty());
        Self {
            training: examples(training),
            validation: examples(validation),
            tokens: texts(training).tokens(),
            token_lengths: there.map(|(part, texts)| (part, texts.token_lengths())).collect(),
        }
    }
}

/// A task ready to train.
pub struct Loaded {
    pub task: Box<dyn AnyTask>,
    pub table: ParamTable,
    pub policy: Policy,
    pub report: LoadReport,
    pub data: DataSummary,
    pub files: ModelFiles,
}

/// What a model reads of examples.
type Show = fn(&PreviewSpec, &TextTokenizer) -> Result<Vec<Preview>>;

/// A method as the registry has it.
struct Entry {
    load: fn(&RunSpec, ComputeDevice, Kind, &dyn Observer) -> Result<Loaded>,
    check: fn(&Path) -> Result<()>,
    /// None where there is nothing to see.
    preview: Option<Show>,
}

/// The one place that tells methods apart.
fn entry(method: Method) -> Entry {
    match method {
        Method::TextClassification => {
            Entry { load: text_classification::load, check: text_classification::check, preview: None }
        }
        Method::MaskedLm => Entry { load: masked_lm::load, check: masked_lm::check, preview: None },
        Method::Embedding => Entry { load: embedding::load, check: embedding::check, preview: None },
        Method::Supervised => {
            Entry { load: supervised::load, check: supervised::check, preview: Some(supervised::preview) }
        }
        Method::Dpo => Entry { load: dpo::load, check: dpo::check, preview: Some(dpo::preview) },
        Method::CausalLm => Entry { load: causal_lm::load, check: causal_lm::check, preview: Some(causal_lm::preview) },
        Method::ImageClassification => {
            Entry { load: image_classification::load, check: image_classification::check, preview: None }
        }
    }
}

/// Loads the model and the data that `spec` names, computing matrix products in `compute`.
///
/// # Errors
/// The model or a data file cannot be used.
pub fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    (entry(spec.method).load)(spec, device, compute, observer)
}

/// Whether a method can train the model in `directory`, of whose weights no value is read.
///
/// # Errors
/// It cannot; the error says what the model lacks.
pub fn check(method: Method, directory: &Path) -> Result<()> {
    (entry(method).check)(directory)
}

/// What a model reads of examples, by its tokenizer and its other files without weights.
///
/// # Errors
/// A file cannot be used, or there is nothing to see of this method.
pub fn preview(spec: &PreviewSpec, tokenizer: &TextTokenizer) -> Result<Vec<Preview>> {
    let shown = entry(spec.method).preview;
    let shown = shown.ok_or_else(|| EngineError::native(format!("examples of {} are not shown", spec.method)))?;
    shown(spec, tokenizer)
}

/// How the last layer of a classifier starts: it is taken over only from a model that predicts the same labels in the same
/// order, or, where there are none, a value.
fn head_init(config_json: &str, labels: &[String], initializer_range: f64) -> Init {
    let has_head = Head::read(config_json.as_bytes()).is_ok_and(|head| head.predicts(labels));
    if has_head { Init::Normal(initializer_range) } else { Init::Fresh(initializer_range) }
}

/// The outputs and the start of the head with which a classifier is checked: those that its `config.json` describes, if it
/// does.
fn described_head(config_json: &str) -> (usize, Init) {
    Head::read(config_json.as_bytes()).map_or((1, Init::Fresh(0.0)), |head| (head.labels.len(), Init::Normal(0.0)))
}

/// What is trained of a model of this anatomy.
fn policy(spec: &RunSpec, anatomy: &Anatomy) -> Policy {
    let policy = Policy::new(&spec.hyperparameters, anatomy);
    if spec.training.is_some() { policy } else { policy.idle() }
}

/// The method's own settings of a run.
fn settings<T: serde::de::DeserializeOwned>(spec: &RunSpec) -> Result<T> {
    own_settings(spec.method, &spec.hyperparameters)
}

/// The settings of `method` among these hyperparameters.
fn own_settings<T: serde::de::DeserializeOwned>(method: Method, hyperparameters: &Hyperparameters) -> Result<T> {
    let settings = method.settings(hyperparameters);
    settings.map_err(|error| EngineError::native(format!("the run spec is malformed: {}", error.chain())))
}
