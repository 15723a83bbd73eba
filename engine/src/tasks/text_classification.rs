//! Text classification and regression, as in Transformers' `…ForSequenceClassification`.

use std::path::Path;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::base::TextBase;
use super::classifying::{self, Places};
use super::loss::Loss;
use super::outputs::{Outputs, most_rows};
use super::splits::Splits;
use super::{DataSummary, Forward, Loaded, Recipe};
use crate::data::examples::{Examples, Targets};
use crate::data::sampler::by_length;
use crate::data::texts::{Change, TokenNoise};
use crate::device::ComputeDevice;
use crate::error::Result;
use crate::export::{AdapterFiles, ModelFiles};
use crate::models::text::{TextClassifier, TextTask};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::{Init, Placement};
use crate::score::Evaluation;
use finetuned::domain::method::text_classification::Settings;
use finetuned::domain::run::{DataFile, RunSpec};

/// Tokens of one evaluation batch.
pub(crate) const EVALUATION_TOKENS: usize = 8192;

/// Bytes up to which what a frozen backbone makes of the data is kept.
const MOST_FEATURE_BYTES: usize = 1 << 30;

/// A classifier and its data.
struct TextClassification {
    model: TextClassifier,
    device: Device,
    labels: Vec<String>,
    training: Part,
    validation: Part,
    test: Option<Part>,
    loss: Loss,
    /// Whether the backbone stays as it is.
    frozen: bool,
    noise: Option<TokenNoise>,
}

/// Examples, and what a frozen backbone makes of them.
struct Part {
    examples: Examples,
    /// `[N, D]` in the compute type, computed once.
    features: Option<Tensor>,
}

impl Part {
    fn new(examples: Examples) -> Self {
        Self { examples, features: None }
    }
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
    let Splits { training, validation, test } = Splits::load(spec, Examples::none(own.problem_type), load)?;
    let outputs = spec.labels.len().max(1);
    let policy = base.policy(spec);
    let placement = Placement { device: device.device, compute, seed: spec.seed, policy: &policy };
    let head = super::head_init(&base.json, &spec.labels, config.initializer_range());
    let (model, table, report) =
        base.build(placement, |root, config| TextClassifier::new(root, config, outputs as i64, head))?;
    let targets = &training.targets;
    let loss = Loss::new(own.class_weights, own.label_smoothing, outputs, targets, device.device)?;
    let noise = TokenNoise::wanted(own.token_dropout, own.token_masking, spec.seed, tokenizer)?;
    let mut recipe = TextClassification {
        model,
        device: device.device,
        labels: spec.labels.clone(),
        training: Part::new(training),
        validation: Part::new(validation),
        test: test.map(Part::new),
        loss,
        frozen: h.tuning.freeze.is_backbone(),
        noise,
    };
    if recipe.frozen {
        recipe.compute_features(config.hidden_size(), observer)?;
    }
    let texts = &recipe.training.examples.texts;
    let data = DataSummary {
        training: texts.len(),
        validation: recipe.validation.examples.len(),
        truncated: texts.truncated(),
        truncated_test: recipe.test.as_ref().map_or(0, |part| part.examples.texts.truncated()),
        tokens: texts.tokens(),
    };
    let files = ModelFiles::new(&spec.model, &config.architecture(TextTask::Classification))?
        .with_labels(own.problem_type.as_str(), &spec.labels)
        .with_adapter(AdapterFiles::new(&policy, &spec.model_name, Some("SEQ_CLS")));
    Ok(Loaded { recipe: Box::new(recipe), table, policy, report, data, files })
}

/// Whether the model in `directory` can be trained.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    TextBase::outline(directory)?.check(|root, config| TextClassifier::new(root, config, 1, Init::Fresh(0.0)))
}

impl TextClassification {
    /// Computes once what the backbone makes of the data, as far as there is room to keep it.
    fn compute_features(&mut self, width: i64, observer: &dyn Observer) -> Result<()> {
        let room = MOST_FEATURE_BYTES / (4 * width.unsigned_abs() as usize).max(1);
        let compute = |examples: &Examples| {
            if examples.len() > room { Ok(None) } else { features(&self.model, examples, self.device, observer) }
        };
        let training = if self.noise.is_none() { compute(&self.training.examples)? } else { None };
        let validation = compute(&self.validation.examples)?;
        (self.training.features, self.validation.features) = (training, validation);
        Ok(())
    }

