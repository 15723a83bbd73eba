//! Fine-tuning methods: what a job does with its base model and data.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::model::Family;

/// How a job trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// One label per text.
    TextClassification,
}

/// All methods, in the order of the documentation.
pub const METHODS: [Method; 1] = [Method::TextClassification];

impl Method {
    /// The word on the wire: `method.type`, and the key of its object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TextClassification => "text_classification",
        }
    }

    /// Reads `method.type`.
    ///
    /// # Errors
    /// The word names no method that is built.
    pub fn parse(word: &str) -> Result<Self> {
        METHODS.into_iter().find(|method| method.as_str() == word).ok_or_else(|| {
            let known = METHODS.map(Self::as_str).join(", ");
            Error::invalid("method.type", format!("'{word}' is not a supported method. Supported: {known}."))
        })
    }

    /// The method for jobs that name none.
    pub fn default_for(family: Family) -> Self {
        match family {
            Family::Bert => Self::TextClassification,
        }
    }

    /// Whether models of this family can be trained this way.
    pub fn supports(self, family: Family) -> bool {
        match (self, family) {
            (Self::TextClassification, Family::Bert) => true,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
