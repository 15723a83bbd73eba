//! What reading a data file found: a report, not an error, so that people see every fault at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::method::Method;

/// How many faults a report lists; the rest are only counted.
pub const LISTED_FAULTS: usize = 100;

/// How many labels a report lists, the most frequent ones; the rest are only counted.
pub const LISTED_LABELS: usize = 1000;

/// What a report does not list of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherLabels {
    /// How many there are.
    pub labels: u64,
    /// The examples that have them, counted once for each.
    pub examples: u64,
}

impl OtherLabels {
    /// Takes all but the most frequent labels out of `labels`.
    fn take(labels: &mut BTreeMap<String, u64>) -> Option<Self> {
        if labels.len() <= LISTED_LABELS {
            return None;
        }
        let mut sorted: Vec<(String, u64)> = std::mem::take(labels).into_iter().collect();
        // Stable, so equally frequent ones stay in the order of their names.
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let others = sorted.split_off(LISTED_LABELS);
        labels.extend(sorted);
        Some(Self { labels: others.len() as u64, examples: others.iter().map(|(_, count)| count).sum() })
    }
}

/// How a data file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values (RFC 4180) with a header.
    Csv,
    /// One text per line.
    Text,
    /// A zip archive of images, a folder for each class.
    Zip,
    /// The same as a tar archive, not compressed.
    Tar,
}

/// Where in a data file something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The line, or the number of the archive's member; 1 is the first.
    pub line: u64,
    /// The name of the archive's member, printable and short.
    pub member: Option<String>,
}

/// One thing that is wrong with a data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// 1 is the first line of the file. For CSV it is the line on which the row starts, for archives the number of the
    /// member.
    pub line: u64,
    /// The member of an archive at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The JSON key or CSV column at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub message: String,
}

impl Fault {
    /// What is wrong at a line.
    pub fn new(line: u64, field: Option<&str>, message: impl Into<String>) -> Self {
        Self { line, member: None, field: field.map(str::to_owned), message: message.into() }
    }

    /// What is wrong at a line or with a member.
    pub fn at(place: &Place, field: Option<&str>, message: impl Into<String>) -> Self {
        Self { member: place.member.clone(), ..Self::new(place.line, field, message) }
    }
}

/// Faults up to [`LISTED_FAULTS`], and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    pub count: u64,
    pub listed: Vec<Fault>,
}

impl Faults {
    /// Adds one at a line.
    pub fn push(&mut self, line: u64, field: Option<&str>, message: impl Into<String>) {
        self.extend([Fault::new(line, field, message)]);
    }

    /// Adds one at a line or a member.
    pub fn push_at(&mut self, place: &Place, field: Option<&str>, message: impl Into<String>) {
        self.extend([Fault::at(place, field, message)]);
    }

    /// Both lists in the order of their lines.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        self.count += other.count;
        self.listed.extend(other.listed);
        self.listed.sort_by_key(|fault| fault.line);
        self.listed.truncate(LISTED_FAULTS);
        self
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
            .map(|fault| match (&fault.member, &fault.field) {
                (Some(member), _) => format!("{member} (member {}): {}", fault.line, fault.message),
                (None, Some(field)) => format!("line {}, {field}: {}", fault.line, fault.message),
                (None, None) => format!("line {}: {}", fault.line, fault.message),
            })
            .collect();
        let more = self.count.saturating_sub(shown.len() as u64);
        let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("{}{tail}", shown.join("; "))
    }
}

impl Extend<Fault> for Faults {
    fn extend<I: IntoIterator<Item = Fault>>(&mut self, faults: I) {
        for fault in faults {
            self.count += 1;
            if self.listed.len() < LISTED_FAULTS {
                self.listed.push(fault);
            }
        }
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

/// The values that a regression is to predict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Values {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
}

/// What a file of examples holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExamplesReport {
    pub examples: u64,
    /// Label to number of examples; empty where there are no labels.
    pub labels: BTreeMap<String, u64>,
    /// Those that are not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_labels: Option<OtherLabels>,
    /// Lengths of the texts in characters; all texts of an example together.
    pub text_lengths: Lengths,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Values>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageStatistics>,
    pub faults: Faults,
}

impl ExamplesReport {
    /// How many labels there are.
    pub fn label_count(&self) -> u64 {
        self.labels.len() as u64 + self.other_labels.map_or(0, |others| others.labels)
    }

    /// As it is kept and shown.
    #[must_use]
    pub fn capped(mut self) -> Self {
        self.other_labels = OtherLabels::take(&mut self.labels).or(self.other_labels);
        self
    }
}

/// The least and the most of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    /// Takes in a value; `first` says that there was none before.
    pub fn add(&mut self, value: u64, first: bool) {
        self.min = if first { value } else { self.min.min(value) };
        self.max = self.max.max(value);
    }
}

/// What the images of a file are like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStatistics {
    /// Widths in pixels, as the images are shown (EXIF orientation applied).
    pub widths: Range,
    /// Heights in pixels, likewise.
    pub heights: Range,
    /// How the images are written (`jpeg`, `png`, `webp`), and how many each.
    pub formats: BTreeMap<String, u64>,
}

