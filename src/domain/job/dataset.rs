//! How a job's data files are read, split and compared.

use serde::{Deserialize, Serialize};

use crate::domain::report::Delimiter;

/// The longest name of a key or column that a job may give, in characters.
pub const COLUMN_CHARS: usize = 200;

/// Share of the training examples held out for validation unless the job says otherwise.
pub const DEFAULT_VALIDATION_SPLIT: f64 = 0.1;

/// How a data file is read, whatever its part in a job. What is not given follows from the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// Key or column of the text, where it is not `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    /// Key or column of the label, where it is none of `label`, `category` and `class`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// What stands between the fields of CSV files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<Delimiter>,
    /// What stands between the labels of a field that holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_separator: Option<LabelSeparator>,
    /// The names of the classes by their numbers, where the file has numbers or multi-hot vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_names: Option<Vec<String>>,
    /// What becomes of files in an archive that are no images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_files: Option<OtherFiles>,
}

/// What stands between labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelSeparator {
    #[serde(rename = ",")]
    Comma,
    #[serde(rename = ";")]
    Semicolon,
    #[serde(rename = "|")]
    Pipe,
}

impl LabelSeparator {
    /// The character.
    pub fn char(self) -> char {
        match self {
            Self::Comma => ',',
            Self::Semicolon => ';',
            Self::Pipe => '|',
        }
    }
}

/// What becomes of files in an archive that are no images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherFiles {
    /// They are passed over, and counted.
    #[default]
    Skip,
    /// Each is a fault.
    Refuse,
}

/// What a job says of its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DatasetOptions {
    #[serde(flatten)]
    pub read: ReadOptions,
    /// Share of the training examples held out where no validation file is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_split: Option<f64>,
    /// What becomes of examples that several files have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<OverlapPolicy>,
}

/// What becomes of examples that several files have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapPolicy {
    /// They are counted and told.
    #[default]
    Warn,
    /// What the validation or test file has is not trained on, and what the test file has is not validated with.
    Drop,
    /// The job fails.
    Fail,
}
