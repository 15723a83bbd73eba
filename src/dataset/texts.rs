//! Plain texts, for domain adaptation: one per line of a text file, or a field of JSONL and CSV rows.

use std::io;

use super::columns::{self, Names, TEXT_COLUMN, no_text};
use super::entries::{Entries, Ledger, Step, good, settled};
use super::kind::{Kind, Watch};
use super::row::{LINE_FIELD, Row};
use super::tally::Tally;
use super::{Input, rows};
use crate::domain::report::{Contents, DataFormat, ExamplesReport, Fault};

/// One text, and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub line: u64,
    pub text: String,
}

/// The texts of a file.
///
/// # Errors
/// The file cannot be opened.
pub fn read(input: &Input) -> io::Result<Entries<Text>> {
    let column = if input.format == DataFormat::Text { LINE_FIELD } else { columns::text(&input.options) }.to_owned();
    let settle = move |rows: &[&Row]| {
        let names = Names::of(rows);
        let there = names.listed();
        if there.contains(&column.as_str()) {
            let notes = columns::not_read(rows, &there, &[column.as_str()]);
            return Ok((column, notes));
        }
        Err(Fault::new(names.line(), Some("text"), no_text(&column, &there, names.are_headed())))
    };
    Ok(settled(rows::read(input)?, Row::weight, settle, |column, row| {
        Ok(match row.text(column) {
            Ok(text) => Step::good(Text { line: row.line, text }),
            Err(message) => Step::faulty(row.fault(column, message)),
        })
    }))
}

/// Plain texts.
pub struct Texts;

impl Kind for Texts {
    fn fits(&self, format: DataFormat, there: &[&str]) -> Result<(), String> {
        rows::fit(format)?;
        if there.contains(&TEXT_COLUMN) { Ok(()) } else { Err(no_text(TEXT_COLUMN, there, false)) }
    }

    fn report(&self, input: &Input, watch: &mut dyn Watch) -> io::Result<ExamplesReport> {
        let (mut tally, mut ledger) = (Tally::new(watch), Ledger::default());
        for text in good(read(input)?, &mut ledger) {
            let Text { line, text } = text?;
            tally.add(line, &[&text], None, &[], None);
        }
        Ok(tally.report(ledger, |_, text_lengths| Contents::Texts { text_lengths }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Input, Ledger, good, read};
    use crate::domain::report::DataFormat;

    #[test]
    fn texts_come_from_lines_fields_and_columns() {
        for (bytes, format, column, expected) in [
            (&b"one\n\n two \n"[..], DataFormat::Text, "body", &["1 one", "3  two "][..]),
            (b"{\"text\":\"a\",\"id\":1}\n{\"id\":2}\n", DataFormat::Jsonl, "text", &["1 a"]),
            (b"id,body\n1,x\n2,\"y\nz\"\n", DataFormat::Csv, "body", &["2 x", "3 y\nz"]),
            (b"id,body\n1,x\n", DataFormat::Csv, "text", &[]),
            (b"{\"id\":1}\n{\"text\":\"a\"}\n", DataFormat::Jsonl, "text", &["2 a"]),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let mut ledger = Ledger::default();
            let mut input = Input::new(file.path(), format);
            input.options.text_column = Some(column.to_owned());
            let texts = read(&input).unwrap();
            let texts = good(texts, &mut ledger).map(Result::unwrap);
            let found: Vec<String> = texts.map(|text| format!("{} {}", text.line, text.text)).collect();
            assert_eq!(found, expected);
            assert_eq!(ledger.faults.count, u64::from(format != DataFormat::Text && column == "text"));
        }
    }
}
