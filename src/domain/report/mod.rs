//! What reading a data file found: a report, not an error, so that people see every fault at once.

mod contents;
mod counts;
mod faults;
mod file;
mod flat;

use serde::{Deserialize, Serialize};

pub use contents::{
    Contents, ExamplesReport, ImageStatistics, LISTED_LABELS, Labels, Lengths, MinMax, OtherLabels, Values,
};
pub use counts::{Counts, LISTED_LINES, Lines, Note, Sightings};
pub use faults::{Fault, Faults, LISTED_FAULTS, Place};
pub use file::{Compression, DataFormat, Delimiter, FileReport, MethodUse, UploadKind};

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
    /// Validation texts that are also, character for character, training texts.
    pub validation_overlap: u64,
    /// Lines of the validation file with such texts (the first few).
    pub validation_overlap_lines: Vec<u64>,
}

impl DataReport {
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
