//! Whether the labels of a file have about as many examples each.

use super::label::shown;
use crate::domain::clip::clipped_to;
use crate::domain::report::{ExamplesReport, Note};

/// How many times as many examples the most frequent label may have as any other without a word.
const MOST: u64 = 10;

/// What there is to say where some labels are rare beside the most frequent one.
pub(super) fn note(report: &ExamplesReport) -> Option<Note> {
    let labels = report.labels();
    let (most, &count) = labels.iter().max_by_key(|(_, count)| **count)?;
    let mut rare: Vec<_> = labels.iter().filter(|(_, few)| MOST * **few <= count).collect();
    rare.sort_by_key(|(_, few)| **few);
    (!rare.is_empty()).then(|| {
        let message = format!(
            "The label \"{}\" has {count} examples, and {} of {} labels have at most a tenth of that: {}. Accuracy will say \
             little of these, so look at macro_f1 and the scores by label. The hyperparameter class_weights: balanced makes \
             rare labels count as much as frequent ones; more examples of them help most.",
            clipped_to(most, 40),
            rare.len(),
            labels.len(),
            shown(rare.iter().copied())
        );
        Note::warning("labels_imbalanced", message)
    })
}

#[cfg(test)]
mod tests {
    use super::note;
    use crate::domain::report::{Contents, ExamplesReport, Labels, Lengths};

    #[test]
    fn rare_labels_are_named_rarest_first_with_what_helps() {
        let told = |labels: &[(&str, u64)]| {
            let listed = labels.iter().map(|&(label, count)| (label.to_owned(), count)).collect();
            let labels = Labels { listed, others: None };
            let contents = Contents::Labelled { labels, text_lengths: Lengths::default() };
            note(&ExamplesReport { contents, ..ExamplesReport::default() }).map(|note| note.message)
        };
        for even in [&[][..], &[("a", 5)], &[("a", 100), ("b", 11)]] {
            assert_eq!(told(even), None);
        }
        let message = told(&[("a", 100), ("b", 10), ("c", 3), ("d", 50)]).unwrap();
        let start =
            "The label \"a\" has 100 examples, and 2 of 4 labels have at most a tenth of that: \"c\" (3), \"b\" (10).";
        assert!(message.starts_with(start) && message.contains("class_weights: balanced"), "{message}");
    }
}
