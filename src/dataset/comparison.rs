//! The examples of a job's files against each other: which are equal or nearly so, and which labels are new.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::Input;
use super::kind::{Kind, Seen, Watch};
use super::near::Sketches;
use super::prints::Prints;
use super::spelling::folded;
use crate::domain::clip::clipped;
use crate::domain::method::ProblemType;
use crate::domain::reading::Reading;
use crate::domain::report::{Dropped, Faults, Overlap, Part, Place, Sightings};
use crate::domain::split::Groups;

/// What the examples of files are known by, in the order of [`Part`].
#[derive(Default)]
pub(super) struct Comparison {
    files: Vec<(Part, Collected)>,
}

/// What the examples of a file are known by.
struct Collected {
    prints: Prints,
    sketches: Sketches,
}

impl Comparison {
    fn overlaps(&self, of: Part, collected: &Collected, near: u32) -> io::Result<Vec<Overlap>> {
        let overlap = |(with, other): &(Part, Collected)| {
            let equal = collected.prints.overlap(&other.prints)?;
            let near = if near == 0 { Sightings::default() } else { collected.near(other, near)? };
            Ok(Overlap { file: of, with: *with, equal, near })
        };
        self.files.iter().map(overlap).collect()
    }

    /// What is left of the training file, and how much is not, where each file goes without what a later one has: what is tested
    /// with is not validated with, and neither is trained on.
    ///
    /// # Errors
    /// What examples are known by cannot be read.
    pub(super) fn without_shared(&self) -> io::Result<(Groups, Dropped)> {
        let (mut left, mut dropped) = (Groups::default(), Dropped::default());
        for (number, (part, collected)) in self.files.iter().enumerate() {
            let later: Vec<&Prints> = self.files[number + 1..].iter().map(|(_, later)| &later.prints).collect();
            let (groups, count) = collected.prints.groups_without(&later)?;
            match part {
                Part::Training => (left, dropped.training) = (groups, count),
                Part::Validation => dropped.validation = count,
                Part::Test => {}
            }
        }
        Ok((left, dropped))
    }
}

impl Collected {
    /// The texts of which `other` has one that is nearly equal, but none that is equal.
    fn near(&self, other: &Self, percent: u32) -> io::Result<Sightings> {
        let near = self.sketches.near(&other.sketches, percent);
        let mut prints: Vec<u64> = near.iter().map(|(_, print)| *print).collect();
        prints.sort_unstable();
        let (equal, mut seen) = (other.prints.among(&prints)?, Sightings::default());
        near.iter().filter(|(_, print)| !equal.contains(print)).for_each(|(line, _)| seen.add(*line));
        Ok(seen)
    }
}

/// Reads the files of a job.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) kind: &'a dyn Kind,
    pub(super) problem: ProblemType,
    /// How similar texts are that are nearly equal, in percent; 0 looks for none.
    pub(super) near: u32,
    /// Whether there is no file but the training file.
    pub(super) alone: bool,
}

impl Reader<'_> {
    /// Reads a file, whose labels must be among `known`, and compares it with those before it.
    ///
    /// # Errors
    /// It cannot be read, or what its examples are known by cannot be written.
    pub(super) fn read(
        self,
        input: &Input,
        part: Part,
        known: Option<&BTreeMap<String, u64>>,
        found: &mut Comparison,
    ) -> io::Result<Reading> {
        let collects_texts = self.near > 0 && !self.alone;
        let stratified = self.kind.is_stratified();
        let prints = Prints::new(input.bounds.scratch.clone());
        let collected = Collected { prints, sketches: Sketches::default() };
        let mut collector = Collector { known, alike: None, stratified, collects_texts, collected, failed: None };
        let mut report = self.kind.report(input, &mut collector)?;
        if let Some(error) = collector.failed {
            return Err(error);
        }
        let mut collected = collector.collected;
        collected.prints.sort();
        let are_images = report.images().is_some();
        report.notes.extend(collected.prints.notes(are_images)?);
        let overlaps = found.overlaps(part, &collected, self.near)?;
        let groups = if part == Part::Training { collected.prints.groups()? } else { Groups::default() };
        found.files.push((part, collected));
        Ok(Reading { problem: self.problem, report, groups, overlaps })
    }
}

/// Collects what examples are known by.
struct Collector<'a> {
    /// The labels that may occur, where not any may.
    known: Option<&'a BTreeMap<String, u64>>,
    /// The same by how they look, once one is missed.
    alike: Option<HashMap<String, &'a String>>,
    stratified: bool,
    collects_texts: bool,
    collected: Collected,
    /// Why not all was collected.
    failed: Option<io::Error>,
}

impl Watch for Collector<'_> {
    fn example(&mut self, place: &Place, labels: &[String], faults: &mut Faults) {
        let Some(known) = self.known else { return };
        for label in labels.iter().filter(|label| !known.contains_key(*label)) {
            let alike = self.alike.get_or_insert_with(|| known.keys().map(|known| (folded(known), known)).collect());
            faults.push_at(place, Some("label"), unseen(label, alike.get(&folded(label)).copied()));
        }
    }

    fn compares(&self) -> bool {
        true
    }

    fn known(&mut self, seen: &Seen<'_>) {
        let stratum = seen.labels.first().filter(|_| self.stratified).map(String::as_str);
        if self.failed.is_none() {
            self.failed = self.collected.prints.add(seen, stratum).err();
        }
        if let Some(folded) = seen.folded.filter(|_| self.collects_texts) {
            self.collected.sketches.add(seen.line, seen.print, folded);
        }
    }
}

/// What is said of a label that is none of the training file's, and of one there that looks like it.
fn unseen(label: &str, alike: Option<&String>) -> String {
    let alike = alike.map(|alike| format!("; \"{}\" does, which looks alike", clipped(alike))).unwrap_or_default();
    format!("the label \"{}\" does not occur in the training file{alike}", clipped(label))
}
