//! Counting the examples of a file of texts.

use std::collections::BTreeMap;

use super::MAX_LABELS;
use super::entries::Ledger;
use super::kind::{Seen, Watch};
use super::languages::{self, Languages};
use super::prints::{folded, print};
use crate::domain::report::{Contents, ExamplesReport, Faults, Labels, Lengths, Place};

/// What is said in an example.
pub(super) struct Talk<'a> {
    /// What stands around it, the same in many examples. Nearly equal ones are looked for without it.
    pub(super) framing: Vec<&'a str>,
    pub(super) spoken: Vec<&'a str>,
    /// The text that tells its language.
    pub(super) language: Option<&'a str>,
}

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
        self.measure(texts.iter().copied().chain(more), texts.first().copied());
    }

    /// Counts an example in which something is said. Examples are equal where all their texts are.
    pub(super) fn add_talk(&mut self, line: u64, talk: &Talk<'_>) {
        self.examples += 1;
        self.watch.example(&Place { line, member: None }, &[], &mut self.late);
        let Talk { framing, spoken, language } = talk;
        let all = || framing.iter().chain(spoken).copied();
        if self.watch.compares() {
            let (all, spoken) = (folded(all()), folded(spoken.iter().copied()));
            let seen = Seen { line, print: print(all.as_bytes()), folded: Some(&spoken), labels: &[], value: None };
            self.watch.known(&seen);
        }
        self.measure(all(), *language);
    }

    fn measure<'b>(&mut self, texts: impl Iterator<Item = &'b str>, language: Option<&str>) {
        if let Some(text) = language {
            self.languages.add(text);
        }
        self.text_lengths.add(texts.map(|text| text.chars().count() as u64).sum(), self.examples);
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

#[cfg(test)]
mod tests {
    use super::{Faults, Ledger, Place, Seen, Talk, Tally, Watch};
    use crate::domain::report::Contents;

    /// Keeps what examples are known by.
    #[derive(Default)]
    struct Seer(Vec<(u64, String)>);

    impl Watch for Seer {
        fn example(&mut self, _place: &Place, _labels: &[String], _faults: &mut Faults) {}

        fn compares(&self) -> bool {
            true
        }

        fn known(&mut self, seen: &Seen<'_>) {
            self.0.push((seen.print, seen.folded.unwrap().to_owned()));
        }
    }

    #[test]
    fn what_stands_around_a_talk_tells_examples_apart_and_makes_none_alike() {
        let mut seer = Seer::default();
        let mut tally = Tally::new(&mut seer);
        for (framing, spoken) in [("Be brief.", "Hi"), ("be  BRIEF.", "hi "), ("Be kind.", "Hi"), ("Be brief.", "Ho")] {
            tally.add_talk(1, &Talk { framing: vec![framing], spoken: vec![spoken, "Yes"], language: Some(spoken) });
        }
        let report = tally.report(Ledger::default(), |_, text_lengths| Contents::Texts { text_lengths });
        assert_eq!((report.examples, report.text_lengths().max, report.languages["und"]), (4, 16, 4));
        let [one, copy, other_frame, other_talk] = &seer.0[..] else { panic!("{:?}", seer.0) };
        assert!(one == copy && one.0 != other_frame.0 && one.1 == other_frame.1 && one.1 != other_talk.1);
        assert!(!one.1.contains("brief"));
    }
}
