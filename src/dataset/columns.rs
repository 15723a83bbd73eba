//! Which keys and columns hold what.

use std::collections::HashSet;

use super::entries::BLOCK_ROWS;
use super::json::MAX_KEYS;
use super::row::{Row, listed};
use crate::domain::clip::{clipped, is_space};
use crate::domain::job::ReadOptions;
use crate::domain::report::Note;

/// Keys and columns that hold the label, unless the job names one; the first that is there counts.
pub const LABEL_COLUMNS: [&str; 3] = ["label", "category", "class"];

/// Names of columns that readers look for, in headers as they are usually written.
pub(super) const KNOWN_COLUMNS: [&str; 11] =
    ["text", "text_pair", "label", "labels", "category", "class", "anchor", "positive", "negative", "image", "answer"];

/// The key that holds the list of labels, where an example may have several.
pub const LABELS_COLUMN: &str = "labels";

/// The key or column that holds an image.
pub const IMAGE_COLUMN: &str = "image";

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

/// Of the columns that are read one that the header names more than once.
pub(super) fn doubled<'a>(names: &Names, read: &[&'a str]) -> Option<&'a str> {
    let there = names.listed();
    let is_twice = |name: &&str| there.iter().filter(|other| *other == name).count() > 1;
    read.iter().copied().find(is_twice).filter(|_| names.are_headed())
}

/// What is said of it.
pub(super) const DOUBLED: &str = "stands more than once in the header";

/// The first of these fields that as many rows have as any of them; None of none.
pub(super) fn fullest<'a>(names: &[&'a str], rows: &[&Row]) -> Option<&'a str> {
    let have_it = |name: &str| rows.iter().filter(|row| row.get(name).is_some()).count();
    // Of equals `max_by_key` gives the last one.
    names.iter().rev().copied().max_by_key(|name| have_it(name))
}

/// What there is to say of fields that are none of those that are read.
pub(super) fn not_read(rows: &[&Row], there: &[&str], read: &[&str]) -> Vec<Note> {
    let others: Vec<&str> = there.iter().copied().filter(|name| !name.is_empty() && !read.contains(name)).collect();
    let known = |name: &&str| KNOWN_COLUMNS.contains(name);
    let alike: Vec<&str> =
        others.iter().copied().filter(|name| !known(name) && known(&folded(name).as_str())).collect();
    let splits = others.iter().find(|name| are_splits(rows, name));
    let notes = [
        (!others.is_empty())
            .then(|| Note::info("columns_not_read", format!("Columns that are not read: {}.", listed(&others)))),
        (!alike.is_empty()).then(|| {
            let message = format!(
                "Columns that would be read if their names stood in lower case, without white space: {}.",
                listed(&alike)
            );
            Note::warning("columns_alike", message)
        }),
        splits.map(|name| {
            let message = format!(
                "The column \"{}\" tells which rows are for training and which for testing, but all rows are used alike: put \
                 them into files of their own.",
                clipped(name)
            );
            Note::warning("splits_in_a_column", message)
        }),
    ];
    notes.into_iter().flatten().collect()
}

/// A column's name however it was typed.
pub(super) fn folded(name: &str) -> String {
    name.trim_matches(is_space).to_lowercase().replace([' ', '-'], "_")
}

fn is_split(row: &Row, name: &str) -> bool {
    row.get(name).is_some_and(|value| value.as_str().is_some_and(|word| SPLITS.contains(&folded(word).as_str())))
}

/// Whether all rows that have this field name a part of a data set in it, and not all the same.
fn are_splits(rows: &[&Row], name: &str) -> bool {
    let mut there = rows.iter().filter(|row| row.get(name).is_some()).peekable();
    let first = there.peek().and_then(|row| row.get(name));
    let mut differ = false;
    there.all(|row| {
        differ |= row.get(name) != first;
        is_split(row, name)
    }) && differ
}

/// What the parts of a data set are called.
const SPLITS: [&str; 7] = ["train", "training", "validation", "valid", "val", "dev", "test"];

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
