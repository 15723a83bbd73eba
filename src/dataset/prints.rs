//! What examples are known by: equal ones have one print, however they are written.

use std::collections::{BTreeSet, HashMap, HashSet};

use image::RgbImage;
use sha2::{Digest, Sha256};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::domain::clip::is_space;
use crate::domain::report::{LISTED_LINES, Note, Sightings};
use crate::domain::split::Groups;

/// What stands between the texts of an example.
const BETWEEN: char = '\u{1F}';

/// Texts without what makes no other text of them: in Unicode's normal form C, in lower case, with one blank for all white
/// space between words.
pub(super) fn folded<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut folded = String::new();
    for (number, text) in texts.into_iter().enumerate() {
        if number > 0 {
            folded.push(BETWEEN);
        }
        if is_nfc(text) { fold(text.chars(), &mut folded) } else { fold(text.nfc(), &mut folded) }
    }
    folded
}

fn fold(text: impl Iterator<Item = char>, folded: &mut String) {
    let mut pending = false;
    let start = folded.len();
    for c in text {
        if is_space(c) {
            pending = folded.len() > start;
        } else {
            if std::mem::take(&mut pending) {
                folded.push(' ');
            }
            folded.extend(c.to_lowercase());
        }
    }
}

/// The print of an example's texts.
pub fn of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    print(folded(texts).as_bytes())
}

/// 64 bits of SHA-256: of ten million examples two that differ share theirs with a probability of 3 in a million.
pub(super) fn print(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest[..8].iter().fold(0, |print, &byte| print << 8 | u64::from(byte))
}

/// The print of an image: of its pixels, however they were compressed.
pub fn of_image(image: &RgbImage) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(image.width().to_le_bytes());
    hasher.update(image.height().to_le_bytes());
    hasher.update(image.as_raw());
    print(&hasher.finalize())
}

/// One example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    bits: u64,
    line: u64,
    /// What is to be predicted of it: equal numbers mean equal targets.
    target: u32,
    /// The class by which it is held out.
    stratum: u32,
}

/// The prints of a file's examples, in order. An example takes 24 bytes.
#[derive(Debug, Default)]
pub(super) struct Prints {
    all: Vec<Print>,
    labels: HashMap<String, u32>,
}

