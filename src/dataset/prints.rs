//! What examples are known by: equal ones have one print, however they are written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::PathBuf;

use image::RgbImage;
use sha2::{Digest, Sha256};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::kind::Seen;
use super::sorted::{Lookup, Print, Sorted};
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
            // There and back: ß is SS in capitals, and ς is Σ, as in Unicode's full case folding.
            folded.extend(c.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase));
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

/// The prints of a file's examples.
#[derive(Debug)]
pub(super) struct Prints {
    all: Sorted,
    labels: HashMap<String, u32>,
}

impl Prints {
    /// None yet. `scratch` is where they go beyond some number.
    pub(super) fn new(scratch: Option<PathBuf>) -> Self {
        Self { all: Sorted::new(scratch), labels: HashMap::new() }
    }

    /// Adds an example. `stratum` is the label by which it is held out, if it is by one.
    ///
    /// # Errors
    /// There are many, and they cannot be written.
    pub(super) fn add(&mut self, seen: &Seen<'_>, stratum: Option<&str>) -> io::Result<()> {
        let next = self.labels.len() as u32 + 1;
        let stratum = stratum.map_or(0, |label| match self.labels.get(label) {
            Some(&known) => known,
            None => *self.labels.entry(label.to_owned()).or_insert(next),
        });
        let target = match (stratum, seen.value) {
            (0, Some(value)) => print(&value.to_le_bytes()) as u32,
            (0, None) if seen.labels.is_empty() => 0,
            (0, None) => print(seen.labels.join("\0").as_bytes()) as u32,
            (stratum, _) => stratum,
        };
        self.all.push(Print { bits: seen.print, line: seen.line, target, stratum })
    }

    /// Ends the adding: equal ones stand next to each other, in the order of their lines.
    pub(super) fn sort(&mut self) {
        self.all.sort();
    }

    /// The groups of equal ones, once they are sorted.
    ///
    /// # Errors
    /// They cannot be read, here and below.
    pub(super) fn groups(&self) -> io::Result<Groups> {
        Ok(self.groups_without(&[])?.0)
    }

    /// The same without those that one of `others` has, and how many these are.
    pub(super) fn groups_without(&self, others: &[&Self]) -> io::Result<(Groups, u64)> {
        let mut lookups = others.iter().map(|other| Lookup::of(&other.all)).collect::<io::Result<Vec<_>>>()?;
        let (mut all, mut dropped, mut failed) = (self.all.merged()?.peekable(), 0, None);
        let mut next = || -> io::Result<Option<(u64, usize, u64)>> {
            while let Some(first) = all.next().transpose()? {
                let mut size = 1;
                while all
                    .next_if(|next| next.as_ref().map_or(true, |next| next.bits == first.bits))
                    .transpose()?
                    .is_some()
                {
                    size += 1;
                }
                let mut is_there = false;
                for lookup in &mut lookups {
                    is_there |= lookup.has(first.bits)?;
                }
                if !is_there {
                    return Ok(Some((first.line, first.stratum as usize, size)));
                }
                dropped += size;
            }
            Ok(None)
        };
        let groups = Groups::of_firsts(std::iter::from_fn(|| {
            next().unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        }));
        failed.map_or(Ok((groups, dropped)), Err)
    }

    /// Those of `prints`, in ascending order, that are here, once these are sorted.
    pub(super) fn among(&self, prints: &[u64]) -> io::Result<HashSet<u64>> {
        let (mut lookup, mut found) = (Lookup::of(&self.all)?, HashSet::new());
        for &print in prints {
            if lookup.has(print)? {
                found.insert(print);
            }
        }
        Ok(found)
    }

    /// Those that are also in `others`, once these are sorted.
    pub(super) fn overlap(&self, others: &Self) -> io::Result<Sightings> {
        let (mut lookup, mut seen) = (Lookup::of(&others.all)?, First::default());
        for print in self.all.merged()? {
            let print = print?;
            if lookup.has(print.bits)? {
                seen.add(print.line);
            }
        }
        Ok(seen.sightings())
    }

