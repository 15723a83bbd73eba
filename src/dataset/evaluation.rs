//! Checking the file of an evaluation against the model that is to be evaluated.

use std::collections::HashSet;
use std::io;

use super::columns::Columns;
use super::prepare::usable;
use super::{Input, kinds};
use crate::domain::clip::clipped;
use crate::domain::job::{DatasetOptions, JobError};
use crate::domain::method::DataKind;
use crate::domain::report::ExamplesReport;

/// Reads the test file of an evaluation; `labels` are those that the model knows. The inner result says whether the file
/// can be evaluated.
///
/// # Errors
/// The file cannot be read.
pub fn check(
    test: &Input,
    kind: DataKind,
    options: &DatasetOptions,
    labels: &[String],
) -> io::Result<(ExamplesReport, Result<(), JobError>)> {
    let known: HashSet<&str> = labels.iter().map(String::as_str).collect();
    let report = kinds::of(kind).report(test, &Columns::from(options), &mut |example, faults| {
        for label in example.labels.iter().filter(|label| !known.contains(label.as_str())) {
            let message = format!("the label \"{}\" is none of the model's", clipped(label));
            faults.push_at(&example.place, Some("label"), message);
        }
    })?;
    let verdict = usable(&report, "test_file", "Test file");
    Ok((report.capped(), verdict))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::dataset::Input;
    use crate::domain::job::DatasetOptions;
    use crate::domain::method::{DataKind, ProblemType};
    use crate::domain::report::DataFormat;

    fn checked(text: &str, problem: ProblemType) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let input = Input::new(file.path(), DataFormat::Csv);
        let labels = ["no", "yes"].map(str::to_owned);
        let (_, verdict) = check(&input, DataKind::Labelled(problem), &DatasetOptions::default(), &labels).unwrap();
        verdict.map_err(|error| error.message)
    }

    #[test]
    fn labels_that_the_model_does_not_know_are_named_by_line() {
        let single = ProblemType::SingleLabelClassification;
        assert_eq!(checked("text,label\na,yes\n", single), Ok(()));
        let error = checked("text,label\na,yes\nb,maybe\n", single).unwrap_err();
        assert_eq!(error, "Test file has 1 fault: line 3, label: the label \"maybe\" is none of the model's");
        assert!(checked("text,label\n", single).unwrap_err().contains("at least 1"));
        assert_eq!(checked("text,label\na,1.5\n", ProblemType::Regression), Ok(()));
    }
}
