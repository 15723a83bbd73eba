//! Checking a job's files against each other before it may run: labels, sizes, overlap.

use std::collections::HashSet;
use std::io;

use sha2::{Digest, Sha256};

use super::columns::Columns;
use super::kind::{Kind, Seen};
use super::{Input, kinds, labelled};
use crate::domain::clip::clipped;
use crate::domain::job::{DEFAULT_VALIDATION_SPLIT, DatasetOptions, JobError, MIN_EXAMPLES};
use crate::domain::method::{DataKind, Method, ProblemType};
use crate::domain::report::{DataReport, ExamplesReport, Faults};

/// How many lines of overlapping texts are listed.
const LISTED_OVERLAPS: usize = 20;

/// The files of a job.
pub struct Inputs {
    pub training: Input,
    pub validation: Option<Input>,
    pub test: Option<Input>,
}

/// What a job wants of its files.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub method: Method,
    /// None where the training file decides.
    pub problem: Option<ProblemType>,
    pub options: DatasetOptions,
}

/// What was found in the files.
pub struct Found {
    pub report: DataReport,
    /// What a classifier is to predict.
    pub problem: ProblemType,
    /// The labels in the order of their class numbers, if the files can be trained on.
    pub labels: Result<Vec<String>, JobError>,
}

/// Reads all files and checks them against each other.
///
/// # Errors
/// A file cannot be read.
pub fn prepare(inputs: &Inputs, wanted: &Wanted) -> io::Result<Found> {
    let options = &wanted.options;
    let columns = &Columns::from(options);
    let problem = match wanted.problem {
        Some(problem) => problem,
        None if wanted.method == Method::TextClassification => labelled::problem_type(&inputs.training, columns)?,
        None => ProblemType::default(),
    };
    let kind = kinds::of(DataKind::of(wanted.method, problem));
    let mut report = DataReport::default();
    let mut texts = HashSet::new();
    report.training = kind.report(&inputs.training, columns, &mut |example, _| {
        if inputs.validation.is_some() {
            texts.insert(fingerprint(example.key));
        }
    })?;
    let training = &report.training;
    let check_labels = |example: &Seen<'_>, faults: &mut Faults| {
        for label in example.labels.iter().filter(|label| !training.labels().contains_key(*label)) {
            faults.push_at(&example.place, Some("label"), unseen(label));
        }
    };
    let (mut overlap, mut overlap_lines) = (0, Vec::new());
    if let Some(input) = &inputs.validation {
        report.validation = Some(kind.report(input, columns, &mut |example, faults| {
            check_labels(example, faults);
            if texts.contains(&fingerprint(example.key)) {
                overlap += 1;
                if overlap_lines.len() < LISTED_OVERLAPS {
                    overlap_lines.push(example.place.line);
                }
            }
        })?);
    } else {
        report.held_out = kind.held_out(training, options.validation_split.unwrap_or(DEFAULT_VALIDATION_SPLIT));
    }
    if let Some(input) = &inputs.test {
        report.test = Some(kind.report(input, columns, &mut |example, faults| check_labels(example, faults))?);
    }
    report.validation_overlap = overlap;
    report.validation_overlap_lines = overlap_lines;
    let labels = verdict(&report, kind.as_ref());
    Ok(Found { report: report.capped(), problem, labels })
}

fn verdict(report: &DataReport, kind: &dyn Kind) -> Result<Vec<String>, JobError> {
    usable(&report.training, "training_file", "Training file")?;
    let refuse = |message: String| JobError::new("invalid_training_file", message).param("training_file");
    kind.check_training(&report.training).map_err(refuse)?;
    for (part, param, name) in
        [(&report.validation, "validation_file", "Validation file"), (&report.test, "test_file", "Test file")]
    {
        if let Some(part) = part {
            usable(part, param, name)?;
        }
    }
    Ok(in_class_order(report.training.labels().keys().cloned().collect()))
}

pub(super) fn usable(report: &ExamplesReport, param: &str, name: &str) -> Result<(), JobError> {
    if !report.faults.is_empty() {
        let plural = if report.faults.count == 1 { "fault" } else { "faults" };
        let message = format!("{name} has {} {plural}: {}", report.faults.count, report.faults.summary());
        return Err(JobError::new(format!("invalid_{param}"), message).param(param));
    }
    let fewest = if param == "training_file" { MIN_EXAMPLES } else { 1 };
    if report.examples < fewest {
        let message = format!("{name} has {} example(s), but must have at least {fewest} examples", report.examples);
        return Err(JobError::new("invalid_n_examples", message).param(param));
    }
    Ok(())
}

