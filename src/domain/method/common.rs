//! Hyperparameters that several methods have.

use serde::{Deserialize, Serialize};

use super::super::hyperparameters::definition::{DefaultValue, Definition, Rule, from_zero};
use super::super::hyperparameters::own::Own;

/// Of methods on texts.
pub const MAX_SEQUENCE_LENGTH: Definition = Definition {
    name: "max_sequence_length",
    rule: Rule::Integer { min: 8, max: 1_048_576 },
    auto: true,
    default: DefaultValue::Word("auto"),
    doc: "Tokens kept of each text (auto: the model's limit, for embeddings its own max_seq_length, for language models 2,048 at most); cut texts are counted and reported.",
    shapes_training: true,
    evaluates: true,
};

/// Of classifiers.
pub const CLASS_WEIGHTS: Definition = Definition {
    name: "class_weights",
    rule: Rule::Word(&["none", "balanced"]),
    auto: false,
    default: DefaultValue::Word("none"),
    doc: "balanced weighs each class by examples / (classes × its examples).",
    shapes_training: true,
    evaluates: false,
};

/// Of classifiers.
pub const LABEL_SMOOTHING: Definition = Definition {
    name: "label_smoothing",
    rule: from_zero(1.0, false),
    auto: false,
    default: DefaultValue::Number(0.0),
    doc: "Share of the target probability spread over all classes; of preferences, how likely one is the wrong way round.",
    shapes_training: true,
    evaluates: false,
};

/// Of methods that vary texts.
pub const TOKEN_DROPOUT: Definition = Definition {
    name: "token_dropout",
    rule: from_zero(1.0, false),
    auto: false,
    default: DefaultValue::Number(0.0),
    doc: "Augmentation: the probability with which each token of a training text is left out.",
    shapes_training: true,
    evaluates: false,
};

/// Of methods that vary texts.
pub const TOKEN_MASKING: Definition = Definition {
    name: "token_masking",
    rule: from_zero(1.0, false),
    auto: false,
    default: DefaultValue::Number(0.0),
    doc: "Augmentation: the probability with which each token of a training text becomes the mask token.",
    shapes_training: true,
    evaluates: false,
};

/// How classes weigh in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    None,
    Balanced,
}

/// Whether a method that has [`TOKEN_DROPOUT`] and [`TOKEN_MASKING`] varies its texts.
pub(super) fn varies_texts(own: &Own) -> bool {
    #[derive(Deserialize)]
    struct Noise {
        token_dropout: f64,
        token_masking: f64,
    }
    own.read::<Noise>().is_ok_and(|noise| noise.token_dropout > 0.0 || noise.token_masking > 0.0)
}
