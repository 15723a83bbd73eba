//! Checking a job's files against each other before it may run: labels, sizes, overlap.

use std::collections::HashSet;
use std::io;

use sha2::{Digest, Sha256};

use super::kind::Kind;
use super::{Input, kinds, labelled};
use crate::domain::clip::clipped;
use crate::domain::job::{DEFAULT_VALIDATION_SPLIT, DatasetOptions, JobError, MIN_EXAMPLES};
use crate::domain::method::{DataKind, Method, ProblemType};
use crate::domain::reading::{Overlap, Reading};
use crate::domain::report::{DataReport, ExamplesReport, Fault};

/// How many lines of overlapping texts are listed.
const LISTED_OVERLAPS: usize = 20;

/// Something of each file of a job.
#[derive(Clone, Debug)]
pub struct Parts<T> {
    pub training: T,
    pub validation: Option<T>,
    pub test: Option<T>,
}

/// A file of a job.
#[derive(Clone, Debug)]
pub enum Source {
    File(Input),
    /// What was found when the same was asked of the file before.
    Known(Box<Reading>),
}

impl Source {
    /// What is found in the file, by `read` unless it is known.
    pub(super) fn reading(self, read: impl FnOnce(&Input) -> io::Result<Reading>) -> io::Result<Reading> {
        match self {
            Self::File(input) => read(&input),
            Self::Known(reading) => Ok(*reading),
        }
    }
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
    /// What was found in each, or was known.
    pub readings: Parts<Reading>,
}

impl Found {
    /// Of a training file of which it cannot be told what it asks for.
    fn refused(fault: Fault) -> Self {
        let (problem, report) = (ProblemType::default(), ExamplesReport::of_fault(fault));
        let training = Reading { problem, report, overlap: Overlap::default() };
        let report = DataReport { training: training.report.clone(), ..DataReport::default() };
        let labels = usable(&report.training, "training_file", "Training file").map(|()| Vec::new());
        Self { report, problem, labels, readings: Parts { training, validation: None, test: None } }
    }
}

/// Reads the files that are not known, and checks all against each other. A validation file is compared with the texts of
/// the training file, so that one must be read where it is.
///
/// # Errors
/// A file cannot be read.
pub fn prepare(sources: Parts<Source>, wanted: &Wanted) -> io::Result<Found> {
    let problem = match problem(&sources.training, wanted)? {
        Ok(problem) => problem,
        Err(fault) => return Ok(Found::refused(fault)),
    };
    let reader = Reader { kind: kinds::of(wanted.method.data(problem)), problem };
    let compares = matches!(sources.validation, Some(Source::File(_)));
    if compares && matches!(sources.training, Source::Known(_)) {
        return Err(io::Error::other("a validation file is compared with a training file that is not read"));
    }
    let mut texts = HashSet::new();
    let training = sources.training.reading(|input| reader.training(input, compares.then_some(&mut texts)))?;
    let validate = |input: &Input| reader.other(input, &training, &texts);
    let validation = sources.validation.map(|source| source.reading(validate)).transpose()?;
    let test = |input: &Input| reader.other(input, &training, &HashSet::new());
    let test = sources.test.map(|source| source.reading(test)).transpose()?;
    let readings = Parts { training, validation, test };
    let kind = reader.kind.as_ref();
    let report = report(&readings, kind, &wanted.options);
    let labels = verdict(&report, kind);
    Ok(Found { report: report.capped(), problem, labels, readings })
}

/// 128 bits of SHA-256: two examples that share them are the same.
type Fingerprint = [u8; 16];

/// Reads the files of a job.
struct Reader {
    kind: Box<dyn Kind>,
    problem: ProblemType,
}

impl Reader {
    /// Reads the training file, and collects what its examples are known by.
    fn training(&self, input: &Input, mut texts: Option<&mut HashSet<Fingerprint>>) -> io::Result<Reading> {
        let report = self.kind.report(input, &mut |example, _| {
            if let Some(texts) = &mut texts {
                texts.insert(fingerprint(example.key));
            }
        })?;
        Ok(Reading { problem: self.problem, report, overlap: Overlap::default() })
    }

