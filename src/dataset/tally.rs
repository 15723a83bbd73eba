//! Counting the examples of a file of texts.

use std::collections::BTreeMap;

use super::MAX_LABELS;
use super::entries::Ledger;
use super::kind::{Seen, Watch};
use super::languages::{self, Languages};
use super::prints::{folded, print};
use crate::domain::report::{Contents, ExamplesReport, Faults, Labels, Lengths, Place};

/// What was counted, and who sees each example.
pub(super) struct Tally<'a> {
    watch: &'a mut dyn Watch,
    examples: u64,
    labels: BTreeMap<String, u64>,
    text_lengths: Lengths,
    languages: Languages,
    /// Faults found in rows that are well-formed.
    late: Faults,
}

impl<'a> Tally<'a> {
    pub(super) fn new(watch: &'a mut dyn Watch) -> Self {
        let (text_lengths, late) = (Lengths::default(), Faults::default());
        Self { watch, examples: 0, labels: BTreeMap::new(), text_lengths, languages: Languages::default(), late }
    }

    /// Counts an example, whose texts count as one length. Examples with the same `texts` are equal; `more` counts as well.
    pub(super) fn add(&mut self, line: u64, texts: &[&str], more: Option<&str>, labels: &[String], value: Option<f64>) {
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
        self.watch.example(&Place { line, member: None }, labels, &mut self.late);
        if self.watch.compares() {
            let folded = folded(texts.iter().copied());
            self.watch.known(&Seen { line, print: print(folded.as_bytes()), folded: Some(&folded), labels, value });
        }
        if let Some(first) = texts.first() {
            self.languages.add(first);
        }
        let length = texts.iter().copied().chain(more).map(|text| text.chars().count() as u64).sum();
        self.text_lengths.add(length, self.examples);
    }

    /// How many there were.
    pub(super) fn examples(&self) -> u64 {
        self.examples
    }

    /// The report, with what is said of what are no examples.
    pub(super) fn report(self, ledger: Ledger, contents: impl FnOnce(Labels, Lengths) -> Contents) -> ExamplesReport {
        let labels = Labels { listed: self.labels, others: None };
        let languages = self.languages.likely();
        let notes = ledger.notes.into_iter().chain(languages::mix(&languages)).collect();
        ExamplesReport {
            examples: self.examples,
            contents: contents(labels, self.text_lengths),
            languages,
            faults: ledger.faults.merged(self.late),
            counts: Some(Box::new(ledger.counts)),
            notes,
        }
    }
}
