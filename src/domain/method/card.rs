//! What shared code asks of a method.

use super::super::backbone::Backbone;
use super::super::error::Result;
use super::super::hyperparameters::definition::Definition;
use super::super::hyperparameters::own::Own;
use super::super::metric::Metric;
use super::problem::ProblemType;

/// Everything that the rest of the service needs to know of a method.
pub struct Card {
    /// The word on the wire: `method.type`, and the key of its object.
    pub name: &'static str,
    /// The models that it trains.
    pub backbones: &'static [Backbone],
    /// What the classes of its models in Transformers end with, if that tells them from others.
    pub class_endings: &'static [&'static str],
    /// Whether its models say how many tokens they take of a text, and are trained with as many as their base says.
    pub has_length: bool,
    /// What is right for most of its jobs, where these leave it to us.
    pub usual: Usual,
    /// Whether its models have a head that learns labels.
    pub learns_labels: bool,
    /// The hyperparameters that it has besides the shared ones.
    pub own: &'static [Definition],
    /// Its values among those of a run, with defaults for what is missing.
    pub settle: fn(Own) -> Result<Own>,
    /// What an evaluation of its models measures.
    pub metrics: fn(ProblemType) -> Vec<Metric>,
    /// What its files are read as.
    pub data: fn(ProblemType) -> DataKind,
    /// The share of a batch's tokens for which it scores every word.
    pub scores_words: fn(&Own) -> f64,
    /// Whether it fills rows of as many tokens as a text may have, of which a batch is so many.
    pub packs: fn(&Own) -> bool,
    /// Whether it sees other inputs in each epoch, so that nothing of them can be computed once.
    pub varies_inputs: fn(&Own) -> bool,
    /// Why a run keeps no statistics of its training examples; None where it does.
    pub without_examples: fn(&Own) -> Option<&'static str>,
    pub description: Description,
}

/// What "auto" becomes within.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    /// Fewest and most examples of a batch.
    pub batch_size: (u64, u64),
    /// Fewest and most epochs.
    pub epochs: (u64, u64),
    /// Most tokens of an example, where the model takes more.
    pub longest: u32,
    /// Whether adapters are trained, and not the whole model.
    pub adapts: bool,
    /// What the rate that is usual for a model of its size is multiplied by.
    pub rate: f64,
}

impl Usual {
    /// Of models whose heads learn from nothing.
    pub const HEADS: Self = Self { batch_size: (8, 32), epochs: (3, 20), longest: u32::MAX, adapts: false, rate: 1.0 };
    /// Of language models, which know most of it already, and take long texts.
    pub const LANGUAGE: Self = Self { batch_size: (4, 16), epochs: (3, 5), longest: 2048, adapts: true, rate: 1.0 };
    /// Of language models that are to prefer what they can say already: a tenth of the rate.
    pub const PREFERENCES: Self = Self { epochs: (1, 3), rate: 0.1, ..Self::LANGUAGE };
}

/// What the model card says of its models.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// `library_name` and `pipeline_tag` of Hugging Face's model cards.
    pub library: &'static str,
    pub pipeline: &'static str,
    /// What loads them, in Markdown.
    pub loaders: &'static str,
}

/// What the files of a job are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// Texts with labels or values.
    Labelled(ProblemType),
    /// Images with one label each.
    Images,
    /// Plain texts.
    Texts,
    /// Pairs or triplets of texts.
    Pairs,
    /// Conversations to imitate, or texts that go on.
    Chats,
    /// Conversations, or texts, with two ways in which they may go on, of which one is preferred.
    Preferences,
}