/// Numbers in numeric order, anything else in the order of its characters.
fn in_class_order(mut labels: Vec<String>) -> Vec<String> {
    let numbers: Option<Vec<i64>> =
        labels.iter().map(|label| label.parse().ok().filter(|n: &i64| n.to_string() == *label)).collect();
    if let Some(mut numbers) = numbers {
        numbers.sort_unstable();
        numbers.into_iter().map(|n| n.to_string()).collect()
    } else {
        labels.sort_unstable();
        labels
    }
}

fn unseen(label: &str) -> String {
    format!("the label \"{}\" does not occur in the training file", clipped(label))
}

/// 128 bits of SHA-256: two examples that share them are the same.
fn fingerprint(bytes: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(bytes);
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::{Input, Inputs, Wanted, in_class_order};
    use crate::domain::job::{DatasetOptions, JobError};
    use crate::domain::method::Method;
    use crate::domain::report::{DataFormat, DataReport};

    fn csv(folder: &tempfile::TempDir, name: &str, rows: &[(&str, &str)]) -> Input {
        let path = folder.path().join(name);
        let lines = rows.iter().map(|(text, label)| format!("{text},{label}"));
        let all: Vec<String> = std::iter::once("text,label".to_owned()).chain(lines).collect();
        std::fs::write(&path, all.join("\n")).unwrap();
        Input::new(path, DataFormat::Csv)
    }

    fn prepare(
        training: &[(&str, &str)],
        validation: Option<&[(&str, &str)]>,
    ) -> (DataReport, Result<Vec<String>, JobError>) {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs {
            training: csv(&folder, "training.csv", training),
            validation: validation.map(|rows| csv(&folder, "validation.csv", rows)),
            test: None,
        };
        let options = DatasetOptions::default();
        let wanted = Wanted { method: Method::TextClassification, problem: None, options };
        let found = super::prepare(&inputs, &wanted).unwrap();
        (found.report, found.labels)
    }

    fn twelve() -> Vec<(&'static str, &'static str)> {
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]
            .into_iter()
            .enumerate()
            .map(|(i, text)| (text, if i % 2 == 0 { "yes" } else { "no" }))
            .collect()
    }

    #[test]
    fn good_files_give_labels_and_a_split() {
        let (report, labels) = prepare(&twelve(), None);
        assert_eq!(labels.unwrap(), ["no", "yes"]);
        assert_eq!((report.training.examples, report.held_out), (12, 2));
    }

    #[test]
    fn overlap_and_unseen_labels_are_found_by_line() {
        let validation = [("a", "yes"), ("new", "no"), ("c", "maybe")];
        let (report, labels) = prepare(&twelve(), Some(&validation));
        assert_eq!((report.validation_overlap, report.validation_overlap_lines), (2, vec![2, 4]));
        let error = labels.unwrap_err();
        assert_eq!(error.param.as_deref(), Some("validation_file"));
        assert_eq!(
            error.message,
            "Validation file has 1 fault: line 4, label: the label \"maybe\" does not occur in the training file"
        );
    }

    #[test]
    fn too_few_examples_or_labels_are_refused() {
        let error = prepare(&twelve()[..3], None).1.unwrap_err();
        assert_eq!(error.code, "invalid_n_examples");
        assert_eq!(error.message, "Training file has 3 example(s), but must have at least 10 examples");
        let one_label: Vec<_> = twelve().into_iter().map(|(text, _)| (text, "yes")).collect();
        assert!(prepare(&one_label, None).1.unwrap_err().message.contains("at least two"));
    }

    #[test]
    fn numeric_labels_sort_as_numbers() {
        let order = |labels: &[&str]| in_class_order(labels.iter().map(|&label| label.to_owned()).collect());
        assert_eq!(order(&["10", "9", "-1"]), ["-1", "9", "10"]);
        assert_eq!(order(&["10", "9", "01"]), ["01", "10", "9"]);
    }
}
