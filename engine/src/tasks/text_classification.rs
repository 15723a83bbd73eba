//! Text classification: one label per text, as in Transformers' `BertForSequenceClassification`.

use std::path::Path;

use serde::Serialize;
use tch::{Device, Kind, Reduction, Tensor};

use super::{Forward, Recipe};
use crate::data::examples::Examples;
use crate::data::sampler::by_length;
use crate::error::{EngineError, Result};
use crate::models::bert::{BertClassifier, BertConfig};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::{self, Init, LoadReport, ParamTable};
use crate::score::{ClassScore, ConfusionMatrix};
use crate::text::TextTokenizer;
use crate::weights::Weights;
use finetuned::dataset::split::held_out;
use finetuned::domain::checkpoint::Metrics;
use finetuned::domain::hyperparameters::ClassWeights;
use finetuned::domain::run::RunSpec;

/// Tokens of one evaluation batch.
const EVALUATION_TOKENS: usize = 8192;

/// A classifier and its data.
pub struct TextClassification {
    model: BertClassifier,
    device: Device,
    pub labels: Vec<String>,
    pub training: Examples,
    pub validation: Examples,
    pub test: Option<Examples>,
    loss: Loss,
}

/// Cross-entropy with optional class weights and label smoothing (`torch.nn.CrossEntropyLoss`).
struct Loss {
    weights: Option<(Vec<f64>, Tensor)>,
    label_smoothing: f64,
}

impl Loss {
    /// Summed over the rows of `logits` `[S, C]`.
    fn sum(&self, logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
        let weights = self.weights.as_ref().map(|(_, tensor)| tensor);
        Ok(logits.f_cross_entropy_loss(classes, weights, Reduction::Sum, -100, self.label_smoothing)?)
    }

    fn weight(&self, class: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |(weights, _)| weights[class])
    }
}

/// What loading found, for the job's owner.
pub struct Loaded {
    pub recipe: TextClassification,
    pub table: ParamTable,
    pub report: LoadReport,
}

impl TextClassification {
    /// Loads the model and the data that `spec` names, computing matrix products in `compute` on `device`.
    ///
    /// # Errors
    /// The model or a data file cannot be used.
    pub fn load(spec: &RunSpec, device: Device, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
        let config_path = spec.model.join("config.json");
        let json = std::fs::read_to_string(&config_path).map_err(EngineError::io(&config_path))?;
        let config = BertConfig::parse(&json)?;
        let longest = spec.hyperparameters.max_sequence_length as usize;
        let tokenizer = TextTokenizer::open(&spec.model, longest, config.vocab_size)?;
        let load = |file, param| Examples::load(file, param, &spec.labels, &tokenizer, observer);
        let all = load(&spec.training, "training_file")?;
        let (training, validation) = if let Some(file) = &spec.validation {
            (all, load(file, "validation_file")?)
        } else {
            let held = held_out(&all.classes, spec.validation_split, spec.seed);
            let (held, kept) = all.partition(&held);
            (kept, held)
        };
        let test = spec.test.as_ref().map(|file| load(file, "test_file")).transpose()?;
        let weights = Weights::open(&spec.model, "bert")?;
        let classes = spec.labels.len();
        let head = head_init(&json, &spec.labels, &config);
        let (model, table, report) = params::build(&weights, device, compute, spec.seed, |root| {
            BertClassifier::new(root, &config, classes as i64, head)
        })?;
        let weights = match spec.hyperparameters.class_weights {
            ClassWeights::None => None,
            ClassWeights::Balanced => {
                let weights = balanced(&training.classes, classes);
                let floats: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
                Some((weights, Tensor::f_from_slice(&floats)?.f_to_device(device)?))
            }
        };
        let loss = Loss { weights, label_smoothing: spec.hyperparameters.label_smoothing };
        let labels = spec.labels.clone();
        Ok(Loaded { recipe: Self { model, device, labels, training, validation, test, loss }, table, report })
    }

    /// Logits `[S, C]` in float32 of the examples at `indices`.
    fn logits(&self, examples: &Examples, indices: &[usize], mode: &Mode) -> Result<Tensor> {
        self.model.forward(&examples.pack(indices, self.device)?, mode)
    }

    fn classes(&self, examples: &Examples, indices: &[usize]) -> Result<Tensor> {
        let classes: Vec<i64> = indices.iter().map(|&index| examples.classes[index] as i64).collect();
        Ok(Tensor::f_from_slice(&classes)?.f_to_device(self.device)?)
    }

    /// Scores `examples`, or None if the run shall stop.
    pub fn evaluate(&self, examples: &Examples, observer: &dyn Observer) -> Result<Option<Evaluation>> {
        let _guard = tch::no_grad_guard();
        let mut predictions: Vec<Option<Prediction>> = vec![None; examples.len()];
        for indices in by_length(&examples.lengths(), EVALUATION_TOKENS) {
            if observer.stop().is_some() {
                return Ok(None);
            }
            observer.alive();
            let logits = self.logits(examples, &indices, &Mode::eval())?;
            let target = self.classes(examples, &indices)?;
            let losses = logits.f_cross_entropy_loss(&target, None::<Tensor>, Reduction::None, -100, 0.0)?;
            let rows = Vec::<Vec<f32>>::try_from(&logits.f_to_device(Device::Cpu)?)?;
            let losses = Vec::<f32>::try_from(&losses.f_to_device(Device::Cpu)?)?;
            for ((&index, logits), loss) in indices.iter().zip(rows).zip(losses) {
                predictions[index] = Some(Prediction::new(examples, index, &self.labels, logits, loss));
            }
        }
        let predictions: Vec<Prediction> = predictions.into_iter().flatten().collect();
        Ok(Some(Evaluation::new(examples, &self.labels, predictions)))
    }
}

