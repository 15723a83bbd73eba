//! Checking the file of an evaluation against the model that is to be evaluated.

use std::collections::HashSet;
use std::io;

use super::kinds;
use super::prepare::{Source, Wanted, usable};
use crate::domain::clip::clipped;
use crate::domain::job::JobError;
use crate::domain::reading::{Overlap, Reading};

/// Reads the test file of an evaluation, unless it is known; `labels` are those that the model knows. The inner result
/// says whether the file can be evaluated.
///
/// # Errors
/// The file cannot be read.
pub fn check(test: Source, wanted: &Wanted, labels: &[String]) -> io::Result<(Reading, Result<(), JobError>)> {
    let problem = wanted.problem.unwrap_or_default();
    let kind = kinds::of(wanted.method.data(problem));
    let known: HashSet<&str> = labels.iter().map(String::as_str).collect();
    let reading = test.reading(|input| {
        let report = kind.report(input, &mut |example, faults| {
            for label in example.labels.iter().filter(|label| !known.contains(label.as_str())) {
                let message = format!("the label \"{}\" is none of the model's", clipped(label));
                faults.push_at(&example.place, Some("label"), message);
            }
        })?;
        Ok(Reading { problem, report, overlap: Overlap::default() })
    })?;
    let verdict = usable(&reading.report, "test_file", "Test file");
    Ok((reading, verdict))
}

#[cfg(test)]
mod tests {
    use super::{Source, Wanted, check};
    use crate::dataset::Input;
    use crate::domain::job::DatasetOptions;
    use crate::domain::method::{Method, ProblemType};
    use crate::domain::report::DataFormat;

    fn checked(text: &str, problem: ProblemType) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let input = Input::new(file.path(), DataFormat::Csv);
        let labels = ["no", "yes"].map(str::to_owned);
        let (method, options) = (Method::TextClassification, DatasetOptions::default());
        let wanted = Wanted { method, problem: Some(problem), options };
        let (_, verdict) = check(Source::File(input), &wanted, &labels).unwrap();
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
