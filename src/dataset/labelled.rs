//! Labelled texts from JSONL and CSV.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::MAX_LINE_BYTES;
use super::json::{DUPLICATE_KEY, Strict};
use super::lines::{Line, Lines, RowLimit, first_line_ends_in_crlf};
use crate::domain::report::{DataFormat, Faults};

/// Keys and columns that hold the label, unless the job names one; the first that is there counts.
pub const LABEL_COLUMNS: [&str; 3] = ["label", "category", "class"];

/// The key or column that holds the text, unless the job names one.
pub const TEXT_COLUMN: &str = "text";

/// The longest label, in characters.
const LABEL_CHARS: usize = 256;

/// One labelled text, and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub line: u64,
    pub text: String,
    pub label: String,
}

/// Which keys or columns hold text and label; None means the usual ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns<'a> {
    pub text: Option<&'a str>,
    pub label: Option<&'a str>,
}

impl Columns<'_> {
    /// The names of the text and label columns among those that are there.
    fn find(&self, there: &[&str]) -> Result<(String, String), (&'static str, String)> {
        let text = self.text.unwrap_or(TEXT_COLUMN);
        if !there.contains(&text) {
            return Err(("text", format!("there is no text column \"{text}\"; found {}", listed(there))));
        }
        let label = match self.label {
            Some(name) => there.contains(&name).then_some(name),
            None => LABEL_COLUMNS.into_iter().find(|name| there.contains(name)),
        };
        if let Some(label) = label {
            Ok((text.to_owned(), label.to_owned()))
        } else {
            let wanted = self.label.map_or_else(|| listed(&LABEL_COLUMNS), |name| format!("\"{name}\""));
            Err(("label", format!("there is no label column ({wanted}); found {}", listed(there))))
        }
    }
}

fn listed(names: &[&str]) -> String {
    const MOST: usize = 20;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| format!("\"{}\"", clipped(name))).collect();
    let more = if names.len() > MOST { ", …" } else { "" };
    if shown.is_empty() { "none".to_owned() } else { format!("{}{more}", shown.join(", ")) }
}

