//! Checking a job's files against each other before it may run: labels, sizes, overlap.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::inspect::labelled_report;
use super::labelled::{Columns, clipped};
use super::split::held_out_of;
use crate::domain::job::{DEFAULT_VALIDATION_SPLIT, DatasetOptions, JobError, MIN_EXAMPLES};
use crate::domain::report::{DataFormat, DataReport, LabelledReport};

/// How many lines of overlapping texts are listed.
const LISTED_OVERLAPS: usize = 20;

/// A file to prepare.
pub struct Input {
    pub path: PathBuf,
    pub format: DataFormat,
}

/// The files of a text classification job.
pub struct Inputs {
    pub training: Input,
    pub validation: Option<Input>,
    pub test: Option<Input>,
}

/// Reads all files and checks them against each other. The report says what was found; the labels, in the order of
/// their class numbers, come only if the files can be trained on.
///
/// # Errors
/// A file cannot be read.
pub fn text_classification(
    inputs: &Inputs,
    options: &DatasetOptions,
) -> io::Result<(DataReport, Result<Vec<String>, JobError>)> {
    let columns = Columns { text: options.text_column.as_deref(), label: options.label_column.as_deref() };
    let mut report = DataReport::default();
    let mut texts = HashSet::new();
    report.training = labelled_report(&inputs.training.path, inputs.training.format, columns, |example, _| {
        texts.insert(fingerprint(&example.text));
    })?;
    let training = &report.training;
    let (mut overlap, mut overlap_lines) = (0, Vec::new());
    if let Some(input) = &inputs.validation {
        report.validation = Some(labelled_report(&input.path, input.format, columns, |example, faults| {
            if !training.labels.contains_key(&example.label) {
                faults.push(example.line, Some("label"), unseen(&example.label));
            }
            if texts.contains(&fingerprint(&example.text)) {
                overlap += 1;
                if overlap_lines.len() < LISTED_OVERLAPS {
                    overlap_lines.push(example.line);
                }
            }
        })?);
    } else {
        let fraction = options.validation_split.unwrap_or(DEFAULT_VALIDATION_SPLIT);
        report.held_out = training.labels.values().map(|&count| held_out_of(count, fraction)).sum();
    }
    if let Some(input) = &inputs.test {
        report.test = Some(labelled_report(&input.path, input.format, columns, |example, faults| {
            if !training.labels.contains_key(&example.label) {
                faults.push(example.line, Some("label"), unseen(&example.label));
            }
        })?);
    }
    report.validation_overlap = overlap;
    report.validation_overlap_lines = overlap_lines;
    let verdict = verdict(&report);
    Ok((report, verdict))
}

fn verdict(report: &DataReport) -> Result<Vec<String>, JobError> {
    usable(&report.training, "training_file", "Training file")?;
    if report.training.labels.len() < 2 {
        let only = report.training.labels.keys().next().map(|label| clipped(label)).unwrap_or_default();
        let message = format!("Training file has the one label \"{only}\"; classification needs at least two.");
        return Err(JobError::new("invalid_training_file", message).param("training_file"));
    }
    for (part, param, name) in
        [(&report.validation, "validation_file", "Validation file"), (&report.test, "test_file", "Test file")]
    {
        if let Some(part) = part {
            usable(part, param, name)?;
        }
    }
    Ok(in_class_order(report.training.labels.keys().cloned().collect()))
}

fn usable(report: &LabelledReport, param: &str, name: &str) -> Result<(), JobError> {
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

/// 128 bits of SHA-256: two texts that share them are the same text.
fn fingerprint(text: &str) -> [u8; 16] {
    let digest = Sha256::digest(text.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::{Input, Inputs, in_class_order, text_classification};
    use crate::domain::job::{DatasetOptions, JobError};
    use crate::domain::report::{DataFormat, DataReport};

    fn csv(folder: &tempfile::TempDir, name: &str, rows: &[(&str, &str)]) -> Input {
        let path = folder.path().join(name);
        let lines = rows.iter().map(|(text, label)| format!("{text},{label}"));
        let all: Vec<String> = std::iter::once("text,label".to_owned()).chain(lines).collect();
        std::fs::write(&path, all.join("\n")).unwrap();
        Input { path, format: DataFormat::Csv }
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
        text_classification(&inputs, &DatasetOptions::default()).unwrap()
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
