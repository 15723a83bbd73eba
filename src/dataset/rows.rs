//! The rows of a data file of any format.

use std::io;

use serde_json::Value;

use super::entries::{Entries, Entry, Ledger, Step, further, good, nothing_but};
use super::json;
use super::lines::{Line, Lines};
use super::records::Records;
use super::row::{Fields, NOT_UTF8, Row, kind, too_long};
use super::{Input, MAX_LINE_BYTES};
use crate::domain::report::{DataFormat, Fault};

/// What is said of an archive that is to hold texts.
const ARCHIVE: &str = "is an archive of images; texts are read from JSONL, CSV or plain text";

/// What is said of a file of no known format.
const UNKNOWN: &str =
    "is none of the formats that are read: CSV, JSONL, JSON, Parquet, plain text, and zip or tar archives of images";

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
    Ok(match input.format {
        DataFormat::Jsonl => lines(input, |line, text| json_row(line, &text))?,
        DataFormat::Text => lines(input, |line, text| Entry::Good(Row { line, fields: Fields::Line(text) }))?,
        DataFormat::Csv => Box::new(Records::open(input)?),
        DataFormat::Zip | DataFormat::Tar => nothing_but(Fault::new(1, None, ARCHIVE)),
        DataFormat::Json | DataFormat::Parquet | DataFormat::Unknown => nothing_but(Fault::new(1, None, UNKNOWN)),
    })
}

/// The first row of a file that is a row at all.
///
/// # Errors
/// The file cannot be read.
pub fn first(input: &Input) -> io::Result<Option<Row>> {
    good(read(input)?, &mut Ledger::default()).next().transpose()
}

/// What `row` makes of each line that is not blank.
fn lines(input: &Input, row: fn(u64, String) -> Entry<Row>) -> io::Result<Entries<Row>> {
    let bounds = input.bounds.clone();
    let lines = Lines::open(&input.path, MAX_LINE_BYTES)?.map(|line| line.map(Entry::Good));
    Ok(further(lines, move |(number, line)| {
        bounds.check()?;
        Ok(match line {
            Line::TooLong => Step::To(Entry::fault(number, too_long())),
            Line::NotUtf8 => Step::To(Entry::fault(number, NOT_UTF8)),
            Line::Text(text) if text.trim().is_empty() => Step::PassOver,
            Line::Text(text) => Step::To(row(number, text)),
        })
    }))
}

fn json_row(line: u64, text: &str) -> Entry<Row> {
    match serde_json::from_str(text) {
        Ok(json::Row(Value::Object(object))) => Entry::Good(Row { line, fields: Fields::Json(object) }),
        Ok(json::Row(other)) => Entry::fault(line, format!("expected a JSON object, found {}", kind(&other))),
        Err(error) => Entry::fault(line, json_fault(&error)),
    }
}

fn json_fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    if error.is_data() {
        return format!("has {what}");
    }
    format!("is not valid JSON (column {}: {what})", error.column())
}
