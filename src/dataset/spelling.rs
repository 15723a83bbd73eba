//! Labels that are likely not meant as they stand: what a careful colleague would ask about.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;

use super::balance;
use super::label::{SHOWN, is_space, shown};
use crate::domain::method::ProblemType;
use crate::domain::report::{ExamplesReport, Note, Sightings};

/// How tables and languages write that there is no value.
const NO_VALUE: [&str; 11] = ["nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nil", "undefined", "-", "?"];

/// Names that columns of labels usually have.
const COLUMN_NAMES: [&str; 6] = ["label", "labels", "category", "class", "target", "intent"];

/// What is said where labels were changed as they were read.
pub(super) fn tidied(labels: &Sightings) -> Option<Note> {
    (labels.count > 0).then(|| {
        let message = format!(
            "Of {} examples a label is written with white space around it, or in another Unicode form than NFC; it is read \
             without, and in NFC.",
            labels.count
        );
        Note::info("labels_tidied", message).on(labels)
    })
}

/// What there is to say of a file's labels.
pub(super) fn notes(report: &ExamplesReport, problem: ProblemType) -> Vec<Note> {
    let labels = report.labels();
    if problem == ProblemType::Regression || labels.is_empty() {
        return Vec::new();
    }
    let single = problem == ProblemType::SingleLabelClassification;
    let checks = [
        alike(labels),
        look_like(labels, "labels_look_like_lists", is_list, "look like lists, and are each one label as they stand"),
        look_like(labels, "labels_look_missing", is_missing, "look like no label at all"),
        look_like(
            labels,
            "labels_look_like_a_header",
            is_column,
            "are what columns are called; a header may stand in the file",
        ),
        if single { numbers(labels) } else { None },
        if single { as_many_as_examples(report) } else { None },
        rare(report),
        balance::note(report),
    ];
    checks.into_iter().flatten().collect()
}

/// Labels that differ only in letter case, white space, or characters that look the same.
fn alike(labels: &BTreeMap<String, u64>) -> Option<Note> {
    let mut groups: BTreeMap<String, Vec<(&String, &u64)>> = BTreeMap::new();
    for entry in labels {
        groups.entry(folded(entry.0)).or_default().push(entry);
    }
    let alike: Vec<String> =
        groups.into_values().filter(|group| group.len() > 1).map(|group| shown(group.into_iter())).collect();
    (!alike.is_empty()).then(|| {
        let few = alike.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
        let more = if alike.len() > SHOWN { "; …" } else { "" };
        let message = format!(
            "Labels differ only in letter case, white space or the form of characters, and are classes of their own: \
             {few}{more}. Write them alike if they are one."
        );
        Note::warning("labels_alike", message)
    })
}

