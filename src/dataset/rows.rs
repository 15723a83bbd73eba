//! The rows of a data file of any format.

use std::io;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::columns::Names;
use super::constants;
use super::csv;
use super::entries::{Ending, Entries, Entry, Step, further, nothing_but, settle_first};
use super::json;
use super::json_items::{Item, Items};
use super::lines::{Line, Lines};
use super::row::{Fields, NOT_UTF8, Row, kind, too_long};
use super::source::damage;
use super::tree::Tree;
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
    let rows = open(input, json_row, parquet::flat)?;
    Ok(if input.format == DataFormat::Text { rows } else { constants::noted(rows) })
}

/// The same with values that are kept whole, however deep they lie. Of these one may well be the same in all rows, as tools are.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn read_whole(input: &Input) -> io::Result<Entries<Row>> {
    open(input, whole_row, parquet::whole)
}

/// What makes a row of a JSON text that begins on a line.
type OfJson = fn(u64, &[u8]) -> Entry<Row>;

fn open(input: &Input, of_json: OfJson, of_parquet: parquet::Make) -> io::Result<Entries<Row>> {
    Ok(match input.format {
        DataFormat::Jsonl => {
            lines(input, move |line, text| of_json(line, text.trim_start_matches('\u{FEFF}').as_bytes()))?
        }
        DataFormat::Text => lines(input, |line, text| Entry::Good(Row { line, fields: Fields::Line(text) }))?,
        DataFormat::Json => items(input, of_json)?,
        DataFormat::Csv => Box::new(csv::Rows::open(input)?),
        DataFormat::Parquet => parquet::read(input, of_parquet)?,
        DataFormat::Zip | DataFormat::Tar => nothing_but(Fault::new(1, None, ARCHIVE)),
        DataFormat::Unknown => nothing_but(Fault::new(1, None, UNKNOWN)),
    })
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

/// The names of the fields that most of a file's first rows have.
///
/// # Errors
/// The file cannot be read.
pub fn usual_names(input: &Input) -> io::Result<Vec<String>> {
    let have_it =
        |rows: &[&Row], name: &str| 2 * rows.iter().filter(|row| row.get(name).is_some()).count() > rows.len();
    settle_first(read(input)?, Row::weight, |rows| {
        let there = Names::of(rows);
        there.listed().into_iter().filter(|name| have_it(rows, name)).map(str::to_owned).collect()
    })
}

/// What `row` makes of each line that is not blank.
fn lines(input: &Input, row: impl Fn(u64, String) -> Entry<Row> + 'static) -> io::Result<Entries<Row>> {
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
fn items(input: &Input, of_json: OfJson) -> io::Result<Entries<Row>> {
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
    Ok(further(entries, move |Item { line, text }| Ok(Step::To(of_json(line, &text)))))
}

fn json_row(line: u64, text: &[u8]) -> Entry<Row> {
    entry(line, text, |json::Row(value)| match value {
        Value::Object(object) => Ok(Fields::Json(object)),
        other => Err(kind(&other)),
    })
}

fn whole_row(line: u64, text: &[u8]) -> Entry<Row> {
    entry(line, text, |tree: Tree| match tree {
        Tree::Object(object) => Ok(Fields::Whole(object)),
        other => Err(other.kind()),
    })
}

/// The row that a JSON text is; `fields` gives its fields, or says what else it is.
fn entry<T: DeserializeOwned>(
    line: u64,
    text: &[u8],
    fields: impl FnOnce(T) -> Result<Fields, &'static str>,
) -> Entry<Row> {
    match serde_json::from_slice(text).map(fields) {
        Ok(Ok(fields)) => Entry::Good(Row { line, fields }),
        Ok(Err(other)) => Entry::fault(line, format!("expected a JSON object, found {other}")),
        Err(error) => Entry::fault(line + (error.line() as u64).saturating_sub(1), json::fault(text, &error)),
    }
}
