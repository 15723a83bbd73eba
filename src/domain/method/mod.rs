//! Fine-tuning methods: what a job does with its base model and data. Each is one file, which says everything of it that
//! shared code asks; [`Method::card`] is the one place that tells them apart.

mod card;
pub mod causal_lm;
pub mod common;
pub mod dpo;
pub mod embedding;
pub mod image_classification;
pub mod language;
pub mod masked_lm;
pub(in crate::domain) mod problem;
pub mod supervised;
pub mod text_classification;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use card::{Card, DataKind, Description, Usual};
pub use problem::ProblemType;

use super::backbone::Backbone;
use super::clip::clipped;
use super::error::{Error, Result};
use super::hyperparameters::settings::Hyperparameters;
use super::metric::{ACCURACY, LOSS, Metric};

/// How a job trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// One or several labels, or a value, for each text or pair of texts.
    TextClassification,
    /// One label per image.
    ImageClassification,
    /// Guessing hidden words of plain texts: adapts a model to a domain.
    MaskedLm,
    /// Sentence embeddings from pairs or triplets of texts.
    Embedding,
    /// What an assistant says in conversations, and how texts go on.
    Supervised,
    /// Which of two answers is preferred.
    Dpo,
    /// Guessing the next words of plain texts: adapts a language model to a domain.
    CausalLm,
}

/// All methods, in the order of the documentation.
pub const METHODS: [Method; 7] = [
    Method::TextClassification,
    Method::ImageClassification,
    Method::MaskedLm,
    Method::Embedding,
    Method::Supervised,
    Method::Dpo,
    Method::CausalLm,
];

impl Method {
    /// What it is.
    pub fn card(self) -> &'static Card {
        match self {
            Self::TextClassification => &text_classification::CARD,
            Self::ImageClassification => &image_classification::CARD,
            Self::MaskedLm => &masked_lm::CARD,
            Self::Embedding => &embedding::CARD,
            Self::Supervised => &supervised::CARD,
            Self::Dpo => &dpo::CARD,
            Self::CausalLm => &causal_lm::CARD,
        }
    }

    /// The word on the wire: `method.type`, and the key of its object.
    pub fn as_str(self) -> &'static str {
        self.card().name
    }

    /// Reads `method.type`.
    ///
    /// # Errors
    /// The word names no method that is built.
    pub fn parse(word: &str) -> Result<Self> {
        METHODS.into_iter().find(|method| method.as_str() == word).ok_or_else(|| {
            let known = METHODS.map(Self::as_str).join(", ");
            let word = clipped(word);
            Error::invalid("method.type", format!("'{word}' is not a supported method. Supported: {known}."))
        })
    }

    /// The method that a class of Transformers is the outcome of; None for encoders without a head of ours.
    pub fn of_architecture(class: &str) -> Option<Self> {
        METHODS.into_iter().find(|method| method.card().class_endings.iter().any(|ending| class.ends_with(ending)))
    }

    /// The method for jobs that name none: the first that can train the model. Of language models it is the first for which the
    /// data is of use: what each method reads looks different, while texts for an encoder may lack their labels by mistake.
    pub fn default_for(backbone: Backbone, usable: &[Self]) -> Self {
        let fits = |method: &Self| method.supports(backbone);
        let told = |method: &Self| fits(method) && usable.contains(method) && backbone.is_language_model();
        let first = METHODS.into_iter().find(told).or_else(|| METHODS.into_iter().find(fits));
        first.unwrap_or(Self::TextClassification)
    }

    /// Whether models with such a backbone can be trained this way.
    pub fn supports(self, backbone: Backbone) -> bool {
        self.card().backbones.contains(&backbone)
    }

    /// What an evaluation of its models measures.
    pub fn metrics(self, problem: ProblemType) -> Vec<Metric> {
        (self.card().metrics)(problem)
    }

    /// What its files are read as.
    pub fn data(self, problem: ProblemType) -> DataKind {
        (self.card().data)(problem)
    }

    /// The method's own values among those that a run uses.
    ///
    /// # Errors
    /// They are another method's.
    pub fn settings<T: DeserializeOwned>(self, h: &Hyperparameters) -> Result<T> {
        (self.card().settle)(h.own.clone())?.read()
    }

    /// What the best of a run's models is the best by: what early stopping watches, or else its own objective.
    pub fn watched(self, h: &Hyperparameters) -> Metric {
        h.course.early_stopping.patience().map_or_else(|| self.objective(h.problem_type()), |rule| rule.metric)
    }

    /// What the best of its checkpoints is the best by, where a job says nothing else: the accuracy, or else the loss.
    pub fn objective(self, problem: ProblemType) -> Metric {
        if self.metrics(problem).contains(&ACCURACY) { ACCURACY } else { LOSS }
    }

    /// The method whose evaluations grade what a model writes: the one whose examples have a right answer.
    pub fn graded() -> Option<Self> {
        METHODS.into_iter().find(|method| method.data(ProblemType::default()) == DataKind::Chats)
    }

    /// Whether it learns labels.
    pub fn is_classification(self) -> bool {
        self.card().learns_labels
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