/// A text from a data file as a message shows it: short, whatever the file holds.
pub(super) fn clipped(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST { text.to_owned() } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

/// Calls `on_example` for each good row of the file, in order, and records the faults of all others.
///
/// # Errors
/// The file cannot be read.
pub fn read(
    path: &Path,
    format: DataFormat,
    columns: Columns<'_>,
    faults: &mut Faults,
    on_example: impl FnMut(Example),
) -> io::Result<()> {
    match format {
        DataFormat::Jsonl => read_jsonl(path, columns, faults, on_example),
        DataFormat::Csv => read_csv(path, columns, faults, on_example),
    }
}

fn read_jsonl(
    path: &Path,
    columns: Columns<'_>,
    faults: &mut Faults,
    mut on_example: impl FnMut(Example),
) -> io::Result<()> {
    let mut names = None;
    each_object(path, faults, |line, object, faults| {
        if names.is_none() {
            let there: Vec<&str> = object.keys().map(String::as_str).collect();
            match columns.find(&there) {
                Ok(found) => names = Some(found),
                Err((field, message)) => return faults.push(line, Some(field), message),
            }
        }
        let Some((text, label)) = &names else { return };
        let text = json_text(object.get(text));
        let label = json_label(object.get(label));
        keep(line, text, label, faults, &mut on_example);
    })
}

/// Calls `on_object` for each line that is a JSON object and records the faults of all other lines that are not blank.
pub(super) fn each_object(
    path: &Path,
    faults: &mut Faults,
    mut on_object: impl FnMut(u64, &serde_json::Map<String, Value>, &mut Faults),
) -> io::Result<()> {
    let mut lines = Lines::open(path, MAX_LINE_BYTES)?;
    while let Some((number, line)) = lines.next()? {
        match line {
            Line::TooLong => faults.push(number, None, too_long()),
            Line::NotUtf8 => faults.push(number, None, NOT_UTF8),
            Line::Text(text) if text.trim().is_empty() => {}
            Line::Text(text) => match serde_json::from_str(text) {
                Ok(Strict(Value::Object(object))) => on_object(number, &object, faults),
                Ok(Strict(other)) => {
                    faults.push(number, None, format!("expected a JSON object, found {}", kind(&other)));
                }
                Err(error) => faults.push(number, None, json_fault(&error)),
            },
        }
    }
    Ok(())
}

fn read_csv(
    path: &Path,
    columns: Columns<'_>,
    faults: &mut Faults,
    mut on_example: impl FnMut(Example),
) -> io::Result<()> {
    let mut places = None;
    each_row(path, faults, |line, header, row, faults| {
        if places.is_none() {
            let there: Vec<&str> = header.iter().collect();
            match columns.find(&there) {
                Ok((text, label)) => {
                    let twice = [&text, &label].into_iter().find(|name| there.iter().filter(|n| n == name).count() > 1);
                    if let Some(name) = twice {
                        faults.push(1, Some(name), "stands more than once in the header");
                        return Next::Stop;
                    }
                    let place = |name: &str| there.iter().position(|&other| other == name).unwrap_or_default();
                    places = Some((place(&text), place(&label)));
                }
                Err((field, message)) => {
                    faults.push(1, Some(field), message);
                    return Next::Stop;
                }
            }
        }
        if let Some((text, label)) = places {
            let field = |at: usize| row.get(at).unwrap_or_default().to_owned();
            keep(line, Ok(field(text)), Ok(field(label)), faults, &mut on_example);
        }
        Next::Go
    })
}

/// Whether to read on.
#[derive(PartialEq, Eq)]
pub(super) enum Next {
    Go,
    Stop,
}

/// Calls `on_row` with the header and each row that has as many fields as it, and records the faults of all others.
pub(super) fn each_row(
    path: &Path,
    faults: &mut Faults,
    mut on_row: impl FnMut(u64, &csv::StringRecord, &csv::StringRecord, &mut Faults) -> Next,
) -> io::Result<()> {
    let (limited, row_bytes) = RowLimit::open(path, MAX_LINE_BYTES)?;
    // The reader has taken a row when it has seen the carriage return, and counts the line when it sees the line feed.
    let lag = u64::from(first_line_ends_in_crlf(path)?);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(limited);
    let mut header: Option<csv::StringRecord> = None;
    let mut bytes = csv::ByteRecord::new();
    loop {
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
        let Ok(row) = csv::StringRecord::from_byte_record(bytes.clone()) else {
            faults.push(start, None, NOT_UTF8);
            if header.is_none() {
                return Ok(());
            }
            continue;
        };
        let Some(columns) = &header else {
            header = Some(row);
            continue;
        };
        if row.len() != columns.len() {
            let message = format!("has {} fields where the header has {}", row.len(), columns.len());
            faults.push(start, None, message);
        } else if on_row(start, columns, &row, faults) == Next::Stop {
            return Ok(());
        }
    }
}

/// Hands out an example, or records what is wrong with its parts.
fn keep(
    line: u64,
    text: Result<String, String>,
    label: Result<String, String>,
    faults: &mut Faults,
    on_example: &mut impl FnMut(Example),
) {
    let text = text.and_then(|text| if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text) });
    let label = label.and_then(|label| {
        if label.trim().is_empty() {
            Err("is empty".to_owned())
        } else if label.contains('\0') {
            Err("holds a NUL character".to_owned())
        } else if label.chars().count() > LABEL_CHARS {
            Err(format!("is longer than {LABEL_CHARS} characters"))
        } else {
            Ok(label)
        }
    });
    match (text, label) {
        (Ok(text), Ok(label)) => on_example(Example { line, text, label }),
        (text, label) => {
            for (field, part) in [("text", text), ("label", label)] {
                if let Err(message) = part {
                    faults.push(line, Some(field), message);
                }
            }
        }
    }
}

fn json_text(value: Option<&Value>) -> Result<String, String> {
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        None | Some(Value::Null) => Err("is missing".to_owned()),
        Some(other) => Err(format!("must be a string, not {}", kind(other))),
    }
}

fn json_label(value: Option<&Value>) -> Result<String, String> {
    match value {
        Some(Value::String(label)) => Ok(label.clone()),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        Some(Value::Bool(flag)) => Ok(flag.to_string()),
        None | Some(Value::Null) => Err("is missing".to_owned()),
        Some(other) => Err(format!("must be a string, an integer or a boolean, not {}", kind(other))),
    }
}

const NOT_UTF8: &str = "is not valid UTF-8";

fn too_long() -> String {
    format!("is longer than {} MiB", MAX_LINE_BYTES >> 20)
}

