//! What examples are known by, in order, however many there are: in memory while they are few, and beyond that in sorted runs
//! of a file without a name, which are merged as they are read (external merge sort; Knuth, The Art of Computer Programming,
//! volume 3, 5.4).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// How many are held in memory: 24 MiB.
const MOST_HELD: usize = 1 << 20;

/// How many of a run are read at once.
const BLOCK: usize = 2048;

/// Bytes of one in a file.
const BYTES: usize = 24;

/// One example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Print {
    pub(super) bits: u64,
    pub(super) line: u64,
    /// What is to be predicted of it: equal numbers mean equal targets.
    pub(super) target: u32,
    /// The class by which it is held out.
    pub(super) stratum: u32,
}

impl Print {
    fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.bits.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.line.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.target.to_le_bytes());
        bytes[20..].copy_from_slice(&self.stratum.to_le_bytes());
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let number =
            |range: Range<usize>| bytes[range].iter().rev().fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
        Self { bits: number(0..8), line: number(8..16), target: number(16..20) as u32, stratum: number(20..24) as u32 }
    }
}

/// The prints of a file's examples.
#[derive(Debug)]
pub(super) struct Sorted {
    held: Vec<Print>,
    most_held: usize,
    /// Where the file is made; the system's folder for such files where none is named.
    scratch: Option<PathBuf>,
    file: Option<File>,
    /// Where each run ends in the file.
    ends: Vec<u64>,
}

impl Sorted {
    /// None yet.
    pub(super) fn new(scratch: Option<PathBuf>) -> Self {
        Self { held: Vec::new(), most_held: MOST_HELD, scratch, file: None, ends: Vec::new() }
    }

    /// Adds one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn push(&mut self, print: Print) -> io::Result<()> {
        if self.held.len() == self.most_held {
            self.spill()?;
        }
        self.held.push(print);
        Ok(())
    }

    /// Writes what is held behind the runs that are there.
    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_unstable();
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(self.scratch.clone().unwrap_or_else(std::env::temp_dir))?,
        };
        let mut writer = BufWriter::new(&file);
        for print in self.held.drain(..) {
            writer.write_all(&print.to_bytes())?;
        }
        writer.flush()?;
        drop(writer);
        self.ends.push(file.metadata()?.len() / BYTES as u64);
        self.file = Some(file);
        Ok(())
    }

    /// Ends the adding.
    pub(super) fn sort(&mut self) {
        self.held.sort_unstable();
    }

    /// All of them in order, once they are sorted.
    ///
    /// # Errors
    /// The file cannot be read, here and later.
    pub(super) fn merged(&self) -> io::Result<Merged<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let mut merged = Merged { runs: vec![Box::new(self.held.iter().copied().map(Ok))], heads: BinaryHeap::new() };
        for (start, &end) in starts.zip(&self.ends) {
            merged.runs.extend(self.file.iter().map(|file| Box::new(run(file, start..end)) as Run<'_>));
        }
        for run in 0..merged.runs.len() {
            merged.advance(run)?;
        }
        Ok(merged)
    }
}

/// Prints that are sorted, of the file or in memory.
type Run<'a> = Box<dyn Iterator<Item = io::Result<Print>> + 'a>;

/// The prints that stand in these places of a file.
fn run(file: &File, places: Range<u64>) -> impl Iterator<Item = io::Result<Print>> {
    let blocks = places.clone().step_by(BLOCK).map(move |start| {
        let mut bytes = vec![0; (places.end - start).min(BLOCK as u64) as usize * BYTES];
        file.read_exact_at(&mut bytes, start * BYTES as u64)?;
        Ok(bytes)
    });
    blocks.flat_map(|block: io::Result<Vec<u8>>| {
        let (bytes, failed) = block.map_or_else(|error| (Vec::new(), Some(error)), |bytes| (bytes, None));
        let prints: Vec<_> = bytes.chunks_exact(BYTES).map(|bytes| Ok(Print::of_bytes(bytes))).collect();
        prints.into_iter().chain(failed.map(Err))
    })
}

/// Prints in order.
pub(super) struct Merged<'a> {
    runs: Vec<Run<'a>>,
    /// The first of each run that is not given yet.
    heads: BinaryHeap<Reverse<(Print, usize)>>,
}

impl Merged<'_> {
    fn advance(&mut self, run: usize) -> io::Result<()> {
        if let Some(print) = self.runs[run].next().transpose()? {
            self.heads.push(Reverse((print, run)));
        }
        Ok(())
    }
}

impl Iterator for Merged<'_> {
    type Item = io::Result<Print>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((print, run)) = self.heads.pop()?;
        Some(self.advance(run).map(|()| print))
    }
}

/// Asks for prints in ascending order whether they are there.
pub(super) struct Lookup<'a> {
    merged: Merged<'a>,
    current: Option<Print>,
}

impl<'a> Lookup<'a> {
    /// A look into these, once they are sorted.
    pub(super) fn of(sorted: &'a Sorted) -> io::Result<Self> {
        Ok(Self { merged: sorted.merged()?, current: None })
    }

    /// Whether there is one with these bits, which are not before those that were asked for last.
    pub(super) fn has(&mut self, bits: u64) -> io::Result<bool> {
        while self.current.is_none_or(|print| print.bits < bits) {
            match self.merged.next().transpose()? {
                Some(print) => self.current = Some(print),
                None => return Ok(false),
            }
        }
        Ok(self.current.is_some_and(|print| print.bits == bits))
    }
}

#[cfg(test)]
mod tests {
    use super::{Lookup, Print, Sorted};
    use crate::domain::random::mix;

    fn prints(count: u64) -> Vec<Print> {
        let print =
            |i| Print { bits: mix(i % 700) >> (i % 3), line: i, target: i as u32 % 5, stratum: u32::MAX - i as u32 };
        (0..count).map(print).collect()
    }

    #[test]
    fn on_disk_they_are_the_same_as_in_memory() {
        for (count, most_held) in [(0, 10), (1, 10), (10, 10), (11, 10), (1000, 1000), (10_000, 3000), (10_000, 64)] {
            let mut sorted = Sorted { most_held, ..Sorted::new(None) };
            let mut expected = prints(count);
            for &print in &expected {
                sorted.push(print).unwrap();
            }
            sorted.sort();
            assert_eq!(sorted.file.is_some(), count > most_held as u64);
            expected.sort_unstable();
            let found: Vec<Print> = sorted.merged().unwrap().map(Result::unwrap).collect();
            assert!(found == expected, "{count} {most_held}");
            let mut lookup = Lookup::of(&sorted).unwrap();
            for bits in (0..2000).map(|i| i * (u64::MAX / 2000)).chain(expected.last().map(|print| print.bits)) {
                let is_there = expected.iter().any(|print| print.bits == bits);
                if lookup.current.is_none_or(|print| print.bits <= bits) {
                    assert_eq!(lookup.has(bits).unwrap(), is_there);
                }
            }
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let mut sorted = Sorted { most_held: 1, ..Sorted::new(Some("/nowhere".into())) };
        let [one, other] = prints(2)[..] else { panic!() };
        sorted.push(one).unwrap();
        assert!(sorted.push(other).is_err());
    }
}