impl Prints {
    /// Adds an example. `stratum` is the label by which it is held out, if it is by one.
    pub(super) fn add(&mut self, print: u64, line: u64, labels: &[String], value: Option<f64>, stratum: Option<&str>) {
        let next = self.labels.len() as u32 + 1;
        let stratum = stratum.map_or(0, |label| match self.labels.get(label) {
            Some(&known) => known,
            None => *self.labels.entry(label.to_owned()).or_insert(next),
        });
        let target = match (stratum, value) {
            (0, Some(value)) => self::print(&value.to_le_bytes()) as u32,
            (0, None) if labels.is_empty() => 0,
            (0, None) => self::print(labels.join("\0").as_bytes()) as u32,
            (stratum, _) => stratum,
        };
        self.all.push(Print { bits: print, line, target, stratum });
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes out those that are also in `others`, and says how many they are.
    pub(super) fn drop_those_in(&mut self, others: &HashSet<u64>) -> u64 {
        let before = self.all.len();
        self.all.retain(|one| !others.contains(&one.bits));
        (before - self.all.len()) as u64
    }

    /// The prints without the examples.
    pub(super) fn set(&self) -> HashSet<u64> {
        self.all.iter().map(|one| one.bits).collect()
    }

    /// Equal ones next to each other, in the order of their lines. Whatever is asked of them needs no more memory then.
    pub(super) fn sort(&mut self) {
        self.all.sort_unstable_by_key(|one| (one.bits, one.line));
    }

    /// Those of each group of equal ones, once they are sorted.
    fn equal(&self) -> impl Iterator<Item = &[Print]> {
        self.all.chunk_by(|one, other| one.bits == other.bits)
    }

    /// The groups of equal ones, once they are sorted.
    pub(super) fn groups(&self) -> Groups {
        Groups::of_firsts(self.equal().filter_map(|group| {
            let first = group.first()?;
            Some((first.line, first.stratum as usize, group.len() as u64))
        }))
    }

    /// Whether there is one with this print, once they are sorted.
    pub(super) fn has(&self, print: u64) -> bool {
        self.all.binary_search_by_key(&print, |one| one.bits).is_ok()
    }

    /// Those that are also in `others`, once these are sorted.
    pub(super) fn overlap(&self, others: &Self) -> Sightings {
        seen(self.all.iter().filter(|one| others.has(one.bits)).map(|one| one.line))
    }

    /// What there is to say of examples that equal others of the same file, once they are sorted.
    pub(super) fn notes(&self, are_images: bool) -> Vec<Note> {
        let but_for = if are_images { " pixel by pixel" } else { ", but for letter case and white space" };
        let copies = seen(self.equal().flat_map(|group| group.iter().skip(1)).map(|one| one.line));
        let differs = |group: &&[Print]| group.iter().any(|one| one.target != group[0].target);
        let conflicting = self.equal().filter(differs).flat_map(|group| {
            group.iter().filter(|one| one.target != group[0].target).chain(group.first()).map(|one| one.line)
        });
        let mut conflicts = seen(conflicting);
        conflicts.count -= self.equal().filter(differs).count() as u64;
        let mut notes = Vec::new();
        if copies.count > 0 {
            let message = format!(
                "{} examples equal an earlier one{but_for}. Where part of the file is held out, equal examples stand on one \
                 side.",
                copies.count
            );
            notes.push(Note::info("duplicates", message).on(&copies));
        }
        if conflicts.count > 0 {
            let message = format!(
                "{} examples equal an earlier one{but_for} and have another label; no model can get all of them right.",
                conflicts.count
            );
            notes.push(Note::warning("conflicting_labels", message).on(&conflicts));
        }
        notes
    }
}

/// How many lines these are, and the first of them.
fn seen(lines: impl Iterator<Item = u64>) -> Sightings {
    let (mut count, mut first) = (0, BTreeSet::new());
    for line in lines {
        count += 1;
        first.insert(line);
        if first.len() > LISTED_LINES {
            first.pop_last();
        }
    }
    Sightings { count, lines: first.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::{Prints, folded, print};

    #[test]
    fn equal_texts_fold_to_the_same() {
        for (one, other) in [("Two  Words\n", "two words"), ("cafe\u{301}", "CAFÉ"), ("a\u{A0}b", " a\tb ")] {
            assert_eq!(folded([one]), folded([other]));
        }
        assert_ne!(folded(["a", "b"]), folded(["a b"]));
        assert_ne!(folded(["a", "b c"]), folded(["a b", "c"]));
        assert_eq!(print(b"").to_be_bytes(), [0xE3, 0xB0, 0xC4, 0x42, 0x98, 0xFC, 0x1C, 0x14]);
    }

    #[test]
    fn copies_and_contradictions_are_told_with_their_lines() {
        let mut prints = Prints::default();
        for (line, (text, label)) in
            [("a", "x"), ("b", "x"), ("a", "x"), ("b", "y"), ("c", "y")].into_iter().enumerate()
        {
            prints.add(print(text.as_bytes()), line as u64 + 2, &[label.to_owned()], None, Some(label));
        }
        prints.sort();
        let notes = prints.notes(false);
        let told: Vec<(&str, &[u64])> = notes.iter().map(|note| (note.code.as_str(), &note.lines[..])).collect();
        assert_eq!(told, [("duplicates", &[4, 5][..]), ("conflicting_labels", &[3, 5])]);
        assert!(notes[0].message.starts_with("2 examples") && notes[1].message.starts_with("1 examples"));
        assert_eq!(prints.groups().duplicates(), 2);
        let mut others = prints.set();
        others.remove(&print(b"c"));
        let mut test = Prints::default();
        for (line, text) in [(7, "b"), (8, "d"), (9, "c")] {
            test.add(print(text.as_bytes()), line, &[], None, None);
        }
        let overlap = test.overlap(&prints);
        assert_eq!((overlap.count, overlap.lines), (2, vec![7, 9]));
        assert_eq!((prints.drop_those_in(&others), prints.len()), (4, 1));
    }
}
