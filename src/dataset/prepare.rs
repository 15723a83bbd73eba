//! Checking a job's files against each other before it may run: labels, sizes, what they have in common.

use std::collections::BTreeMap;
use std::io;

use super::comparison::{Comparison, Reader};
use super::kind::Kind;
use super::{Input, kinds, labelled};
use crate::domain::job::{DEFAULT_VALIDATION_SPLIT, DatasetOptions, JobError, MIN_EXAMPLES, OverlapPolicy};
use crate::domain::method::{DataKind, Method, ProblemType};
use crate::domain::reading::Reading;
use crate::domain::report::{DataReport, Dropped, ExamplesReport, Fault, Note, Overlap, Part, Sightings, on_lines};
use crate::domain::split::Groups;

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

    fn is_read(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// What a job wants of its files.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub method: Method,
    /// None where the training file decides.
    pub problem: Option<ProblemType>,
    pub options: DatasetOptions,
    /// How similar texts are that are nearly equal, in percent; 0 looks for none.
    pub near: u32,
}

impl Wanted {
    /// Whether it must be known which examples files have in common, not only how many.
    pub fn drops_overlap(&self) -> bool {
        self.options.overlap == Some(OverlapPolicy::Drop)
    }
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
        let training = Reading { problem, report, groups: Groups::default(), overlaps: Vec::new() };
        let report = DataReport { training: training.report.clone(), ..DataReport::default() };
        let labels = usable(&report.training, "training_file", "Training file").map(|()| Vec::new());
        Self { report, problem, labels, readings: Parts { training, validation: None, test: None } }
    }
}

/// Reads the files that are not known, and checks all against each other. A file is compared with those before it, so these
/// must be read where it is.
///
/// # Errors
/// A file cannot be read.
pub fn prepare(sources: Parts<Source>, wanted: &Wanted) -> io::Result<Found> {
    let problem = match problem(&sources.training, wanted)? {
        Ok(problem) => problem,
        Err(fault) => return Ok(Found::refused(fault)),
    };
    let Parts { training, validation, test } = sources;
    let is_read = |source: &Option<Source>| source.as_ref().is_some_and(Source::is_read);
    let unread = |source: &Source| !source.is_read();
    if (is_read(&validation) || is_read(&test)) && unread(&training)
        || is_read(&test) && validation.as_ref().is_some_and(unread)
    {
        return Err(io::Error::other("a file is compared with one that is not read"));
    }
    let kind = kinds::of(wanted.method.data(problem));
    let alone = validation.is_none() && test.is_none();
    let reader = Reader { kind: kind.as_ref(), problem, near: wanted.near, alone };
    let mut found = Comparison::default();
    let training = training.reading(|input| reader.read(input, Part::Training, None, &mut found))?;
    let labels = training.report.labels();
    let mut other = |source: Source, part| source.reading(|input| reader.read(input, part, Some(labels), &mut found));
    let validation = validation.map(|source| other(source, Part::Validation)).transpose()?;
    let test = test.map(|source| other(source, Part::Test)).transpose()?;
    let readings = Parts { training, validation, test };
    let (groups, dropped) = if wanted.drops_overlap() {
        found.without_shared()?
    } else {
        (readings.training.groups.clone(), Dropped::default())
    };
    let report = report(&readings, &groups, dropped, &wanted.options);
    let labels = verdict(&report, kind.as_ref(), wanted);
    Ok(Found { report: report.capped(), problem, labels, readings })
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

fn report(readings: &Parts<Reading>, groups: &Groups, dropped: Dropped, options: &DatasetOptions) -> DataReport {
    let Parts { training, validation, test } = readings;
    let fraction = options.validation_split.unwrap_or(DEFAULT_VALIDATION_SPLIT);
    let held_out = if validation.is_some() { 0 } else { groups.held_out(fraction) };
    let overlaps: Vec<Overlap> =
        [validation, test].into_iter().flatten().flat_map(|file| file.overlaps.clone()).collect();
    let of_validation = overlaps.iter().find(|one| (one.file, one.with) == (Part::Validation, Part::Training));
    let Sightings { count, lines } = of_validation.map(|one| one.equal.clone()).unwrap_or_default();
    let none_held_out = (validation.is_none() && held_out == 0 && fraction > 0.0 && training.report.examples > 0).then(|| {
        let message = "No example is held out for validation: every label has a single text, or all texts are equal. Give a \
                       validation_file to see how well the model learns.";
        Note::warning("nothing_held_out", message)
    });
    DataReport {
        training: training.report.clone(),
        validation: validation.as_ref().map(|reading| reading.report.clone()),
        test: test.as_ref().map(|reading| reading.report.clone()),
        held_out,
        validation_overlap: count,
        validation_overlap_lines: lines,
        overlaps,
        dropped,
        grouped: true,
        token_lengths: BTreeMap::new(),
        notes: none_held_out.into_iter().collect(),
    }
}

fn verdict(report: &DataReport, kind: &dyn Kind, wanted: &Wanted) -> Result<Vec<String>, JobError> {
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
    check_overlap(report, wanted)?;
    Ok(in_class_order(report.training.labels().keys().cloned().collect()))
}

/// Whether the files have no more in common than the job allows, and enough is left of them.
fn check_overlap(report: &DataReport, wanted: &Wanted) -> Result<(), JobError> {
    let param = |part: Part| format!("{}_file", part.name());
    let shared = report.overlaps.iter().find(|one| one.equal.count > 0);
    if let Some(Overlap { file, with, equal, .. }) =
        shared.filter(|_| wanted.options.overlap == Some(OverlapPolicy::Fail))
    {
        let message = format!(
            "{} examples of the {} file are also in the {} file{}, and dataset.overlap is fail.",
            equal.count,
            file.name(),
            with.name(),
            on_lines(equal.count, &equal.lines)
        );
        return Err(JobError::new(format!("invalid_{}", param(*file)), message).param(param(*file)));
    }
    let left = [
        (Part::Training, report.training.examples - report.dropped.training, MIN_EXAMPLES, report.dropped.training),
        (Part::Validation, report.validation_examples(), 1, report.dropped.validation),
    ];
    for (part, left, fewest, dropped) in left {
        if dropped > 0 && left < fewest {
            let message = format!(
                "Of the {} file {left} example(s) are left without the {dropped} that another file has, but {fewest} are needed.",
                part.name()
            );
            return Err(JobError::new("invalid_n_examples", message).param(param(part)));
        }
    }
    Ok(())
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
        let wanted = Wanted { method: Method::TextClassification, problem: None, options, near: 80 };
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
        let wanted = Wanted { method: Method::TextClassification, problem: None, options, near: 80 };
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
        for (from_files, wanted_error) in [
            ([false; 3], false),
            ([true; 3], false),
            ([false, false, true], true),
            ([false, true, false], true),
            ([true, false, true], true),
        ] {
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
