//! Memory of what a classifier says: its last layer, the logits of a batch, and what an evaluation keeps of each example.

use super::super::hyperparameters::Hyperparameters;
use super::super::method::{Card, ProblemType};
use super::super::model::ModelFacts;

/// Logits of one evaluation batch, at most, and at least those of one example.
pub const EVALUATION_LOGITS: usize = 4 << 20;

/// The most labels of which an evaluation lists every logit with each example; of more it lists the largest few.
pub const MOST_LISTED_LABELS: usize = 100;
pub const LISTED_LOGITS: usize = 20;

/// Bytes of a logit while a batch is at work: it, its logarithmic softmax, both gradients, and a copy.
const LOGIT: u64 = 20;
/// Bytes of an example in an evaluation, and of a logit that is listed with it: value and class.
const EXAMPLE: u64 = 64;
const LISTED: u64 = 8;
/// Bytes of what a training keeps of an example, twice while a checkpoint is written; and of its values in the file.
const STATISTICS: u64 = 128;
const STATISTICS_ON_DISK: u64 = 64;
/// Bytes of a label: its names in the spec, the model's config and the report, with its scores.
const LABEL: u64 = 3 << 10;

/// Parameters of the last layer.
pub(super) fn head(model: &ModelFacts, labels: u64) -> u64 {
    (u64::from(model.hidden_size) + 1) * labels
}

/// Bytes of the logits of a training batch.
pub(super) fn of_training(h: &Hyperparameters, labels: u64) -> u64 {
    LOGIT * u64::from(h.course.batch_size) * labels
}

/// Bytes of the logits of an evaluation batch.
pub(super) fn of_evaluation(examples: u64, labels: u64) -> u64 {
    LOGIT * labels.saturating_mul(examples).min((EVALUATION_LOGITS as u64).max(labels))
}

/// Bytes of what a training keeps of its examples: in memory, and in each checkpoint and the model.
pub(super) fn statistics(method: &Card, h: &Hyperparameters, examples: u64) -> (u64, u64) {
    let examples = if (method.without_examples)(&h.own).is_none() { examples } else { 0 };
    (STATISTICS * examples, STATISTICS_ON_DISK * examples)
}

/// Bytes of what an evaluation of `examples` examples keeps until it is written, and of the labels themselves.
pub(super) fn kept(h: &Hyperparameters, examples: u64, labels: u64) -> u64 {
    let listed = if labels <= MOST_LISTED_LABELS as u64 { labels } else { LISTED_LOGITS as u64 };
    let set = if h.problem_type() == ProblemType::MultiLabelClassification { labels.div_ceil(8) } else { 0 };
    examples * (EXAMPLE + LISTED * listed + set) + LABEL * labels
}
