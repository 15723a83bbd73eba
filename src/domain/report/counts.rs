//! What became of every line and row of a data file, so that nothing vanishes without a word.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The rows of a file: `rows = examples + faulty + all that were skipped`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// None where a file has no lines, and where a fault ended the reading.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Lines>,
    /// Rows, or members of an archive.
    pub rows: u64,
    /// Rows of which something is wrong.
    pub faulty: u64,
    /// Rows that are no examples and no faults, by what they are.
    pub skipped: BTreeMap<String, u64>,
}

/// The lines of a file: `lines = header + blank + rows + continued`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    pub lines: u64,
    /// Lines before the first row.
    pub header: u64,
    pub blank: u64,
    /// Lines on which a row goes on.
    pub continued: u64,
}

impl Counts {
    /// Counts a row that is passed over.
    pub fn skip(&mut self, what: &str) {
        self.rows += 1;
        match self.skipped.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.skipped.insert(what.to_owned(), 1)),
        }
    }
}

/// Something about a data file that its owner should know, though it can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What programs know it by.
    pub code: String,
    /// Whether it is likely that the file is not what it should be.
    pub warning: bool,
    pub message: String,
    /// Lines, or members of an archive, that show it: the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<u64>,
}

/// How many lines a note lists.
pub const LISTED_LINES: usize = 20;

impl Note {
    /// Something that is as it should be.
    pub fn info(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), warning: false, message: message.into(), lines: Vec::new() }
    }

    /// Something that is likely not meant.
    pub fn warning(code: &str, message: impl Into<String>) -> Self {
        Self { warning: true, ..Self::info(code, message) }
    }

    /// The same with the lines that show it.
    #[must_use]
    pub fn on(mut self, seen: &Sightings) -> Self {
        self.lines.clone_from(&seen.lines);
        self
    }
}

/// How often something was seen in a file, and on which lines first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sightings {
    pub count: u64,
    pub lines: Vec<u64>,
}

impl Sightings {
    /// Counts one more.
    pub fn add(&mut self, line: u64) {
        self.count += 1;
        if self.lines.len() < LISTED_LINES {
            self.lines.push(line);
        }
    }
}

/// Lines as a message lists them, the first of `count`; nothing where none is known.
pub fn on_lines(count: u64, lines: &[u64]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let listed: Vec<String> = lines.iter().map(u64::to_string).collect();
    format!(" (lines {}{})", listed.join(", "), if count > lines.len() as u64 { ", …" } else { "" })
}
