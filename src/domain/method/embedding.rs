//! Sentence embeddings from pairs or triplets of texts.

use serde::{Deserialize, Serialize};

use super::super::backbone::Backbone;
use super::super::hyperparameters::definition::{DefaultValue, Definition, above_zero};
use super::super::metric;
use super::card::{Card, DataKind, Description, Usual};
use super::common::{MAX_SEQUENCE_LENGTH, TOKEN_DROPOUT, TOKEN_MASKING, varies_texts};

/// Its own hyperparameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub scale: f64,
    pub token_dropout: f64,
    pub token_masking: f64,
}

const SCALE: Definition = Definition {
    name: "scale",
    rule: above_zero(1000.0),
    auto: false,
    default: DefaultValue::Number(20.0),
    doc: "What cosine similarities are multiplied by in the ranking loss: one over its temperature.",
    shapes_training: true,
    evaluates: true,
};

const OWN: &[Definition] = &[MAX_SEQUENCE_LENGTH, TOKEN_DROPOUT, TOKEN_MASKING, SCALE];

pub(super) const CARD: Card = Card {
    name: "embedding",
    backbones: &[Backbone::TextTransformer],
    class_endings: &[],
    has_length: true,
    usual: Usual::HEADS,
    learns_labels: false,
    own: OWN,
    settle: |own| own.settled::<Settings>(OWN),
    metrics: |_| metric::measured(&metric::guesses::NEAREST),
    data: |_| DataKind::Pairs,
    scores_words: |_| 0.0,
    packs: |_| false,
    varies_inputs: varies_texts,
    without_examples: |_| Some("pairs and triplets of texts have no labels"),
    description: Description {
        library: "sentence-transformers",
        pipeline: "sentence-similarity",
        loaders: "`SentenceTransformer`",
    },
};