    /// Logits `[S, C]` in float32 of the examples at `indices`.
    fn logits(&self, part: &Part, indices: &[usize], change: Option<&dyn Change>, mode: &Mode) -> Result<Tensor> {
        if let Some(features) = &part.features {
            let places: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
            let rows = features.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to_device(self.device)?)?;
            return self.model.head(&rows, mode);
        }
        let tokens = part.examples.texts.pack(indices, change, self.device)?;
        if self.frozen {
            let features = tch::no_grad(|| self.model.features(&tokens, &Mode::eval()))?;
            return self.model.head(&features, mode);
        }
        self.model.forward(&tokens, mode)
    }

    /// Scores `part`, or None if the run shall stop.
    fn evaluate<'a>(
        &'a self,
        part: &'a Part,
        intervals: bool,
        observer: &dyn Observer,
    ) -> Result<Option<Evaluation<'a>>> {
        let _guard = tch::no_grad_guard();
        let examples = &part.examples;
        let mut outputs = Outputs::new(&self.labels, &examples.targets, examples.len());
        for indices in by_length(&examples.texts.lengths(), EVALUATION_TOKENS, most_rows(self.labels.len())) {
            if observer.stop().is_some() {
                return Ok(None);
            }
            observer.alive();
            let batch = self.logits(part, &indices, None, &Mode::eval())?;
            let target = self.loss.targets(&examples.targets, &indices, self.device)?;
            outputs.add(&indices, &batch, &self.loss.each(&batch, &target)?)?;
        }
        let places: Places<'a> = Box::new(|index| ("line", json!(examples.lines[index])));
        Ok(classifying::evaluate(outputs, places, intervals.then_some(observer)))
    }
}

/// `[N, D]`: what the backbone makes of the examples; None if the run shall stop.
fn features(
    model: &TextClassifier,
    examples: &Examples,
    device: Device,
    observer: &dyn Observer,
) -> Result<Option<Tensor>> {
    let _guard = tch::no_grad_guard();
    let (mut rows, mut order) = (Vec::new(), Vec::new());
    for indices in by_length(&examples.texts.lengths(), EVALUATION_TOKENS, usize::MAX) {
        if observer.stop().is_some() {
            return Ok(None);
        }
        observer.alive();
        rows.push(model.features(&examples.texts.pack(&indices, None, device)?, &Mode::eval())?);
        order.extend(indices.iter().map(|&index| index as i64));
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let computed = Tensor::f_cat(&rows, 0)?;
    let places = Tensor::f_from_slice(&order)?.f_to_device(device)?;
    Ok(Some(computed.f_zeros_like()?.f_index_copy(0, &places, &computed)?))
}

impl Recipe for TextClassification {
    fn examples(&self) -> usize {
        self.training.examples.len()
    }

    fn weight(&self, examples: &[usize], _epoch: u64) -> f64 {
        self.loss.weight(&self.training.examples.targets, examples)
    }

    fn forward(&self, examples: &[usize], epoch: u64, mode: &Mode) -> Result<Forward> {
        let Part { examples: all, .. } = &self.training;
        let noise = self.noise.as_ref().map(|noise| TokenNoise { epoch, ..*noise });
        let change = noise.as_ref().map(|noise| -> &dyn Change { noise });
        let logits = self.logits(&self.training, examples, change, mode)?;
        let targets = self.loss.targets(&all.targets, examples, self.device)?;
        let correct = match &all.targets {
            Targets::Classes(_) => {
                let _guard = tch::no_grad_guard();
                let right = logits.f_argmax(1, false)?.f_eq_tensor(&targets)?.f_sum(Kind::Int64)?;
                Some((right, examples.len() as u64))
            }
            Targets::Sets(_) | Targets::Values(_) => None,
        };
        let tokens = examples.iter().map(|&index| all.texts.ids_of(index).len() as u64).sum();
        Ok(Forward { loss_sum: self.loss.sum(&logits, &targets)?, correct, tokens })
    }

    fn validate(&self, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>> {
        if self.validation.examples.is_empty() {
            return Ok(None);
        }
        self.evaluate(&self.validation, false, observer)
    }

    fn has_test(&self) -> bool {
        self.test.is_some()
    }

    fn test(&self, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>> {
        self.test.as_ref().map_or(Ok(None), |part| self.evaluate(part, true, observer))
    }
}
