//! Labels that are likely not meant as they stand: what a careful colleague would ask about.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;
use unicode_security::skeleton;

use super::balance;
use super::label::{EXACT, SHOWN, has_decimal_comma, number, shown};
use crate::domain::clip::is_space;
use crate::domain::method::ProblemType;
use crate::domain::report::{ExamplesReport, Note, Sightings};

/// How tables and languages write that there is no value.
const NO_VALUE: [&str; 17] = [
    "nan",
    "none",
    "null",
    "na",
    "n/a",
    "#n/a",
    "<na>",
    "nil",
    "undefined",
    "-",
    "?",
    "#ref!",
    "#name?",
    "#value!",
    "#div/0!",
    "#num!",
    "#null!",
];

/// Characters that quote, each with the one that ends what it begins.
const QUOTES: [(char, char); 9] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('„', '“'), ('‘', '’'), ('«', '»'), ('”', '”'), ('’', '’')];

/// What stands between labels where several are written as one text.
const SEPARATORS: [char; 3] = [';', '|', ','];

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
        look_like(labels, "labels_hold_invisible", holds_invisible, "hold characters that show nothing"),
        look_like(
            labels,
            "labels_look_quoted",
            is_quoted,
            "stand in quotation marks, which are part of them as they stand",
        ),
        if single { joined(labels) } else { None },
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
            "Labels differ only in letter case, white space, the form of characters or how a number is written, and are \
             classes of their own: {few}{more}. Write them alike if they are one."
        );
        Note::warning("labels_alike", message)
    })
}

/// What is the same of labels that look alike.
pub(super) fn folded(label: &str) -> String {
    if let Some(number) = number(label).filter(|number| number.abs() < EXACT) {
        return number.to_string();
    }
    let plain = ENTITIES.iter().fold(label.to_owned(), |label, (entity, character)| label.replace(entity, character));
    let shown = plain.nfkc().filter(|c| !is_invisible(*c)).flat_map(looks_like_ascii);
    let compatible: String = shown.flat_map(char::to_lowercase).collect();
    let is_dash = |c: char| matches!(c, '_' | '-' | '\u{2010}'..='\u{2015}');
    // Between words a dash is as good as a blank; at an end it may be a grade or a blood group.
    let bare = compatible.trim_matches(|c| is_space(c) || is_dash(c));
    let (before, behind) = compatible.split_once(bare).unwrap_or_default();
    let words = bare.split(|c| is_space(c) || is_dash(c)).filter(|word| !word.is_empty());
    format!("{}{}{}", before.trim(), words.collect::<Vec<_>>().join(" "), behind.trim())
}

/// How HTML writes characters that mean something to it.
const ENTITIES: [(&str, &str); 5] = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];

/// Whether a character changes how its neighbours look at most: soft hyphens and variation selectors.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{FE00}'..='\u{FE0F}')
}

fn holds_invisible(label: &str) -> bool {
    label.chars().any(|c| c == '\u{AD}' || c.is_control() || is_space(c) && !c.is_whitespace())
}

/// The ASCII that a character of another script looks like (UTS 39), as Cyrillic о does; else itself.
fn looks_like_ascii(c: char) -> impl Iterator<Item = char> {
    let text = c.to_string();
    let like: String = if c.is_ascii() { text } else { skeleton(&text).collect() };
    if like.is_ascii() && !like.is_empty() { like.chars().collect::<Vec<_>>() } else { vec![c] }.into_iter()
}

/// Labels that are likely several each, written as one text: all that stands between their separators stands in other labels,
/// too.
fn joined(labels: &BTreeMap<String, u64>) -> Option<Note> {
    SEPARATORS.into_iter().find_map(|separator| {
        let parts = |label: &str| label.split(separator).map(|part| part.trim().to_owned()).collect::<Vec<_>>();
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        labels.keys().flat_map(|label| parts(label)).for_each(|part| *seen.entry(part).or_default() += 1);
        let is_joined = |label: &str| label.contains(separator) && parts(label).iter().all(|part| seen[part] > 1);
        let found = || labels.iter().filter(|(label, _)| is_joined(label));
        (found().count() > 0).then(|| {
            let message = format!(
                "Labels look like several, joined by \"{separator}\", and are each one as they stand: {}. \
                 dataset.label_separator reads them apart.",
                shown(found())
            );
            Note::warning("labels_look_joined", message)
        })
    })
}

fn is_quoted(label: &str) -> bool {
    let mut inner = label.chars();
    let ends = (inner.next(), inner.next_back());
    QUOTES.iter().any(|&(open, close)| ends == (Some(open), Some(close)))
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
    let is_number = |label: &&String| is_amount(label);
    let numbers = labels.keys().filter(is_number).count();
    let fractions = labels.keys().filter(|label| is_number(label) && label.contains(['.', ',', '%', '$', '€'])).count();
    let all = labels.len();
    if numbers == all && (all > FEW || fractions > 0) {
        let message = format!(
            "All {all} labels are numbers. If they are amounts, not classes, set the hyperparameter problem_type to \
             regression."
        );
        return Some(Note::warning("labels_are_numbers", message));
    }
    // Of two labels one may well be a number.
    (numbers > 0 && numbers < all && all > 2).then(|| {
        let few = labels.iter().filter(|(label, _)| is_number(label) == (2 * numbers <= all));
        let what = if 2 * numbers <= all { "numbers, and others are not" } else { "no numbers, and most are" };
        Note::warning("labels_mixed", format!("Some labels are {what}: {}.", shown(few)))
    })
}

/// Whether a label is a number, be it with a unit or a comma as tables for people have them.
fn is_amount(label: &str) -> bool {
    let plain = label.trim_start_matches(['$', '€', '£']).trim_end_matches(['%', '$', '€', '£']).trim();
    number(plain).is_some() || has_decimal_comma(plain)
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
            (&[("pos", 5), ("р\u{43E}s", 5)], &["labels_alike"]),
            (&[("❤", 5), ("❤\u{FE0F}", 5)], &["labels_alike"]),
            (&[("refund", 5), ("re\u{AD}fund", 5)], &["labels_alike", "labels_hold_invisible"]),
            (&[("refund", 5), ("re\u{200B}fund", 5)], &["labels_hold_invisible"]),
            (&[("R&D", 5), ("R&amp;D", 5)], &["labels_alike"]),
            (&[("01", 5), ("1", 5), ("2", 5)], &["labels_alike"]),
            (&[("A", 5), ("A-", 5), ("B", 5), ("B-", 5)], &[]),
            (&[("1234567890123456780", 5), ("1234567890123456781", 5)], &["labels_are_numbers"][..0]),
            (&[("a", 5), ("a\u{7}", 5)], &["labels_hold_invisible"]),
            (&[("привет", 5), ("пока", 5)], &[]),
            (&[("'neg'", 5), ("“pos”", 5)], &["labels_look_quoted"]),
            (&[("billing", 5), ("refund", 5), ("billing; refund", 5)], &["labels_look_joined"]),
            (&[("a|b", 5), ("b|c", 5), ("c|a", 5)], &["labels_look_joined"]),
            (&[("Arts, Crafts", 5), ("Toys", 5), ("Books, Music", 5)], &[]),
            (&[("#REF!", 5), ("a", 5), ("b", 5)], &["labels_look_missing"]),
            (&[("45%", 5), ("50%", 5), ("0%", 5)], &["labels_are_numbers"]),
            (&[("0", 5), ("1", 5), ("neg", 5), ("pos", 5)], &["labels_mixed"]),
            (&[("1", 5), ("other", 5)], &[]),
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