/// What is the same of labels that look alike.
fn folded(label: &str) -> String {
    let compatible: String = label.nfkc().flat_map(char::to_lowercase).collect();
    let words = compatible.split(|c| is_space(c) || matches!(c, '_' | '-' | '\u{2010}'..='\u{2015}'));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn look_like(labels: &BTreeMap<String, u64>, code: &str, is_it: fn(&str) -> bool, what: &str) -> Option<Note> {
    let found = || labels.iter().filter(|(label, _)| is_it(label));
    (found().count() > 0).then(|| Note::warning(code, format!("Labels {what}: {}.", shown(found()))))
}

fn is_list(label: &str) -> bool {
    [('[', ']'), ('{', '}'), ('(', ')')].iter().any(|&(open, close)| label.starts_with(open) && label.ends_with(close))
}

fn is_missing(label: &str) -> bool {
    NO_VALUE.contains(&label.to_lowercase().as_str())
}

fn is_column(label: &str) -> bool {
    COLUMN_NAMES.contains(&label.to_lowercase().as_str())
}

/// Classes that are numbers, which may be meant as amounts.
fn numbers(labels: &BTreeMap<String, u64>) -> Option<Note> {
    /// Fewer are likely numbers of classes.
    const FEW: usize = 20;
    let is_number = |label: &&String| label.parse::<f64>().is_ok_and(f64::is_finite);
    let numbers = labels.keys().filter(is_number).count();
    let fractions = labels.keys().filter(|label| is_number(label) && label.contains('.')).count();
    let all = labels.len();
    if numbers == all && (all > FEW || fractions > 0) {
        let message = format!(
            "All {all} labels are numbers. If they are amounts, not classes, set the hyperparameter problem_type to \
             regression."
        );
        return Some(Note::warning("labels_are_numbers", message));
    }
    (numbers > 0 && numbers < all && 2 * numbers != all).then(|| {
        let few = labels.iter().filter(|(label, _)| is_number(label) == (2 * numbers < all));
        let what = if 2 * numbers < all { "numbers, and most are not" } else { "no numbers, and most are" };
        Note::warning("labels_mixed", format!("Some labels are {what}: {}.", shown(few)))
    })
}

/// A column that tells the examples apart is no label.
fn as_many_as_examples(report: &ExamplesReport) -> Option<Note> {
    let (labels, examples) = (report.label_count(), report.examples);
    (examples >= 10 && 10 * labels >= 9 * examples).then(|| {
        let message = format!(
            "There are {labels} labels for {examples} examples, so nearly every example is a class of its own. Is the column \
             an id, or a text? dataset.label_column names another."
        );
        Note::warning("as_many_labels_as_examples", message)
    })
}

/// Labels with a single example, which can be trained on or validated with, not both.
fn rare(report: &ExamplesReport) -> Option<Note> {
    let labels = report.labels();
    let once = || labels.iter().filter(|(_, count)| **count == 1);
    let count = once().count();
    let many = 10 * report.label_count() >= 9 * report.examples;
    (count > 0 && !many).then(|| {
        let message = format!("{count} labels have one example, which is too few to learn from: {}.", shown(once()));
        Note::warning("labels_with_one_example", message)
    })
}

#[cfg(test)]
mod tests {
    use super::{folded, notes};
    use crate::domain::method::ProblemType;
    use crate::domain::report::{Contents, ExamplesReport, Labels, Lengths};

    fn codes(labels: &[(&str, u64)]) -> Vec<String> {
        let listed = labels.iter().map(|&(label, count)| (label.to_owned(), count)).collect();
        let contents = Contents::Labelled { labels: Labels { listed, others: None }, text_lengths: Lengths::default() };
        let examples = labels.iter().map(|(_, count)| count).sum();
        let report = ExamplesReport { examples, contents, ..ExamplesReport::default() };
        notes(&report, ProblemType::SingleLabelClassification).into_iter().map(|note| note.code).collect()
    }

    #[test]
    fn labels_that_are_likely_not_meant_are_told() {
        for (labels, expected) in [
            (&[("neg", 5), ("pos", 5)][..], &[][..]),
            (&[("0", 50), ("1", 50)], &[]),
            (&[("Neg", 5), ("neg", 5), ("pos", 5)], &["labels_alike"]),
            (&[("lost card", 5), ("lost_card", 5)], &["labels_alike"]),
            (&[("ﬁne", 5), ("fine", 5)], &["labels_alike"]),
            (&[("['a', 'b']", 5), ("['a']", 5)], &["labels_look_like_lists"]),
            (&[("NaN", 5), ("a", 5), ("b", 5)], &["labels_look_missing"]),
            (&[("label", 1), ("a", 5), ("b", 5)], &["labels_look_like_a_header", "labels_with_one_example"]),
            (&[("0.5", 9), ("1.5", 9)], &["labels_are_numbers"]),
            (&[("1", 9), ("2", 9), ("three", 9)], &["labels_mixed"]),
            (&[("a", 1), ("b", 9), ("c", 9)], &["labels_with_one_example"]),
        ] {
            assert_eq!(codes(labels), expected, "{labels:?}");
        }
        let ids: Vec<String> = (0..40).map(|i| format!("id{i}")).collect();
        let ids: Vec<(&str, u64)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        assert_eq!(codes(&ids), ["as_many_labels_as_examples"]);
        let stars: Vec<String> = (0..30).map(|i| i.to_string()).collect();
        let stars: Vec<(&str, u64)> = stars.iter().map(|star| (star.as_str(), 9)).collect();
        assert_eq!(codes(&stars), ["labels_are_numbers"]);
    }

    #[test]
    fn what_looks_alike_folds_to_the_same() {
        for (one, other) in [("A  b", "a b"), ("a\u{200B}b", "a b"), ("Ａ", "a"), ("a-b", "a_b")] {
            assert_eq!(folded(one), folded(other));
        }
        assert_ne!(folded("a b"), folded("ab"));
    }
}
