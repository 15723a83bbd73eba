//! Masked language modelling: guessing hidden words of plain texts adapts a model to a domain.

use serde::{Deserialize, Serialize};

use super::super::backbone::Backbone;
use super::super::hyperparameters::definition::{DefaultValue, Definition, Rule};
use super::super::metric;
use super::card::{Card, DataKind, Description, Usual};
use super::common::MAX_SEQUENCE_LENGTH;

/// Its own hyperparameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub mlm_probability: f64,
    pub whole_word_masking: bool,
}

const MLM_PROBABILITY: Definition = Definition {
    name: "mlm_probability",
    rule: Rule::Number { min: 0.0, min_included: false, max: 1.0, max_included: false },
    auto: false,
    default: DefaultValue::Number(0.15),
    doc: "Share of the tokens that are to be guessed; of ten, eight are masked, one is replaced, one stays.",
    shapes_training: true,
    evaluates: true,
};

const WHOLE_WORD_MASKING: Definition = Definition {
    name: "whole_word_masking",
    rule: Rule::Flag,
    auto: false,
    default: DefaultValue::Flag(false),
    doc: "Whether all tokens of a word are guessed together.",
    shapes_training: true,
    evaluates: true,
};

const OWN: &[Definition] = &[MAX_SEQUENCE_LENGTH, MLM_PROBABILITY, WHOLE_WORD_MASKING];

pub(super) const CARD: Card = Card {
    name: "masked_lm",
    backbones: &[Backbone::TextTransformer],
    class_endings: &["ForMaskedLM"],
    has_length: false,
    usual: Usual::HEADS,
    learns_labels: false,
    own: OWN,
    settle: |own| own.settled::<Settings>(OWN),
    metrics: |_| metric::measured(&metric::guesses::WORDS),
    data: |_| DataKind::Texts,
    scores_words: |own| own.read::<Settings>().map_or(1.0, |own| own.mlm_probability),
    packs: |_| false,
    varies_inputs: |_| true,
    without_examples: |_| Some("plain texts have no labels"),
    description: Description {
        library: "transformers",
        pipeline: "fill-mask",
        loaders: "`AutoModelForMaskedLM.from_pretrained` and `AutoTokenizer.from_pretrained`",
    },
};
