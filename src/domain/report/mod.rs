//! What reading a data file found: a report, not an error, so that people see every fault at once.

mod chats;
mod contents;
mod counts;
mod faults;
mod file;
mod flat;
mod lengths;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use chats::{ChatStatistics, PreferenceStatistics};
pub use contents::{Contents, ExamplesReport, ImageStatistics, LISTED_LABELS, Labels, MinMax, OtherLabels, Values};
pub use counts::{Counts, LISTED_LINES, Lines, Note, Sightings, on_lines};
pub use faults::{Fault, Faults, LISTED_FAULTS, Place};
pub use file::{Compression, DataFormat, Delimiter, FileReport, MethodUse, UploadKind};
pub use lengths::{Lengths, TokenLengths};

/// What preparing a job's data found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    pub training: ExamplesReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<ExamplesReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<ExamplesReport>,
    /// Training examples held out for validation, where no validation file is given.
    pub held_out: u64,
    /// Validation examples that are also training examples.
    pub validation_overlap: u64,
    /// Lines of the validation file with such examples (the first few).
    pub validation_overlap_lines: Vec<u64>,
    /// What the files have in common.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlaps: Vec<Overlap>,
    /// Examples that are not used, since another file has them, where the job asks for that.
    #[serde(default, skip_serializing_if = "Dropped::is_nothing")]
    pub dropped: Dropped,
    /// Whether equal examples are held out together. Reports of before that was done have it not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grouped: bool,
    /// How long the texts are in tokens, by file: known once a run of the job has begun. Of pairs each text counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub token_lengths: BTreeMap<Part, TokenLengths>,
    /// What there is to say of all files together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// A data file by its part in a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Training,
    Validation,
    Test,
}

impl Part {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// What a file has in common with another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    pub file: Part,
    pub with: Part,
    /// Examples that the other file has, too, but for letter case and white space; of images, those with the same pixels.
    pub equal: Sightings,
    /// Texts of which the other file has one that is nearly equal, but none that is equal.
    pub near: Sightings,
}

/// Examples that are not used, by file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub training: u64,
    pub validation: u64,
}

impl Dropped {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl DataReport {
    /// How many examples are trained on.
    pub fn training_examples(&self) -> u64 {
        self.training.examples.saturating_sub(self.held_out + self.dropped.training)
    }

    /// How many examples the run is validated with.
    pub fn validation_examples(&self) -> u64 {
        let of_file = |report: &ExamplesReport| report.examples.saturating_sub(self.dropped.validation);
        self.validation.as_ref().map_or(self.held_out, of_file)
    }

    /// As it is kept and shown.
    #[must_use]
    pub fn capped(self) -> Self {
        Self {
            training: self.training.capped(),
            validation: self.validation.map(ExamplesReport::capped),
            test: self.test.map(ExamplesReport::capped),
            ..self
        }
    }
}
