//! Rows of data files under one face: JSON objects, CSV records and plain lines as fields by name.

use std::borrow::Cow;
use std::io;

use serde_json::{Map, Value};

use super::json::{self, MAX_KEYS};
use super::lines::{Line, Lines, RowLimit, first_line_ends_in_crlf};
use super::{Input, MAX_LINE_BYTES};
use crate::domain::clip::clipped;
use crate::domain::report::{DataFormat, Faults};

/// The one field that a line of a plain text file has.
pub const LINE_FIELD: &str = "text";

/// One row.
#[derive(Clone, Copy)]
pub enum Row<'a> {
    Json(&'a Map<String, Value>),
    Csv { header: &'a csv::StringRecord, record: &'a csv::StringRecord },
    Line(&'a str),
}

/// Whether to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Go,
    Stop,
}

impl<'a> Row<'a> {
    /// The names of its fields; of a CSV file a name may stand more than once.
    pub fn names(self) -> Vec<&'a str> {
        match self {
            Self::Json(object) => object.keys().map(String::as_str).collect(),
            Self::Csv { header, .. } => header.iter().collect(),
            Self::Line(_) => vec![LINE_FIELD],
        }
    }

    /// The field called `name`, as JSON; None where it is absent or null.
    pub fn get(self, name: &str) -> Option<Cow<'a, Value>> {
        match self {
            Self::Json(object) => object.get(name).filter(|value| !value.is_null()).map(Cow::Borrowed),
            Self::Csv { header, record } => {
                let place = header.iter().position(|column| column == name)?;
                record.get(place).map(|field| Cow::Owned(Value::String(field.to_owned())))
            }
            Self::Line(line) => (name == LINE_FIELD).then(|| Cow::Owned(Value::String(line.to_owned()))),
        }
    }

    /// A text that is not blank.
    pub fn text(self, name: &str) -> Result<String, String> {
        let text = match self.get(name).as_deref() {
            Some(Value::String(text)) => text.clone(),
            None => return Err(MISSING.to_owned()),
            Some(other) => return Err(format!("must be a string, not {}", kind(other))),
        };
        if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text) }
    }
}

/// What is said of an archive that is to hold texts.
pub(super) const ARCHIVE: &str = "is an archive of images; texts are read from JSONL, CSV or plain text";

/// What is said of a field that is not there.
pub const MISSING: &str = "is missing";

/// Calls `on_row` for each good row of the file, in order, and records the faults of all others.
///
/// # Errors
/// The file cannot be read.
pub fn each(
    input: &Input,
    faults: &mut Faults,
    mut on_row: impl FnMut(u64, Row<'_>, &mut Faults) -> Next,
) -> io::Result<()> {
    match input.format {
        DataFormat::Jsonl => each_line(input, faults, |line, text, faults| match serde_json::from_str(text) {
            Ok(json::Row(Value::Object(object))) => on_row(line, Row::Json(&object), faults),
            Ok(json::Row(other)) => {
                faults.push(line, None, format!("expected a JSON object, found {}", kind(&other)));
                Next::Go
            }
            Err(error) => {
                faults.push(line, None, json_fault(&error));
                Next::Go
            }
        }),
        DataFormat::Text => each_line(input, faults, |line, text, faults| on_row(line, Row::Line(text), faults)),
        DataFormat::Csv => {
            each_record(input, faults, |line, header, record, faults| on_row(line, Row::Csv { header, record }, faults))
        }
        DataFormat::Zip | DataFormat::Tar => {
            faults.push(1, None, ARCHIVE);
            Ok(())
        }
    }
}

/// Calls `on_line` for each line that is not blank.
fn each_line(
    input: &Input,
    faults: &mut Faults,
    mut on_line: impl FnMut(u64, &str, &mut Faults) -> Next,
) -> io::Result<()> {
    let mut lines = Lines::open(&input.path, MAX_LINE_BYTES)?;
    while let Some((number, line)) = lines.next()? {
        input.bounds.check()?;
        match line {
            Line::TooLong => faults.push(number, None, too_long()),
            Line::NotUtf8 => faults.push(number, None, NOT_UTF8),
            Line::Text(text) if text.trim().is_empty() => {}
            Line::Text(text) => {
                if on_line(number, text, faults) == Next::Stop {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Calls `on_row` with the header and each row that has as many fields as it, and records the faults of all others.
fn each_record(
    input: &Input,
    faults: &mut Faults,
    mut on_row: impl FnMut(u64, &csv::StringRecord, &csv::StringRecord, &mut Faults) -> Next,
) -> io::Result<()> {
    let (limited, row_bytes) = RowLimit::open(&input.path, MAX_LINE_BYTES)?;
    // The reader has taken a row when it has seen the carriage return, and counts the line when it sees the line feed.
    let lag = u64::from(first_line_ends_in_crlf(&input.path)?);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(limited);
    let mut header: Option<csv::StringRecord> = None;
    let mut bytes = csv::ByteRecord::new();
    loop {
        input.bounds.check()?;
        row_bytes.start_row();
        let start = reader.position().line() + if header.is_some() { lag } else { 0 };
        match reader.read_byte_record(&mut bytes) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    faults.push(start, None, too_long());
                    return Ok(());
                }
                csv::ErrorKind::Io(error) => return Err(error),
                other => {
                    faults.push(start, None, format!("not readable as CSV: {other:?}"));
                    return Ok(());
                }
            },
        }
        if header.is_none() && bytes.len() > MAX_KEYS {
            faults.push(start, None, format!("has {} columns where at most {MAX_KEYS} are allowed", bytes.len()));
            return Ok(());
        }
        let row = match csv::StringRecord::from_byte_record(bytes) {
            Ok(row) => row,
            Err(error) => {
                faults.push(start, None, NOT_UTF8);
                if header.is_none() {
                    return Ok(());
                }
                bytes = error.into_byte_record();
                continue;
            }
        };
        let Some(columns) = &header else {
            header = Some(row);
            bytes = csv::ByteRecord::new();
            continue;
        };
        if row.len() != columns.len() {
            let message = format!("has {} fields where the header has {}", row.len(), columns.len());
            faults.push(start, None, message);
        } else if on_row(start, columns, &row, faults) == Next::Stop {
            return Ok(());
        }
        bytes = row.into_byte_record();
    }
}

/// The names in `there`, as a message shows them.
pub(super) fn listed(there: &[&str]) -> String {
    const MOST: usize = 20;
    let shown: Vec<String> = there.iter().take(MOST).map(|name| format!("\"{}\"", clipped(name))).collect();
    let more = if there.len() > MOST { ", …" } else { "" };
    if shown.is_empty() { "none".to_owned() } else { format!("{}{more}", shown.join(", ")) }
}

const NOT_UTF8: &str = "is not valid UTF-8";

fn too_long() -> String {
    format!("is longer than {} MiB", MAX_LINE_BYTES >> 20)
}

fn json_fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    if error.is_data() {
        return format!("has {what}");
    }
    format!("is not valid JSON (column {}: {what})", error.column())
}

/// What a JSON value is, as a message says it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The first row of a file that is a row at all, if `look` finds something in it.
///
/// # Errors
/// The file cannot be read.
pub fn of_first<T>(input: &Input, mut look: impl FnMut(Row<'_>) -> Option<T>) -> io::Result<Option<T>> {
    let mut found = None;
    each(input, &mut Faults::default(), |_, row, _| {
        found = look(row);
        Next::Stop
    })?;
    Ok(found)
}
