//! Text classification and regression, as in Transformers' `…ForSequenceClassification`.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::ahead::Ahead;
use super::base::TextBase;
use super::classification::{ClassificationTask, FeatureClassifier, Inputs, Labelled};
use super::loss::Loss;
use super::{DataSummary, Loaded};
use crate::data::examples::{Examples, Targets};
use crate::data::sampler::by_length;
use crate::data::splits::Splits;
use crate::data::texts::{Packed, TokenNoise};
use crate::device::ComputeDevice;
use crate::error::Result;
use crate::export::{AdapterFiles, ModelFiles};
use crate::models::text::{TextClassifier, TextTask, Tokens};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::Placement;
use finetuned::domain::estimate::EVALUATION_TOKENS;
use finetuned::domain::method::text_classification::Settings;
use finetuned::domain::report::Place;
use finetuned::domain::run::{DataFile, RunSpec};

/// Bytes up to which what a frozen backbone makes of the data is kept.
const MOST_FEATURE_BYTES: usize = 1 << 30;

/// Labelled texts, and what becomes of them in training.
struct LabelledTexts {
    examples: Examples,
    noise: Option<TokenNoise>,
}

/// Reads the model and the data that `spec` names.
///
/// # Errors
/// The model or a data file cannot be used.
pub(super) fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    let (h, own) = (&spec.hyperparameters, super::settings::<Settings>(spec)?);
    let base = TextBase::open(spec)?;
    let (config, tokenizer) = (&base.config, &base.tokenizer);
    let load =
        |file: &DataFile, param| Examples::load(file, param, own.problem_type, &spec.labels, tokenizer, observer);
    let splits = Splits::load(spec, || Examples::none(own.problem_type), load)?;
    let outputs = spec.labels.len().max(1);
    let policy = base.policy(spec);
    let placement = Placement { device: device.device, compute, seed: spec.seed, policy: &policy };
    let head = super::head_init(&base.json, &spec.labels, config.initializer_range());
    let (model, table, report) =
        base.build(placement, |root, config| TextClassifier::new(root, config, outputs as i64, head))?;
    let loss = Loss::new(own.class_weights, own.label_smoothing, outputs, &splits.training.targets, device.device)?;
    let data = DataSummary::of_texts(&splits, Examples::len, |part| &part.texts);
    let noise = TokenNoise::wanted(own.token_dropout, own.token_masking, spec.seed, tokenizer)?;
    let is_varied = noise.is_some();
    let plain = |examples| LabelledTexts { examples, noise: None };
    let Splits { training, validation, test } = splits;
    let training = LabelledTexts { examples: training, noise };
    let splits = Splits { training, validation: plain(validation), test: plain(test) };
    let mut task = ClassificationTask::new(model, device.device, &spec.labels, Labelled::new(splits, outputs), loss);
    if h.tuning.freeze.is_backbone() {
        let bytes = 4 * config.hidden_size().unsigned_abs() as usize;
        task = task.frozen(is_varied, MOST_FEATURE_BYTES / bytes.max(1), observer)?;
    }
    let files = ModelFiles::new(&spec.model, &config.architecture(TextTask::Classification))?
        .with_labels(own.problem_type.as_str(), &spec.labels)
        .with_adapter(AdapterFiles::new(&policy, &spec.model_name, Some("SEQ_CLS")));
    Ok(Loaded { task: Box::new(Ahead::new(task)), table, policy, report, data, files })
}

/// Whether the model in `directory` can be trained.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    let base = TextBase::outline(directory)?;
    let (outputs, head) = super::described_head(&base.json);
    base.check(|root, config| TextClassifier::new(root, config, outputs as i64, head))
}

impl Inputs for LabelledTexts {
    type Packed = Packed;

    fn targets(&self) -> &Targets {
        &self.examples.targets
    }

    fn len(&self) -> usize {
        self.examples.len()
    }

    fn tokens(&self, examples: &[usize]) -> u64 {
        examples.iter().map(|&index| self.examples.texts.ids_of(index).len() as u64).sum()
    }

    fn groups(&self, most: usize) -> Vec<Vec<usize>> {
        by_length(&self.examples.texts.lengths(), EVALUATION_TOKENS, most)
    }

    fn pack(&self, examples: &[usize], epoch: Option<u64>) -> Result<Packed> {
        Ok(self.examples.texts.pack_noisy(examples, self.noise.as_ref(), epoch))
    }

    fn place(&self, example: usize) -> Place {
        Place { line: self.examples.lines[example], member: None }
    }
}

impl FeatureClassifier<Packed> for TextClassifier {
    type OnDevice = Tokens;

    fn on_device(packed: &Packed, device: Device) -> Result<Tokens> {
        packed.on(device)
    }

    fn features(&self, inputs: &Tokens, mode: &Mode) -> Result<Tensor> {
        self.features(inputs, mode)
    }

    fn head(&self, features: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.head(features, mode)
    }
}