fn json_fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    if what.starts_with(DUPLICATE_KEY) {
        return format!("has a {what}");
    }
    format!("is not valid JSON (column {}: {what})", error.column())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::{Columns, Example, read};
    use crate::domain::report::{DataFormat, Faults};

    fn read_bytes(bytes: &[u8], format: DataFormat, columns: Columns<'_>) -> (Vec<Example>, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (mut examples, mut faults) = (Vec::new(), Faults::default());
        read(file.path(), format, columns, &mut faults, |example| examples.push(example)).unwrap();
        let faults = faults
            .listed
            .into_iter()
            .map(|fault| format!("{} {} {}", fault.line, fault.field.unwrap_or_default(), fault.message))
            .collect();
        (examples, faults)
    }

    fn example(line: u64, text: &str, label: &str) -> Example {
        Example { line, text: text.to_owned(), label: label.to_owned() }
    }

    #[test]
    fn jsonl_rows_become_examples() {
        let bytes = b"{\"text\": \"a\", \"label\": \"x\"}\n\n{\"label\": 3, \"text\": \"b\", \"id\": 7}\n";
        let (examples, faults) = read_bytes(bytes, DataFormat::Jsonl, Columns::default());
        assert_eq!(examples, [example(1, "a", "x"), example(3, "b", "3")]);
        assert!(faults.is_empty());
    }

    #[test]
    fn csv_rows_may_span_lines_and_keep_their_first_line_number() {
        let bytes = b"\xEF\xBB\xBFid,text,category\r\n1,\"two\nlines, one row\",x\r\n2,\"a \"\"quote\"\"\",y\r\n";
        let (examples, faults) = read_bytes(bytes, DataFormat::Csv, Columns::default());
        assert_eq!(examples, [example(2, "two\nlines, one row", "x"), example(4, "a \"quote\"", "y")]);
        assert!(faults.is_empty());
    }

    #[test]
    fn columns_can_be_named() {
        let columns = Columns { text: Some("body"), label: Some("topic") };
        let (examples, _) = read_bytes(b"topic,body,label\nx,hello,no\n", DataFormat::Csv, columns);
        assert_eq!(examples, [example(2, "hello", "x")]);
        let (_, faults) = read_bytes(b"topic,text\nx,hello\n", DataFormat::Csv, columns);
        assert_eq!(faults, ["1 text there is no text column \"body\"; found \"topic\", \"text\""]);
    }

    #[test]
    fn every_fault_is_reported_with_line_and_field() {
        let bytes = b"{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": 5}\n[1]\n{\"text\": \"a\",\n{\"text\": \" \", \"label\": {}}\n\xFF\n";
        let (examples, faults) = read_bytes(bytes, DataFormat::Jsonl, Columns::default());
        assert_eq!(examples.len(), 1);
        assert_eq!(
            faults,
            [
                "2 text must be a string, not a number",
                "2 label is missing",
                "3  expected a JSON object, found an array",
                "4  is not valid JSON (column 13: EOF while parsing a value)",
                "5 text is empty",
                "5 label must be a string, an integer or a boolean, not an object",
                "6  is not valid UTF-8",
            ]
        );
        let (_, faults) = read_bytes(b"text,label\na\nb,,c\nd,\n\xFF,x\n", DataFormat::Csv, Columns::default());
        assert_eq!(
            faults,
            [
                "2  has 1 fields where the header has 2",
                "3  has 3 fields where the header has 2",
                "4 label is empty",
                "5  is not valid UTF-8",
            ]
        );
    }

    #[test]
    fn a_missing_label_column_is_one_fault_that_lists_what_is_there() {
        let (_, faults) = read_bytes(b"text,intent\na,b\nc,d\n", DataFormat::Csv, Columns::default());
        assert_eq!(
            faults,
            ["1 label there is no label column (\"label\", \"category\", \"class\"); found \"text\", \"intent\""]
        );
    }

    #[test]
    fn what_stands_twice_is_a_fault() {
        let (_, faults) = read_bytes(
            b"{\"text\": \"a\", \"text\": \"b\", \"label\": \"x\"}\n",
            DataFormat::Jsonl,
            Columns::default(),
        );
        assert_eq!(faults, ["1  has a duplicate key \"text\""]);
        let (_, faults) = read_bytes(b"text,label,text\na,b,c\n", DataFormat::Csv, Columns::default());
        assert_eq!(faults, ["1 text stands more than once in the header"]);
    }

    #[test]
    fn an_endless_row_is_cut_off_without_being_held() {
        let mut bytes = b"text,label\nok,x\n\"".to_vec();
        bytes.resize(bytes.len() + super::MAX_LINE_BYTES + (1 << 20), b'a');
        let (examples, faults) = read_bytes(&bytes, DataFormat::Csv, Columns::default());
        assert_eq!((examples.len(), faults), (1, vec!["3  is longer than 16 MiB".to_owned()]));
    }

    #[test]
    fn deep_nesting_is_a_fault_and_no_crash() {
        let bytes = format!("{{\"text\": {}{}}}\n", "[".repeat(100_000), "]".repeat(100_000));
        let (_, faults) = read_bytes(bytes.as_bytes(), DataFormat::Jsonl, Columns::default());
        assert!(faults[0].contains("recursion limit"), "{faults:?}");
    }
}
