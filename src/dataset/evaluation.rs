//! Checking the file of an evaluation against the model that is to be evaluated.

use std::collections::HashSet;
use std::io;

use super::kind::{Seen, Watch};
use super::kinds;
use super::prepare::{Source, Wanted, usable};
use super::row::listed;
use crate::domain::clip::clipped;
use crate::domain::job::JobError;
use crate::domain::reading::Reading;
use crate::domain::report::{Faults, Place};
use crate::domain::split::Groups;

/// Reads the test file of an evaluation, unless it is known; `labels` are those that the model knows. The inner result
/// says whether the file can be evaluated.
///
/// # Errors
/// The file cannot be read.
pub fn check(test: Source, wanted: &Wanted, labels: &[String]) -> io::Result<(Reading, Result<(), JobError>)> {
    let problem = wanted.problem.unwrap_or_default();
    let kind = kinds::of(wanted.method.data(problem));
    let reading = test.reading(|input| {
        let known = labels.iter().map(String::as_str).collect();
        let report = kind.report(input, &mut Known { labels, known })?;
        Ok(Reading { problem, report, groups: Groups::default(), overlaps: Vec::new() })
    })?;
    let verdict = usable(&reading.report, "test_file", "Test file");
    Ok((reading, verdict))
}

/// Looks for labels that a model does not know.
struct Known<'a> {
    labels: &'a [String],
    known: HashSet<&'a str>,
}

impl Watch for Known<'_> {
    fn example(&mut self, place: &Place, labels: &[String], faults: &mut Faults) {
        for label in labels.iter().filter(|label| !self.known.contains(label.as_str())) {
            let there: Vec<&str> = self.labels.iter().map(String::as_str).collect();
            // What Transformers calls classes that were given no names.
            let nameless = there.iter().all(|label| label.starts_with("LABEL_"));
            let hint =
                if nameless { "; give them in dataset.label_names where the file has their numbers" } else { "" };
            let message = format!("the label \"{}\" is none of the model's: {}{hint}", clipped(label), listed(&there));
            faults.push_at(place, Some("label"), message);
        }
    }

    fn compares(&self) -> bool {
        false
    }

    fn known(&mut self, _seen: &Seen<'_>) {}
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
        let wanted = Wanted { method, problem: Some(problem), options, near: 0 };
        let (_, verdict) = check(Source::File(input), &wanted, &labels).unwrap();
        verdict.map_err(|error| error.message)
    }

    #[test]
    fn labels_that_the_model_does_not_know_are_named_by_line() {
        let single = ProblemType::SingleLabelClassification;
        assert_eq!(checked("text,label\na,yes\n", single), Ok(()));
        let error = checked("text,label\na,yes\nb,maybe\n", single).unwrap_err();
        assert_eq!(
            error,
            "Test file has 1 fault: line 3, label: the label \"maybe\" is none of the model's: \"no\", \"yes\""
        );
        assert!(checked("text,label\n", single).unwrap_err().contains("at least 1"));
        assert_eq!(checked("text,label\na,1.5\n", ProblemType::Regression), Ok(()));
    }
}
