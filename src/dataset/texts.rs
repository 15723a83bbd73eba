//! Plain texts, for domain adaptation: one per line of a text file, or a field of JSONL and CSV rows.

use std::io;

use super::Input;
use super::labelled::{TEXT_COLUMN, no_text};
use super::rows::{self, LINE_FIELD, Next};
use crate::domain::report::{DataFormat, Faults};

/// One text, and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub line: u64,
    pub text: String,
}

/// Calls `on_text` for each good row of the file, in order, and records the faults of all others. `column` is the field
/// that holds the text; a plain text file has no fields.
///
/// # Errors
/// The file cannot be read.
pub fn read(input: &Input, column: &str, faults: &mut Faults, mut on_text: impl FnMut(Text)) -> io::Result<()> {
    let column = if input.format == DataFormat::Text { LINE_FIELD } else { column };
    rows::each(input, faults, |line, row, faults| {
        let there = row.names();
        if input.format == DataFormat::Csv && !there.contains(&column) {
            faults.push(1, Some("text"), no_text(column, &there));
            return Next::Stop;
        }
        match row.text(column) {
            Ok(text) => on_text(Text { line, text }),
            Err(message) => faults.push(line, Some(column), message),
        }
        Next::Go
    })
}

/// Whether one of these fields is the text.
///
/// # Errors
/// None is.
pub(super) fn fits(there: &[&str]) -> Result<(), String> {
    if there.contains(&TEXT_COLUMN) { Ok(()) } else { Err(no_text(TEXT_COLUMN, there)) }
}

#[cfg(test)]
mod tests {
    use super::{Input, read};
    use crate::domain::report::{DataFormat, Faults};

    #[test]
    fn texts_come_from_lines_fields_and_columns() {
        for (bytes, format, column, expected) in [
            (&b"one\n\n two \n"[..], DataFormat::Text, "body", &["1 one", "3  two "][..]),
            (b"{\"text\":\"a\",\"id\":1}\n{\"id\":2}\n", DataFormat::Jsonl, "text", &["1 a"]),
            (b"id,body\n1,x\n2,\"y\nz\"\n", DataFormat::Csv, "body", &["2 x", "3 y\nz"]),
            (b"id,body\n1,x\n", DataFormat::Csv, "text", &[]),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let (mut found, mut faults) = (Vec::new(), Faults::default());
            let input = Input::new(file.path(), format);
            read(&input, column, &mut faults, |text| found.push(format!("{} {}", text.line, text.text))).unwrap();
            assert_eq!(found, expected);
            assert_eq!(faults.count, u64::from(format != DataFormat::Text && column == "text"));
        }
    }
}
