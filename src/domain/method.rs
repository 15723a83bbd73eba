//! Fine-tuning methods: what a job does with its base model and data.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::backbone::Backbone;
use super::clip::clipped;
use super::error::{Error, Result};
use super::metric::{self, ACCURACY, LOSS, Metric};

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
}

/// All methods, in the order of the documentation.
pub const METHODS: [Method; 4] =
    [Method::TextClassification, Method::ImageClassification, Method::MaskedLm, Method::Embedding];

impl Method {
    /// The word on the wire: `method.type`, and the key of its object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TextClassification => "text_classification",
            Self::ImageClassification => "image_classification",
            Self::MaskedLm => "masked_lm",
            Self::Embedding => "embedding",
        }
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
        [
            ("ForSequenceClassification", Self::TextClassification),
            ("ForImageClassification", Self::ImageClassification),
            ("ForMaskedLM", Self::MaskedLm),
        ]
        .into_iter()
        .find_map(|(ending, method)| class.ends_with(ending).then_some(method))
    }

    /// The method for jobs that name none.
    pub fn default_for(backbone: Backbone) -> Self {
        if backbone.is_vision() { Self::ImageClassification } else { Self::TextClassification }
    }

    /// Whether models with such a backbone can be trained this way.
    pub fn supports(self, backbone: Backbone) -> bool {
        backbone.is_vision() == (self == Self::ImageClassification)
    }

    /// What an evaluation of its models measures.
    pub fn metrics(self, problem: ProblemType) -> Vec<Metric> {
        match (self, problem) {
            (Self::MaskedLm, _) => metric::measured(&metric::guesses::HIDDEN_WORDS),
            (Self::Embedding, _) => metric::measured(&metric::guesses::NEAREST),
            (_, ProblemType::SingleLabelClassification) => metric::measured(&metric::classes::SCORES),
            (_, ProblemType::MultiLabelClassification) => metric::measured(&metric::labels::SCORES),
            (_, ProblemType::Regression) => metric::measured(&metric::regression::SCORES),
        }
    }

    /// What the best of its checkpoints is the best by, where a job says nothing else: the accuracy, or else the loss.
    pub fn objective(self, problem: ProblemType) -> Metric {
        if self.metrics(problem).contains(&ACCURACY) { ACCURACY } else { LOSS }
    }

    /// Whether it learns labels.
    pub fn is_classification(self) -> bool {
        matches!(self, Self::TextClassification | Self::ImageClassification)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a classifier predicts; the words are those of `problem_type` in Transformers' `config.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemType {
    /// One of the labels.
    #[default]
    SingleLabelClassification,
    /// Any number of the labels.
    MultiLabelClassification,
    /// A number.
    Regression,
}

impl ProblemType {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SingleLabelClassification => "single_label_classification",
            Self::MultiLabelClassification => "multi_label_classification",
            Self::Regression => "regression",
        }
    }
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
}

impl DataKind {
    /// What `method` reads.
    pub fn of(method: Method, problem: ProblemType) -> Self {
        match method {
            Method::TextClassification => Self::Labelled(problem),
            Method::ImageClassification => Self::Images,
            Method::MaskedLm => Self::Texts,
            Method::Embedding => Self::Pairs,
        }
    }
}
