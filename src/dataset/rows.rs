//! The rows of a data file of any format.

use std::io;

use serde_json::Value;

use super::constants;
use super::csv;
use super::entries::{Ending, Entries, Entry, Step, further, nothing_but, settle_first};
use super::json;
use super::json_items::{Item, Items};
use super::lines::{Line, Lines};
use super::row::{Fields, NOT_UTF8, Row, kind, too_long};
use super::source::damage;
use super::{Input, MAX_LINE_BYTES, parquet};
use crate::domain::report::{self, DataFormat, Delimiter, Fault};

/// What is said of an archive that is to hold texts.
const ARCHIVE: &str = "is an archive of images; texts are read from CSV, JSONL, JSON, Parquet or plain text";

/// What is said of a file of no known format.
pub(super) const UNKNOWN: &str = "is none of the formats that are read: CSV, JSONL, JSON, Parquet and plain text, and zip or tar \
                                  archives of images";

/// Whether files of this format have rows.
///
/// # Errors
/// They have none, in words for their owner.
pub(super) fn fit(format: DataFormat) -> Result<(), String> {
    match format {
        DataFormat::Jsonl | DataFormat::Json | DataFormat::Csv | DataFormat::Text | DataFormat::Parquet => Ok(()),
        DataFormat::Zip | DataFormat::Tar => Err(ARCHIVE.to_owned()),
        DataFormat::Unknown => Err(UNKNOWN.to_owned()),
    }
}

/// The rows of a file.
///
/// # Errors
/// The file cannot be opened.
pub fn read(input: &Input) -> io::Result<Entries<Row>> {
    let rows = match input.format {
        DataFormat::Jsonl => lines(input, |line, text| json_row(line, text.trim_start_matches('\u{FEFF}').as_bytes()))?,
        DataFormat::Text => return lines(input, |line, text| Entry::Good(Row { line, fields: Fields::Line(text) })),
        DataFormat::Json => items(input)?,
        DataFormat::Csv => Box::new(csv::Rows::open(input)?),
        DataFormat::Parquet => parquet::read(input)?,
        DataFormat::Zip | DataFormat::Tar => nothing_but(Fault::new(1, None, ARCHIVE)),
        DataFormat::Unknown => nothing_but(Fault::new(1, None, UNKNOWN)),
    };
    Ok(constants::noted(rows))
}

/// What stands between the fields of a CSV file; None of other formats.
///
/// # Errors
/// The file cannot be read.
pub fn delimiter(input: &Input) -> io::Result<Option<Delimiter>> {
    if input.format != DataFormat::Csv {
        return Ok(None);
    }
    Ok(Some(csv::guess(&input.path, &input.options)?.dialect.delimiter))
}

/// Of each of these names, whether most of a file's first rows have a field called so.
///
/// # Errors
/// The file cannot be read.
pub fn most_have<const N: usize>(input: &Input, names: [&str; N]) -> io::Result<[bool; N]> {
    let have_it = |rows: &[&Row], name| 2 * rows.iter().filter(|row| row.get(name).is_some()).count() > rows.len();
    settle_first(read(input)?, Row::weight, |rows| names.map(|name| have_it(rows, name)))
}

/// What `row` makes of each line that is not blank.
fn lines(input: &Input, row: fn(u64, String) -> Entry<Row>) -> io::Result<Entries<Row>> {
    let bounds = input.bounds.clone();
    let mut lines = Lines::open(&input.path, MAX_LINE_BYTES)?;
    let (mut blank, mut is_over) = (0, false);
    Ok(Box::new(std::iter::from_fn(move || {
        while !is_over {
            if let Err(error) = bounds.check() {
                is_over = true;
                return Some(Err(error));
            }
            match lines.next() {
                Some(Ok((_, Line::Text(text)))) if text.trim().is_empty() => blank += 1,
                Some(Ok((number, line))) => {
                    return Some(Ok(match line {
                        Line::TooLong => Entry::fault(number, too_long()),
                        Line::NotUtf8 => Entry::fault(number, NOT_UTF8),
                        Line::Text(text) => row(number, text),
                    }));
                }
                Some(Err(error)) => {
                    is_over = true;
                    let fault = damage(&error).map(|what| Fault::new(lines.number().max(1), None, what));
                    return Some(fault.map(Entry::Broken).ok_or(error));
                }
                None => {
                    is_over = true;
                    let counts = report::Lines { lines: lines.number(), blank, ..report::Lines::default() };
                    return Some(Ok(Entry::End(Box::new(Ending { lines: Some(counts), notes: Vec::new() }))));
                }
            }
        }
        None
    })))
}

/// The items of an array, or objects over several lines.
fn items(input: &Input) -> io::Result<Entries<Row>> {
    let bounds = input.bounds.clone();
    let mut items = Items::new(Lines::open(&input.path, MAX_LINE_BYTES)?);
    let mut is_over = false;
    let entries = std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let entry = bounds.check().and_then(|()| items.next());
        match entry {
            Ok(Some(Ok(item))) => Some(Ok(Entry::Good(item))),
            Ok(Some(Err(misplaced))) => {
                is_over = true;
                Some(Ok(Entry::Broken(Fault::new(misplaced.line, None, misplaced.what))))
            }
            Ok(None) => {
                is_over = true;
                Some(Ok(Entry::End(Box::default())))
            }
            Err(error) => {
                is_over = true;
                let fault = damage(&error).map(|what| Fault::new(1, None, what));
                Some(fault.map(Entry::Broken).ok_or(error))
            }
        }
    });
    Ok(further(entries, |Item { line, text }| Ok(Step::To(json_row(line, &text)))))
}

fn json_row(line: u64, text: &[u8]) -> Entry<Row> {
    match serde_json::from_slice(text) {
        Ok(json::Row(Value::Object(object))) => Entry::Good(Row { line, fields: Fields::Json(object) }),
        Ok(json::Row(other)) => Entry::fault(line, format!("expected a JSON object, found {}", kind(&other))),
        Err(error) => Entry::fault(line + (error.line() as u64).saturating_sub(1), json::fault(text, &error)),
    }
}
