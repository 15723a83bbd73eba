//! What a classifier predicts.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
    /// The one among hyperparameters by name; none where it is left open.
    pub fn among(hyperparameters: &Map<String, Value>) -> Option<Self> {
        hyperparameters.get("problem_type").and_then(|value| serde_json::from_value(value.clone()).ok())
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SingleLabelClassification => "single_label_classification",
            Self::MultiLabelClassification => "multi_label_classification",
            Self::Regression => "regression",
        }
    }
}
