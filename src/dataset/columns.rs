//! Which keys and columns hold what.

use std::collections::HashSet;

use super::entries::BLOCK_ROWS;
use super::json::MAX_KEYS;
use super::row::{Row, listed};
use crate::domain::clip::clipped;
use crate::domain::job::ReadOptions;
use crate::domain::report::Note;

/// Keys and columns that hold the label, unless the job names one; the first that is there counts.
pub const LABEL_COLUMNS: [&str; 3] = ["label", "category", "class"];

/// Names of columns that readers look for, in headers as they are usually written.
pub(super) const KNOWN_COLUMNS: [&str; 11] =
    ["text", "text_pair", "label", "labels", "category", "class", "anchor", "positive", "negative", "image", "answer"];

/// The key that holds the list of labels, where an example may have several.
pub const LABELS_COLUMN: &str = "labels";

/// The key or column that holds the text, unless the job names one.
pub const TEXT_COLUMN: &str = "text";

/// The key or column that holds the second text of a pair, where there is one.
pub const PAIR_COLUMN: &str = "text_pair";

/// The names of fields that a file's first rows have: a row of JSON may lack what others have.
#[derive(Default)]
pub(super) struct Names {
    rows: usize,
    headed: bool,
    line: Option<u64>,
    seen: Vec<String>,
    known: HashSet<String>,
}

impl Names {
    /// Those of some rows.
    pub(super) fn of(rows: &[&Row]) -> Self {
        let mut names = Self::default();
        for row in rows {
            names.add(row);
        }
        names
    }

    /// Takes in a row, unless there were enough.
    pub(super) fn add(&mut self, row: &Row) {
        self.rows += 1;
        self.headed |= row.has_header();
        self.line.get_or_insert(if row.has_header() { 1 } else { row.line });
        if self.rows > BLOCK_ROWS || (self.rows > 1 && row.has_header()) {
            return;
        }
        for name in row.names() {
            let is_new = !self.known.contains(name);
            if self.seen.len() < MAX_KEYS && (is_new || row.has_header()) {
                self.seen.push(name.to_owned());
                self.known.insert(name.to_owned());
            }
        }
    }

    /// Whether a header has named the fields of all rows.
    pub(super) fn are_headed(&self) -> bool {
        self.headed
    }

    /// The line that speaks for all: that of the header, or the first row's.
    pub(super) fn line(&self) -> u64 {
        self.line.unwrap_or(1)
    }

    /// The names, in the order in which they were first seen; of a header all of them.
    pub(super) fn listed(&self) -> Vec<&str> {
        self.seen.iter().map(String::as_str).collect()
    }
}

/// The first of these fields that as many rows have as any of them; None of none.
pub(super) fn fullest<'a>(names: &[&'a str], rows: &[&Row]) -> Option<&'a str> {
    let have_it = |name: &str| rows.iter().filter(|row| row.get(name).is_some()).count();
    // Of equals `max_by_key` gives the last one.
    names.iter().rev().copied().max_by_key(|name| have_it(name))
}

/// What there is to say of fields that are none of those that are read.
pub(super) fn not_read(there: &[&str], read: &[&str]) -> Option<Note> {
    let others: Vec<&str> = there.iter().copied().filter(|name| !name.is_empty() && !read.contains(name)).collect();
    (!others.is_empty())
        .then(|| Note::info("columns_not_read", format!("Columns that are not read: {}.", listed(&others))))
}

/// The name of the text column.
pub fn text(options: &ReadOptions) -> &str {
    options.text_column.as_deref().unwrap_or(TEXT_COLUMN)
}

/// What is said where the column of the text is not among those that are there.
pub(super) fn no_text(column: &str, there: &[&str], headed: bool) -> String {
    let (found, header) = (listed(there), if headed { HEADER } else { "" });
    format!("there is no text column \"{}\"; found {found}; name it in dataset.text_column{header}", clipped(column))
}

/// What is added where a header should have named a column.
pub(super) const HEADER: &str = " (the first line must name the columns)";