/// What a file of labelled images holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageReport {
    pub examples: u64,
    /// Label to number of examples.
    pub labels: BTreeMap<String, u64>,
    /// Those that are not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_labels: Option<OtherLabels>,
    #[serde(flatten)]
    pub images: ImageStatistics,
    pub faults: Faults,
}

impl ImageReport {
    /// As it is kept and shown.
    #[must_use]
    pub fn capped(mut self) -> Self {
        self.other_labels = OtherLabels::take(&mut self.labels).or(self.other_labels);
        self
    }
}

/// Whether a file can be used for a method as it stands: with the usual names of columns, and none that a job gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodUse {
    pub method: Method,
    pub usable: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// What is known about a file from its bytes alone, found when it is uploaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileReport {
    pub format: DataFormat,
    /// Lines (JSONL), rows (CSV) or members (zip, tar) with data.
    pub rows: u64,
    /// Faults that make the file unreadable whatever it is used for.
    pub faults: Faults,
    /// The file read as labelled texts, where its keys or columns look like that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_classification: Option<ExamplesReport>,
    /// The file read as labelled images: every archive, and JSONL with such keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_classification: Option<ImageReport>,
    /// What it can be used for, by method; empty where it is unreadable, or was read before this was kept.
    #[serde(default)]
    pub methods: Vec<MethodUse>,
}

impl FileReport {
    /// Whether it can be read as data at all.
    pub fn is_readable(&self) -> bool {
        self.faults.is_empty()
    }

    /// Why no method can use the file as it stands, in a sentence; None where one can.
    pub fn why_useless(&self) -> Option<String> {
        if self.methods.is_empty() || self.methods.iter().any(|one| one.usable) {
            return None;
        }
        let reasons = self.methods.iter().filter_map(|one| Some(format!("{}: {}", one.method, one.reason.as_ref()?)));
        Some(format!("No method can use the file as it stands. {}", reasons.collect::<Vec<_>>().join(". ")))
    }
}

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

#[cfg(test)]
mod tests {
    use super::{ExamplesReport, Faults, FileReport, LISTED_FAULTS, LISTED_LABELS, Lengths, OtherLabels, Place, Range};

    #[test]
    fn labels_beyond_the_cap_are_counted_only() {
        let labels = (0..LISTED_LABELS as u64 + 7).map(|i| (format!("label {i:05}"), 1 + i % 2)).collect();
        let report = ExamplesReport { labels, ..ExamplesReport::default() }.capped();
        assert_eq!((report.labels.len(), report.label_count()), (LISTED_LABELS, LISTED_LABELS as u64 + 7));
        // The rare ones are cut, the last in the order of their names.
        assert_eq!(report.other_labels, Some(OtherLabels { labels: 7, examples: 7 }));
        assert!(report.labels.contains_key("label 01005") && !report.labels.contains_key("label 01006"));
        assert_eq!(report.clone().capped(), report);
        let older: ExamplesReport = serde_json::from_str(
            r#"{"examples": 1, "labels": {"a": 1}, "text_lengths": {"min": 1, "max": 1, "mean": 1.0, "histogram": {}},
                "faults": {"count": 0, "listed": []}}"#,
        )
        .unwrap();
        assert_eq!((older.label_count(), older.other_labels), (1, None));
    }

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
    fn a_fault_of_an_archive_names_its_member() {
        let mut faults = Faults::default();
        faults.push_at(&Place { line: 7, member: Some("cats/1.jpg".to_owned()) }, None, "is a GIF image");
        assert_eq!(faults.summary(), "cats/1.jpg (member 7): is a GIF image");
        let json = serde_json::to_value(&faults.listed[0]).unwrap();
        assert_eq!(json, serde_json::json!({"line": 7, "member": "cats/1.jpg", "message": "is a GIF image"}));
        let older: super::Fault = serde_json::from_str(r#"{"line": 1, "message": "is empty"}"#).unwrap();
        assert_eq!(older.member, None);
    }

    #[test]
    fn merged_faults_stand_in_the_order_of_their_lines() {
        let (mut one, mut other) = (Faults::default(), Faults::default());
        (1..=80).for_each(|line| one.push(2 * line, None, "even"));
        (1..=80).for_each(|line| other.push(2 * line - 1, None, "odd"));
        let merged = one.merged(other);
        assert_eq!(merged.count, 160);
        assert!(merged.listed.iter().map(|fault| fault.line).eq(1..=LISTED_FAULTS as u64));
    }

    #[test]
    fn reports_of_before_uses_were_kept_still_read() {
        let report: FileReport =
            serde_json::from_str(r#"{"format": "csv", "rows": 1, "faults": {"count": 0, "listed": []}}"#).unwrap();
        assert!(report.is_readable() && report.methods.is_empty() && report.why_useless().is_none());
    }

    #[test]
    fn a_range_starts_at_its_first_value() {
        let mut range = Range::default();
        for (i, value) in [5, 9, 3].into_iter().enumerate() {
            range.add(value, i == 0);
        }
        assert_eq!(range, Range { min: 3, max: 9 });
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
