//! What is found in rows besides what they hold: faults, each with its place, and what is worth a word though it can be used.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;

use super::parse::unpacked;
use super::path::Path;
use super::remarks::{Remark, note};
use crate::dataset::entries::{Entries, Entry};
use crate::dataset::row::listed;
use crate::dataset::tree::Tree;
use crate::domain::report::{Fault, Note, Sightings};

/// How many faults of one row are told; it may be a long conversation in which every message has the same.
const MOST_FAULTS: usize = 20;

/// How many different keys are named that nobody reads.
const MOST_KEYS: usize = 20;

/// What was found in one row.
#[derive(Default)]
pub(in crate::dataset) struct Findings {
    line: u64,
    faults: Vec<Fault>,
    more: usize,
    remarks: Vec<Remark>,
    /// Keys of messages that are not read.
    keys: Vec<String>,
}

impl Findings {
    /// None yet in the row that begins on this line.
    pub(in crate::dataset) fn new(line: u64) -> Self {
        Self { line, ..Self::default() }
    }

    /// Adds what is wrong at a place.
    pub(in crate::dataset) fn fault(&mut self, place: impl Display, what: impl Into<String>) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault::new(self.line, Some(&place.to_string()), what));
        } else {
            self.more += 1;
        }
    }

    /// Adds what is wrong at a place, where something should be.
    pub(in crate::dataset) fn refuse<T>(&mut self, place: impl Display, what: impl Into<String>) -> Option<T> {
        self.fault(place, what);
        None
    }

    /// What was found at a place, or else adds what is wrong.
    pub(in crate::dataset) fn keep<T>(&mut self, place: impl Display, found: Result<T, String>) -> Option<T> {
        found.map_err(|what| self.fault(place, what)).ok()
    }

    /// How many faults there are.
    pub(in crate::dataset) fn count(&self) -> usize {
        self.faults.len() + self.more
    }

    /// Adds what is worth a word.
    pub(in crate::dataset) fn remark(&mut self, remark: Remark) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Adds a key that is not read.
    pub(in crate::dataset) fn key_not_read(&mut self, key: &str) {
        if self.keys.len() < MOST_KEYS && !self.keys.iter().any(|known| known == key) {
            self.keys.push(key.to_owned());
        }
    }

    /// What a string holds as JSON, or the value itself; None where something is wrong with it.
    pub(in crate::dataset) fn unpacked<'a>(&mut self, tree: &'a Tree, at: &Path<'_>) -> Option<Cow<'a, Tree>> {
        let found = self.keep(at, unpacked(tree))?;
        if matches!(found, Cow::Owned(_)) {
            self.remark(Remark::JsonInText);
        }
        Some(found)
    }

    /// The row as what `made` is, unless something is wrong with it.
    pub(in crate::dataset) fn entry<E>(mut self, made: Option<E>, remarks: &Remarks) -> Entry<E> {
        if self.more > 0 {
            self.faults.push(Fault::new(self.line, None, format!("has {} more faults", self.more)));
        }
        match made {
            Some(made) if self.faults.is_empty() => {
                remarks.add(self);
                Entry::Good(made)
            }
            _ => Entry::Faulty(self.faults),
        }
    }
}

/// What there is to say of a file's good rows, shared by whoever reads them and whoever tells it at their end.
#[derive(Clone, Default)]
pub(in crate::dataset) struct Remarks(Rc<RefCell<Counted>>);

#[derive(Default)]
struct Counted {
    remarks: BTreeMap<Remark, Sightings>,
    keys: BTreeMap<String, u64>,
    with_keys: Sightings,
}

impl Remarks {
    fn add(&self, found: Findings) {
        let mut counted = self.0.borrow_mut();
        for remark in found.remarks {
            counted.remarks.entry(remark).or_default().add(found.line);
        }
        if !found.keys.is_empty() {
            counted.with_keys.add(found.line);
        }
        for key in found.keys {
            if counted.keys.len() < MOST_KEYS || counted.keys.contains_key(&key) {
                *counted.keys.entry(key).or_default() += 1;
            }
        }
    }

    /// The same entries, with what was remarked told at their end.
    pub(in crate::dataset) fn told<E: 'static>(self, entries: Entries<E>) -> Entries<E> {
        Box::new(entries.map(move |entry| {
            entry.map(|entry| match entry {
                Entry::End(mut ending) => {
                    ending.notes.extend(self.notes());
                    Entry::End(ending)
                }
                entry => entry,
            })
        }))
    }

    fn notes(&self) -> Vec<Note> {
        let counted = self.0.borrow();
        let keys: Vec<&str> = counted.keys.keys().map(String::as_str).collect();
        let not_read = (!keys.is_empty()).then(|| {
            let message =
                format!("Keys of messages that are not read, in {}: {}.", rows(&counted.with_keys), listed(&keys));
            Note::info("message_keys_not_read", message).on(&counted.with_keys)
        });
        counted.remarks.iter().map(|(remark, seen)| note(*remark, seen)).chain(not_read).collect()
    }
}

fn rows(seen: &Sightings) -> String {
    format!("{} {}", seen.count, if seen.count == 1 { "row" } else { "rows" })
}

#[cfg(test)]
mod tests {
    use super::{Findings, MOST_FAULTS, Remark, Remarks};
    use crate::dataset::entries::{Entries, Entry, Ledger, good};

    #[test]
    fn faults_of_a_row_are_told_together_and_the_first_ones_alone() {
        let mut findings = Findings::new(7);
        for number in 0..MOST_FAULTS + 3 {
            findings.fault(format!("messages[{number}]"), "is odd");
        }
        assert_eq!(findings.count(), MOST_FAULTS + 3);
        let Entry::Faulty(faults) = findings.entry(Some(()), &Remarks::default()) else { panic!("it has faults") };
        assert_eq!((faults.len(), faults[19].field.as_deref()), (MOST_FAULTS + 1, Some("messages[19]")));
        assert_eq!((faults[20].message.as_str(), faults[20].line), ("has 3 more faults", 7));
    }

    #[test]
    fn remarks_on_good_rows_are_told_at_the_end() {
        let remarks = Remarks::default();
        let mut entries = Vec::new();
        for line in 1..=3 {
            let mut findings = Findings::new(line);
            findings.remark(Remark::SystemLater);
            findings.remark(Remark::SystemLater);
            findings.key_not_read("id");
            if line == 2 {
                findings.fault("messages", "is empty");
            }
            entries.push(Ok(findings.entry(Some(line), &remarks)));
        }
        entries.push(Ok(Entry::End(Box::default())));
        let (entries, mut ledger): (Entries<u64>, _) = (Box::new(entries.into_iter()), Ledger::default());
        assert_eq!(good(remarks.told(entries), &mut ledger).map(Result::unwrap).collect::<Vec<_>>(), [1, 3]);
        let told: Vec<_> = ledger.notes.iter().map(|note| (note.code.as_str(), &note.lines[..])).collect();
        assert_eq!(told, [("system_later", &[1, 3][..]), ("message_keys_not_read", &[1, 3])]);
        assert_eq!(ledger.notes[1].message, "Keys of messages that are not read, in 2 rows: \"id\".");
    }
}