    /// Reads another file, whose labels must be among those of the training file, and finds its examples among `texts`.
    fn other(&self, input: &Input, training: &Reading, texts: &HashSet<Fingerprint>) -> io::Result<Reading> {
        let mut overlap = Overlap::default();
        let report = self.kind.report(input, &mut |example, faults| {
            for label in example.labels.iter().filter(|label| !training.report.labels().contains_key(*label)) {
                faults.push_at(&example.place, Some("label"), unseen(label));
            }
            if !texts.is_empty() && texts.contains(&fingerprint(example.key)) {
                overlap.examples += 1;
                if overlap.lines.len() < LISTED_OVERLAPS {
                    overlap.lines.push(example.place.line);
                }
            }
        })?;
        Ok(Reading { problem: self.problem, report, overlap })
    }
}

/// What is to be predicted, where the job leaves it to the training file.
fn problem(training: &Source, wanted: &Wanted) -> io::Result<Result<ProblemType, Fault>> {
    match (wanted.problem, training) {
        (Some(problem), _) => Ok(Ok(problem)),
        (None, Source::Known(reading)) => Ok(Ok(reading.problem)),
        (None, Source::File(input)) => match wanted.method.data(ProblemType::default()) {
            DataKind::Labelled(_) => labelled::problem_type(input),
            _ => Ok(Ok(ProblemType::default())),
        },
    }
}

fn report(readings: &Parts<Reading>, kind: &dyn Kind, options: &DatasetOptions) -> DataReport {
    let Parts { training, validation, test } = readings;
    let fraction = options.validation_split.unwrap_or(DEFAULT_VALIDATION_SPLIT);
    let overlap = validation.as_ref().map(|reading| reading.overlap.clone()).unwrap_or_default();
    DataReport {
        training: training.report.clone(),
        validation: validation.as_ref().map(|reading| reading.report.clone()),
        test: test.as_ref().map(|reading| reading.report.clone()),
        held_out: if validation.is_some() { 0 } else { kind.held_out(&training.report, fraction) },
        validation_overlap: overlap.examples,
        validation_overlap_lines: overlap.lines,
    }
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

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let digest = Sha256::digest(bytes);
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::{Input, Parts, Source, Wanted, in_class_order};
    use crate::domain::job::{DatasetOptions, JobError};
    use crate::domain::method::Method;
    use crate::domain::reading::Reading;
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
        let file = |name, rows| Source::File(csv(&folder, name, rows));
        let sources = Parts {
            training: file("training.csv", training),
            validation: validation.map(|rows| file("validation.csv", rows)),
            test: None,
        };
        let options = DatasetOptions::default();
        let wanted = Wanted { method: Method::TextClassification, problem: None, options };
        let found = super::prepare(sources, &wanted).unwrap();
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
    fn what_is_known_of_files_gives_what_reading_them_gave() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name, rows: &[(&str, &str)]| csv(&folder, name, rows);
        let (training, other) = (file("training.csv", &twelve()), [("a", "yes"), ("new", "no"), ("c", "no")]);
        let (validation, test) = (file("validation.csv", &other), file("test.csv", &other));
        let options = DatasetOptions::default();
        let wanted = Wanted { method: Method::TextClassification, problem: None, options };
        let read = |training, validation, test| {
            super::prepare(Parts { training, validation: Some(validation), test: Some(test) }, &wanted)
        };
        let files = [&training, &validation, &test].map(|input| Source::File(input.clone()));
        let [training, validation, test] = files.clone();
        let found = read(training, validation, test).unwrap();
        assert_eq!((found.report.validation_overlap, found.labels.as_ref().unwrap().len()), (2, 2));
        let kept = |reading: &Reading| {
            Source::Known(Box::new(serde_json::from_value(serde_json::to_value(reading).unwrap()).unwrap()))
        };
        let Parts { training, validation, test } = &found.readings;
        let known = [training, validation.as_ref().unwrap(), test.as_ref().unwrap()].map(kept);
        for (from_files, wanted_error) in
            [([false; 3], false), ([false, false, true], false), ([false, true, false], true)]
        {
            let pick = |i: usize| if from_files[i] { files[i].clone() } else { known[i].clone() };
            match read(pick(0), pick(1), pick(2)) {
                Ok(again) => {
                    assert_eq!((&again.report, &again.labels), (&found.report, &found.labels));
                    assert!(!wanted_error);
                }
                Err(error) => assert!(wanted_error && error.to_string().contains("not read"), "{error}"),
            }
        }
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