impl Recipe for TextClassification {
    fn examples(&self) -> usize {
        self.training.len()
    }

    fn weight(&self, examples: &[usize]) -> f64 {
        examples.iter().map(|&index| self.loss.weight(self.training.classes[index])).sum()
    }

    fn forward(&self, examples: &[usize], mode: &Mode) -> Result<Forward> {
        let tokens = self.training.pack(examples, self.device)?;
        let classes = self.classes(&self.training, examples)?;
        let count = tokens.ids.size1()?.unsigned_abs();
        let logits = self.model.forward(&tokens, mode)?;
        let correct = {
            let _guard = tch::no_grad_guard();
            logits.f_argmax(1, false)?.f_eq_tensor(&classes)?.f_sum(Kind::Int64)?
        };
        Ok(Forward { loss_sum: self.loss.sum(&logits, &classes)?, correct, tokens: count })
    }

    fn validate(&self, observer: &dyn Observer) -> Result<Option<Metrics>> {
        if self.validation.is_empty() {
            return Ok(None);
        }
        Ok(self.evaluate(&self.validation, observer)?.map(|evaluation| {
            Metrics::from([
                ("full_valid_loss".to_owned(), evaluation.summary.loss),
                ("full_valid_accuracy".to_owned(), evaluation.summary.accuracy),
                ("full_valid_macro_f1".to_owned(), evaluation.summary.macro_f1),
            ])
        }))
    }
}

/// The classifier's last layer is taken over only from a checkpoint with the same labels in the same order.
fn head_init(config_json: &str, labels: &[String], config: &BertConfig) -> Init {
    #[derive(serde::Deserialize)]
    struct Labels {
        #[serde(default)]
        id2label: std::collections::BTreeMap<String, String>,
    }
    let stored = serde_json::from_str::<Labels>(config_json).map(|labels| labels.id2label).unwrap_or_default();
    let same = stored.len() == labels.len()
        && labels.iter().enumerate().all(|(class, label)| stored.get(&class.to_string()) == Some(label));
    if same { Init::Normal(config.initializer_range) } else { Init::Fresh(config.initializer_range) }
}

/// scikit-learn's `class_weight="balanced"`: examples / (classes × examples of the class); 0 for an absent class.
fn balanced(classes: &[usize], count: usize) -> Vec<f64> {
    let mut support = vec![0_u64; count];
    for &class in classes {
        support[class] += 1;
    }
    let total = classes.len() as f64;
    support.into_iter().map(|n| if n == 0 { 0.0 } else { total / (count as f64 * n as f64) }).collect()
}

/// One evaluated example.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    /// Its line in the file it came from.
    pub line: u64,
    pub label: String,
    pub prediction: String,
    pub loss: f32,
    /// One per class, before softmax.
    pub logits: Vec<f32>,
    #[serde(skip)]
    class: usize,
}

impl Prediction {
    fn new(examples: &Examples, index: usize, labels: &[String], logits: Vec<f32>, loss: f32) -> Self {
        let class = argmax(&logits);
        let label = labels[examples.classes[index]].clone();
        Self { line: examples.lines[index], label, prediction: labels[class].clone(), loss, logits, class }
    }
}

fn argmax(values: &[f32]) -> usize {
    let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.map_or(0, |(index, _)| index)
}

/// The scores that the job shows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub examples: u64,
    pub loss: f64,
    pub accuracy: f64,
    pub macro_f1: f64,
}

/// A whole evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    #[serde(flatten)]
    pub summary: Summary,
    pub classes: std::collections::BTreeMap<String, ClassScore>,
    /// The class names in the order of the matrix's rows (truth) and columns (prediction).
    pub labels: Vec<String>,
    pub confusion_matrix: ConfusionMatrix,
    #[serde(skip)]
    pub predictions: Vec<Prediction>,
}

impl Evaluation {
    fn new(examples: &Examples, labels: &[String], predictions: Vec<Prediction>) -> Self {
        let pairs = predictions.iter().zip(&examples.classes).map(|(prediction, &truth)| (truth, prediction.class));
        let matrix = ConfusionMatrix::new(labels.len(), pairs);
        let total: f64 = predictions.iter().map(|prediction| f64::from(prediction.loss)).sum();
        let summary = Summary {
            examples: matrix.total(),
            loss: total / matrix.total().max(1) as f64,
            accuracy: matrix.accuracy(),
            macro_f1: matrix.macro_f1(),
        };
        let classes = labels.iter().cloned().zip(matrix.classes()).collect();
        Self { summary, classes, labels: labels.to_vec(), confusion_matrix: matrix, predictions }
    }

    /// Writes `report.json` and `predictions.jsonl` into `directory`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let mut report = serde_json::to_vec_pretty(self).unwrap_or_default();
        report.push(b'\n');
        let path = directory.join("report.json");
        std::fs::write(&path, report).map_err(EngineError::io(&path))?;
        let mut lines = Vec::new();
        for prediction in &self.predictions {
            lines.extend(serde_json::to_vec(prediction).unwrap_or_default());
            lines.push(b'\n');
        }
        let path = directory.join("predictions.jsonl");
        std::fs::write(&path, lines).map_err(EngineError::io(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::{argmax, balanced};

    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        assert_eq!(balanced(&[0, 0, 0, 1], 2), [4.0 / 6.0, 2.0]);
        assert_eq!(balanced(&[0], 2), [0.5, 0.0]);
    }

    #[test]
    fn the_first_of_equal_logits_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, f32::NEG_INFINITY]), 1);
    }
}
