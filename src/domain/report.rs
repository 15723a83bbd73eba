//! What reading a data file found: a report, not an error, so that people see every fault at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many faults a report lists; the rest are only counted.
pub const LISTED_FAULTS: usize = 100;

/// How a data file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values (RFC 4180) with a header.
    Csv,
}

/// One thing that is wrong with a data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// 1 is the first line of the file. For CSV it is the line on which the row starts.
    pub line: u64,
    /// The JSON key or CSV column at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub message: String,
}

/// Faults up to [`LISTED_FAULTS`], and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    pub count: u64,
    pub listed: Vec<Fault>,
}

impl Faults {
    /// Adds one.
    pub fn push(&mut self, line: u64, field: Option<&str>, message: impl Into<String>) {
        self.count += 1;
        if self.listed.len() < LISTED_FAULTS {
            self.listed.push(Fault { line, field: field.map(str::to_owned), message: message.into() });
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The faults in one sentence, the first few in full.
    pub fn summary(&self) -> String {
        let shown: Vec<String> = self
            .listed
            .iter()
            .take(3)
            .map(|fault| match &fault.field {
                Some(field) => format!("line {}, {field}: {}", fault.line, fault.message),
                None => format!("line {}: {}", fault.line, fault.message),
            })
            .collect();
        let more = self.count.saturating_sub(shown.len() as u64);
        let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("{}{tail}", shown.join("; "))
    }
}

/// Lengths of texts in characters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    pub min: u64,
    pub max: u64,
    pub mean: f64,
    /// Upper bound (a power of two) to the number of texts of at most that length and above the bound before.
    pub histogram: BTreeMap<u64, u64>,
}

impl Lengths {
    /// Counts one text; `count` is the number of texts with it.
    pub fn add(&mut self, length: u64, count: u64) {
        self.min = if count == 1 { length } else { self.min.min(length) };
        self.max = self.max.max(length);
        self.mean += (length as f64 - self.mean) / count as f64;
        *self.histogram.entry(length.max(1).next_power_of_two()).or_default() += 1;
    }
}

/// What a file of labelled texts holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelledReport {
    pub examples: u64,
    /// Label to number of examples.
    pub labels: BTreeMap<String, u64>,
    /// Lengths of the texts in characters.
    pub text_lengths: Lengths,
    pub faults: Faults,
}

/// What is known about a file from its bytes alone, found when it is uploaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileReport {
    pub format: DataFormat,
    /// Lines (JSONL) or rows (CSV) with data.
    pub rows: u64,
    /// Faults that make the file unreadable whatever it is used for.
    pub faults: Faults,
    /// The file read as labelled texts, where its keys or columns look like that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_classification: Option<LabelledReport>,
}

impl FileReport {
    /// Whether it can be read as data at all.
    pub fn is_readable(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What preparing a job's data found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    pub training: LabelledReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<LabelledReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<LabelledReport>,
    /// Training examples held out for validation, where no validation file is given.
    pub held_out: u64,
    /// Validation texts that are also, character for character, training texts.
    pub validation_overlap: u64,
    /// Lines of the validation file with such texts (the first few).
    pub validation_overlap_lines: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::{Faults, LISTED_FAULTS, Lengths};

    #[test]
    fn faults_beyond_the_cap_are_counted_only() {
        let mut faults = Faults::default();
        for line in 1..=150 {
            faults.push(line, Some("label"), "is missing");
        }
        assert_eq!((faults.count, faults.listed.len()), (150, LISTED_FAULTS));
        assert_eq!(
            faults.summary(),
            "line 1, label: is missing; line 2, label: is missing; line 3, label: is missing; and 147 more"
        );
    }

    #[test]
    fn lengths_keep_extremes_mean_and_powers_of_two() {
        let mut lengths = Lengths::default();
        for (i, length) in [3, 4, 5, 100].into_iter().enumerate() {
            lengths.add(length, i as u64 + 1);
        }
        assert_eq!((lengths.min, lengths.max, lengths.mean), (3, 100, 28.0));
        assert_eq!(lengths.histogram.into_iter().collect::<Vec<_>>(), [(4, 2), (8, 1), (128, 1)]);
    }
}
