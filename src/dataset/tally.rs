//! Counting the examples of a file of texts.

use std::collections::BTreeMap;

use super::MAX_LABELS;
use super::entries::Ledger;
use super::kind::{OnExample, Seen};
use crate::domain::report::{Contents, ExamplesReport, Faults, Labels, Lengths, Place};

/// What was counted, and who sees each example.
pub(super) struct Tally<'a, 'b> {
    on_example: &'a mut OnExample<'b>,
    examples: u64,
    labels: BTreeMap<String, u64>,
    text_lengths: Lengths,
    /// Faults found in rows that are well-formed.
    late: Faults,
}

impl<'a, 'b> Tally<'a, 'b> {
    pub(super) fn new(on_example: &'a mut OnExample<'b>) -> Self {
        let (text_lengths, late) = (Lengths::default(), Faults::default());
        Self { on_example, examples: 0, labels: BTreeMap::new(), text_lengths, late }
    }

    /// Counts an example, whose texts count as one length. `key` is what it is known by.
    pub(super) fn add<'t>(
        &mut self,
        line: u64,
        key: &str,
        labels: &[String],
        texts: impl IntoIterator<Item = &'t str>,
    ) {
        self.examples += 1;
        for label in labels {
            if let Some(count) = self.labels.get_mut(label) {
                *count += 1;
            } else if self.labels.len() < MAX_LABELS {
                self.labels.insert(label.clone(), 1);
            } else if self.late.listed.iter().all(|fault| fault.field.is_some()) {
                self.late.push(line, None, format!("there are more than {MAX_LABELS} different labels"));
            }
        }
        let place = Place { line, member: None };
        (self.on_example)(&Seen { place, key: key.as_bytes(), labels }, &mut self.late);
        let length = texts.into_iter().map(|text| text.chars().count() as u64).sum();
        self.text_lengths.add(length, self.examples);
    }

    /// How many there were.
    pub(super) fn examples(&self) -> u64 {
        self.examples
    }

    /// The report, with what is said of what are no examples.
    pub(super) fn report(self, ledger: Ledger, contents: impl FnOnce(Labels, Lengths) -> Contents) -> ExamplesReport {
        let labels = Labels { listed: self.labels, others: None };
        ExamplesReport {
            examples: self.examples,
            contents: contents(labels, self.text_lengths),
            faults: ledger.faults.merged(self.late),
            counts: Some(ledger.counts),
            notes: ledger.notes,
        }
    }
}
