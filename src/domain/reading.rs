//! What reading a data file for a job found, kept so that the next job need not read the file again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hex::hex;
use super::job::{DatasetOptions, ReadOptions};
use super::method::{Method, ProblemType};
use super::report::{DataFormat, ExamplesReport, Overlap};
use super::split::Groups;

/// What was found in a file without faults. It holds nothing that grows with the file, but for its labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// What a classifier is to predict.
    pub problem: ProblemType,
    /// With all labels.
    pub report: ExamplesReport,
    /// The groups of equal examples, of a training file.
    pub groups: Groups,
    /// What it has in common with the files that it was compared with.
    pub overlaps: Vec<Overlap>,
}

/// The most bytes of a reading, as JSON, that is kept.
pub const MOST_BYTES: usize = 1 << 20;

/// The most readings that are kept of a file: of those that were asked last.
pub const MOST_READINGS: i64 = 8;

/// What is asked of a file: everything that the answer depends on besides its bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Question {
    format: DataFormat,
    /// It says what kind of data it is.
    method: Method,
    /// None where a training file is to decide.
    problem: Option<ProblemType>,
    options: ReadOptions,
    /// How similar texts are that are nearly equal, in percent.
    near: u32,
    against: Against,
}

/// What a file is compared with.
#[derive(Clone, Debug, Serialize)]
enum Against {
    Nothing,
    /// The texts and labels of a training file, and the texts of a validation file.
    Files {
        training: (String, DataFormat),
        validation: Option<(String, DataFormat)>,
    },
    /// SHA-256 of the labels that may occur.
    Labels(String),
}

impl Question {
    /// What is asked of a training file. Of texts that are compared, those are nearly equal that are as similar as `near`, in percent.
    pub fn new(
        format: DataFormat,
        method: Method,
        problem: Option<ProblemType>,
        options: &DatasetOptions,
        near: u32,
    ) -> Self {
        Self { format, method, problem, options: options.read.clone(), near, against: Against::Nothing }
    }

    /// The same of another file in `format`, compared with the training file of this hash, and with the validation file of that
    /// hash and format.
    #[must_use]
    pub fn compared(
        &self,
        format: DataFormat,
        training: &[u8; 32],
        validation: Option<(&[u8; 32], DataFormat)>,
    ) -> Self {
        let validation = validation.map(|(sha256, format)| (hex(sha256), format));
        let against = Against::Files { training: (hex(training), self.format), validation };
        Self { format, against, ..self.clone() }
    }

    /// The same of the file of an evaluation, whose labels must be among these.
    #[must_use]
    pub fn among<'a>(&self, problem: ProblemType, labels: impl IntoIterator<Item = &'a String>) -> Self {
        let labels: BTreeSet<&String> = labels.into_iter().collect();
        let mut hasher = Sha256::new();
        for label in labels {
            hasher.update((label.len() as u64).to_le_bytes());
            hasher.update(label);
        }
        let against = Against::Labels(hex(&hasher.finalize()));
        Self { problem: Some(problem), against, ..self.clone() }
    }

    /// SHA-256 of all of it.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn key(&self) -> serde_json::Result<[u8; 32]> {
        Ok(Sha256::digest(serde_json::to_vec(self)?).into())
    }
}

#[cfg(test)]
mod tests {
    use super::Question;
    use crate::domain::job::{DatasetOptions, LabelSeparator, OtherFiles, ReadOptions};
    use crate::domain::method::{Method, ProblemType};
    use crate::domain::report::{DataFormat, Delimiter};

    #[test]
    fn whatever_changes_an_answer_makes_another_question() {
        let options = DatasetOptions::default();
        let read = |read: ReadOptions| DatasetOptions { read, ..DatasetOptions::default() };
        let named = |text: Option<&str>, label: Option<&str>| {
            let (text_column, label_column) = (text.map(str::to_owned), label.map(str::to_owned));
            read(ReadOptions { text_column, label_column, ..ReadOptions::default() })
        };
        let tabs = ReadOptions { delimiter: Some(Delimiter::Tab), ..ReadOptions::default() };
        let bars = ReadOptions { label_separator: Some(LabelSeparator::Pipe), ..ReadOptions::default() };
        let classes = ReadOptions { label_names: Some(vec!["a".to_owned()]), ..ReadOptions::default() };
        let strict = ReadOptions { other_files: Some(OtherFiles::Refuse), ..ReadOptions::default() };
        let ask =
            |format, method, problem, options: &DatasetOptions| Question::new(format, method, problem, options, 80);
        let usual = ask(DataFormat::Csv, Method::TextClassification, None, &options);
        let labels = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect::<Vec<_>>();
        let test = |problem, known: &[&str]| usual.among(problem, &labels(known));
        let single = ProblemType::SingleLabelClassification;
        let questions = [
            usual.clone(),
            ask(DataFormat::Text, Method::TextClassification, None, &options),
            ask(DataFormat::Csv, Method::MaskedLm, None, &options),
            ask(DataFormat::Csv, Method::TextClassification, Some(single), &options),
            ask(DataFormat::Csv, Method::TextClassification, None, &named(Some("a"), None)),
            ask(DataFormat::Csv, Method::TextClassification, None, &named(None, Some("a"))),
            ask(DataFormat::Csv, Method::TextClassification, None, &read(tabs)),
            ask(DataFormat::Csv, Method::TextClassification, None, &read(bars)),
            ask(DataFormat::Csv, Method::TextClassification, None, &read(classes)),
            ask(DataFormat::Csv, Method::TextClassification, None, &read(strict)),
            Question::new(DataFormat::Csv, Method::TextClassification, None, &options, 90),
            usual.compared(DataFormat::Csv, &[0; 32], None),
            usual.compared(DataFormat::Csv, &[1; 32], None),
            usual.compared(DataFormat::Jsonl, &[0; 32], None),
            usual.compared(DataFormat::Csv, &[0; 32], Some((&[1; 32], DataFormat::Csv))),
            usual.compared(DataFormat::Csv, &[0; 32], Some((&[2; 32], DataFormat::Csv))),
            usual.compared(DataFormat::Csv, &[0; 32], Some((&[1; 32], DataFormat::Text))),
            test(single, &["a", "b"]),
            test(single, &["ab"]),
            test(ProblemType::MultiLabelClassification, &["a", "b"]),
        ];
        let keys: std::collections::HashSet<_> = questions.iter().map(|one| one.key().unwrap()).collect();
        assert_eq!(keys.len(), questions.len());
    }

    #[test]
    fn what_changes_no_answer_makes_no_other_question() {
        let split = DatasetOptions { validation_split: Some(0.3), ..DatasetOptions::default() };
        let [one, other] = [DatasetOptions::default(), split]
            .map(|options| Question::new(DataFormat::Csv, Method::TextClassification, None, &options, 80));
        assert_eq!(one.key().unwrap(), other.key().unwrap());
        let [one, other] = [["a", "b"], ["b", "a"]]
            .map(|labels| one.among(ProblemType::default(), &labels.map(str::to_owned)).key().unwrap());
        assert_eq!(one, other);
    }
}
