//! Direct preference optimisation of language models (Rafailov et al. 2023, arXiv:2305.18290): which of two answers is
//! preferred.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::backbone::Backbone;
use super::super::hyperparameters::definition::{DefaultValue, Definition, Rule, above_zero};
use super::super::metric;
use super::card::{Card, DataKind, Usual};
use super::common::{LABEL_SMOOTHING, MAX_SEQUENCE_LENGTH};
use super::language::{
    self, ADAPTER, DESCRIPTION, EXPORT, GGUF_TYPE, GRADIENT_CHECKPOINTING, Kept, TRUNCATION, Truncation,
};

/// Its own hyperparameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub beta: f64,
    pub loss: Loss,
    pub label_smoothing: f64,
    pub truncation: Truncation,
    /// How many layers are computed again in backward.
    #[serde(default)]
    pub gradient_checkpointing: u32,
    #[serde(flatten)]
    pub kept: Kept,
}

/// How far apart the two answers are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// As the paper has it; with label smoothing the conservative form (Mitchell 2023).
    Sigmoid,
    /// Azar et al. 2023 (arXiv:2310.12036), by the mean over an answer's tokens, as TRL has it.
    Ipo,
}

const BETA: Definition = Definition {
    name: "beta",
    rule: above_zero(2.0),
    auto: true,
    default: DefaultValue::Word("auto"),
    doc: "How much the model is held to what it was: more holds it closer (auto: 0.1).",
    shapes_training: true,
    evaluates: true,
};

/// What "auto" is.
const USUAL_BETA: f64 = 0.1;

const LOSS: Definition = Definition {
    name: "loss",
    rule: Rule::Word(&["sigmoid", "ipo"]),
    auto: false,
    default: DefaultValue::Word("sigmoid"),
    doc: "sigmoid is that of DPO's paper; ipo does not grow with the distance of answers that are told apart anyway.",
    shapes_training: true,
    evaluates: true,
};

const OWN: &[Definition] =
    &[MAX_SEQUENCE_LENGTH, ADAPTER, TRUNCATION, BETA, LOSS, LABEL_SMOOTHING, GRADIENT_CHECKPOINTING, EXPORT, GGUF_TYPE];

pub(super) const CARD: Card = Card {
    name: "dpo",
    backbones: &[Backbone::TextDecoder],
    class_endings: &[],
    has_length: false,
    usual: Usual::PREFERENCES,
    learns_labels: false,
    own: OWN,
    settle: |own| language::settled::<Settings>(own.with_auto(BETA.name, json!(USUAL_BETA)), OWN),
    metrics: |_| metric::measured(&metric::preferences::SCORES),
    data: |_| DataKind::Preferences,
    scores_words: |_| 0.0,
    packs: |_| false,
    varies_inputs: |_| false,
    without_examples: |_| Some("preferences have no labels"),
    description: DESCRIPTION,
};
