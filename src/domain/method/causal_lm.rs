//! Continued pre-training: guessing the next words of plain texts adapts a language model to a domain.

use serde::{Deserialize, Serialize};

use super::super::backbone::Backbone;
use super::super::hyperparameters::definition::Definition;
use super::super::metric;
use super::card::{Card, DataKind, Usual};
use super::common::MAX_SEQUENCE_LENGTH;
use super::language::{self, ADAPTER, DESCRIPTION, EXPORT, GGUF_TYPE, GRADIENT_CHECKPOINTING, Kept, PACKING, packed};

/// Its own hyperparameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub packing: bool,
    /// How many layers are computed again in backward.
    #[serde(default)]
    pub gradient_checkpointing: u32,
    #[serde(flatten)]
    pub kept: Kept,
}

const OWN: &[Definition] = &[MAX_SEQUENCE_LENGTH, ADAPTER, packed(PACKING), GRADIENT_CHECKPOINTING, EXPORT, GGUF_TYPE];

pub(super) const CARD: Card = Card {
    name: "causal_lm",
    backbones: &[Backbone::TextDecoder],
    class_endings: &[],
    has_length: false,
    usual: Usual::LANGUAGE,
    learns_labels: false,
    own: OWN,
    settle: |own| language::settled::<Settings>(own, OWN),
    metrics: |_| metric::measured(&metric::guesses::WORDS),
    data: |_| DataKind::Texts,
    scores_words: |_| 0.0,
    packs: |own| own.read::<Settings>().is_ok_and(|own| own.packing),
    varies_inputs: |_| false,
    without_examples: |_| Some("plain texts have no labels"),
    description: DESCRIPTION,
};
