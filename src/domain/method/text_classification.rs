//! Text classification: one or several labels, or a value, for each text or pair of texts.

use serde::{Deserialize, Serialize};

use super::super::backbone::Backbone;
use super::super::hyperparameters::definition::{DefaultValue, Definition, Rule};
use super::super::metric;
use super::card::{Card, DataKind, Description, Usual};
use super::common::{
    CLASS_WEIGHTS, ClassWeights, LABEL_SMOOTHING, MAX_SEQUENCE_LENGTH, TOKEN_DROPOUT, TOKEN_MASKING, varies_texts,
};
use super::problem::ProblemType;

/// Its own hyperparameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    #[serde(default)]
    pub problem_type: ProblemType,
    pub class_weights: ClassWeights,
    pub label_smoothing: f64,
    pub token_dropout: f64,
    pub token_masking: f64,
}

const PROBLEM_TYPE: Definition = Definition {
    name: "problem_type",
    rule: Rule::Word(&["single_label_classification", "multi_label_classification", "regression"]),
    auto: true,
    default: DefaultValue::Word("auto"),
    doc: "What is predicted: one label, any number of labels, or a number (auto: several where the data has lists).",
    shapes_training: true,
    evaluates: false,
};

const OWN: &[Definition] =
    &[MAX_SEQUENCE_LENGTH, PROBLEM_TYPE, CLASS_WEIGHTS, LABEL_SMOOTHING, TOKEN_DROPOUT, TOKEN_MASKING];

pub(super) const CARD: Card = Card {
    name: "text_classification",
    backbones: &[Backbone::TextTransformer],
    class_endings: &["ForSequenceClassification"],
    has_length: false,
    usual: Usual::HEADS,
    learns_labels: true,
    own: OWN,
    settle: |own| own.settled::<Settings>(OWN),
    metrics: |problem| match problem {
        ProblemType::SingleLabelClassification => metric::measured(&metric::classes::SCORES),
        ProblemType::MultiLabelClassification => metric::measured(&metric::labels::SCORES),
        ProblemType::Regression => metric::measured(&metric::regression::SCORES),
    },
    data: DataKind::Labelled,
    scores_words: |_| 0.0,
    packs: |_| false,
    varies_inputs: varies_texts,
    without_examples: |_| None,
    description: Description {
        library: "transformers",
        pipeline: "text-classification",
        loaders: "`AutoModelForSequenceClassification.from_pretrained` and `AutoTokenizer.from_pretrained`",
    },
};