    /// What there is to say of examples that equal others of the same file, once they are sorted.
    pub(super) fn notes(&self, are_images: bool) -> io::Result<Vec<Note>> {
        let (mut copies, mut conflicts) = (First::default(), First::default());
        let (mut first, mut differs) = (None::<Print>, false);
        for print in self.all.merged()? {
            let print = print?;
            match first.filter(|first| first.bits == print.bits) {
                None => (first, differs) = (Some(print), false),
                Some(first) => {
                    copies.add(print.line);
                    if print.target != first.target {
                        conflicts.add(print.line);
                        if !std::mem::replace(&mut differs, true) {
                            conflicts.show(first.line);
                        }
                    }
                }
            }
        }
        let (copies, conflicts) = (copies.sightings(), conflicts.sightings());
        let but_for = if are_images { " pixel by pixel" } else { ", but for letter case and white space" };
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
        Ok(notes)
    }
}

/// How many lines were seen, in any order, and the first of them.
#[derive(Default)]
struct First {
    count: u64,
    lines: BTreeSet<u64>,
}

impl First {
    fn add(&mut self, line: u64) {
        self.count += 1;
        self.show(line);
    }

    /// Shows a line that does not count.
    fn show(&mut self, line: u64) {
        self.lines.insert(line);
        if self.lines.len() > LISTED_LINES {
            self.lines.pop_last();
        }
    }

    fn sightings(self) -> Sightings {
        Sightings { count: self.count, lines: self.lines.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Prints, Seen, folded, print};

    #[test]
    fn equal_texts_fold_to_the_same() {
        for (one, other) in [
            ("Two  Words\n", "two words"),
            ("cafe\u{301}", "CAFÉ"),
            ("a\u{A0}b", " a\tb "),
            ("Straße", "STRASSE"),
            ("ο θεος", "Ο ΘΕΟΣ"),
            ("STRAẞE", "straße"),
            ("ﬁne", "FINE"),
        ] {
            assert_eq!(folded([one]), folded([other]));
        }
        assert_ne!(folded(["a", "b"]), folded(["a b"]));
        assert_ne!(folded(["a", "b c"]), folded(["a b", "c"]));
        assert_eq!(print(b"").to_be_bytes(), [0xE3, 0xB0, 0xC4, 0x42, 0x98, 0xFC, 0x1C, 0x14]);
    }

    #[test]
    fn copies_and_contradictions_are_told_with_their_lines() {
        let add = |prints: &mut Prints, line: u64, text: &str, label: Option<&str>| {
            let labels: Vec<String> = label.iter().map(|&label| label.to_owned()).collect();
            let seen = Seen { line, print: print(text.as_bytes()), folded: None, labels: &labels, value: None };
            prints.add(&seen, label).unwrap();
        };
        let mut prints = Prints::new(None);
        for (line, (text, label)) in
            [("a", "x"), ("b", "x"), ("a", "x"), ("b", "y"), ("c", "y")].into_iter().enumerate()
        {
            add(&mut prints, line as u64 + 2, text, Some(label));
        }
        prints.sort();
        let notes = prints.notes(false).unwrap();
        let told: Vec<(&str, &[u64])> = notes.iter().map(|note| (note.code.as_str(), &note.lines[..])).collect();
        assert_eq!(told, [("duplicates", &[4, 5][..]), ("conflicting_labels", &[3, 5])]);
        assert!(notes[0].message.starts_with("2 examples") && notes[1].message.starts_with("1 examples"));
        assert_eq!(prints.groups().unwrap().duplicates(), 2);
        let mut test = Prints::new(None);
        for (line, text) in [(7, "b"), (8, "d"), (9, "c")] {
            add(&mut test, line, text, None);
        }
        test.sort();
        let overlap = test.overlap(&prints).unwrap();
        assert_eq!((overlap.count, overlap.lines), (2, vec![7, 9]));
        let mut asked = ["a", "d", "z"].map(|text| print(text.as_bytes()));
        asked.sort_unstable();
        assert_eq!(prints.among(&asked).unwrap(), [print(b"a")].into());
        let (left, dropped) = prints.groups_without(&[&test]).unwrap();
        assert_eq!((dropped, left.duplicates()), (3, 1));
        assert_eq!(prints.groups_without(&[&test, &prints]).unwrap().1, 5);
    }
}
