//! The rows of files of delimiter-separated values: as many fields in each as the header has, and no row held beyond the cap.

mod dialect;
mod split;

use std::io;
use std::rc::Rc;

use super::entries::{Ending, Entry};
use super::json::MAX_KEYS;
use super::lines::{Lines, content};
use super::record::Record;
use super::row::{Fields, NOT_UTF8, Row, too_long};
use super::source::damage;
use super::{Bounds, Input, MAX_LINE_BYTES};
use crate::domain::report::{self, Fault, Note, Sightings};

use dialect::Dialect;
pub(super) use dialect::guess;
use split::Splitter;

/// A field of so many whole lines that look like rows is likely one whose quotation mark was not closed.
const SWALLOWED_ROWS: usize = 3;

/// The rows behind the header, one at a time.
pub(super) struct Rows {
    lines: Lines,
    splitter: Splitter,
    dialect: Dialect,
    bounds: Bounds,
    header: Option<Rc<Record>>,
    counts: report::Lines,
    /// Lines of fields that look like several rows.
    swallowed: Sightings,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Reading,
    /// Everything is read but for the last word.
    Ended,
    Over,
}

/// What stands in a file next.
enum Next {
    Record { line: u64, record: Record },
    Faulty(Fault),
    Broken(Fault),
    End,
}

impl Iterator for Rows {
    type Item = io::Result<Entry<Row>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.state {
            State::Reading => Some(self.row()),
            State::Ended => {
                self.state = State::Over;
                Some(Ok(Entry::End(Box::new(self.ending()))))
            }
            State::Over => None,
        }
    }
}

impl Rows {
    pub(super) fn open(input: &Input) -> io::Result<Self> {
        let dialect = guess(&input.path, &input.options)?.dialect;
        Ok(Self {
            lines: Lines::open(&input.path, MAX_LINE_BYTES)?,
            splitter: Splitter::new(dialect.delimiter.byte(), dialect.quoting),
            dialect,
            bounds: input.bounds.clone(),
            header: None,
            counts: report::Lines::default(),
            swallowed: Sightings::default(),
            state: State::Reading,
        })
    }

    fn row(&mut self) -> io::Result<Entry<Row>> {
        loop {
            let (line, record) = match self.record()? {
                Next::Record { line, record } => (line, record),
                Next::Faulty(fault) => return Ok(Entry::Faulty(vec![fault])),
                Next::Broken(fault) => {
                    self.state = State::Over;
                    return Ok(Entry::Broken(fault));
                }
                Next::End => {
                    self.state = State::Over;
                    return Ok(Entry::End(Box::new(self.ending())));
                }
            };
            let Some(header) = &self.header else {
                if record.len() > MAX_KEYS {
                    let message = format!("has {} columns where at most {MAX_KEYS} are allowed", record.len());
                    self.state = State::Over;
                    return Ok(Entry::Broken(Fault::new(line, None, message)));
                }
                self.counts.header = self.lines.number() - self.counts.blank;
                self.header = Some(Rc::new(record));
                continue;
            };
            self.counts.continued += self.lines.number() - line;
            if record.is_blank() {
                return Ok(Entry::Skipped("empty row".into()));
            }
            if is_repeated(header, &record) {
                return Ok(Entry::Skipped("repeated header".into()));
            }
            if is_rearranged(header, &record) {
                let message = "the header stands here again, with its columns in another order, so that the rows behind it \
                               would be read wrongly; bring the parts into one order before you put them together";
                self.state = State::Over;
                return Ok(Entry::Broken(Fault::new(line, None, message)));
            }
            if record.len() != header.len() {
                let message = format!("has {} fields where the header has {}", record.len(), header.len());
                return Ok(Entry::fault(line, message));
            }
            if self.lines.number() - line > SWALLOWED_ROWS as u64 && self.looks_like_rows(&record) {
                self.swallowed.add(line);
            }
            return Ok(Entry::Good(Row { line, fields: Fields::Csv { header: Rc::clone(header), record } }));
        }
    }

    /// The next record, be it the header, and the line on which it starts.
    fn record(&mut self) -> io::Result<Next> {
        self.bounds.check()?;
        let (mut start, mut bytes) = (0, Vec::new());
        loop {
            bytes.clear();
            match self.lines.read(&mut bytes) {
                Ok(true) => {}
                Ok(false) if self.splitter.is_open() => {
                    self.state = State::Ended;
                    self.counts.continued += self.lines.number() - start;
                    return Ok(Next::Faulty(self.unclosed(start)));
                }
                Ok(false) => return Ok(Next::End),
                Err(error) => return damage(&error).map(|what| self.broken(what)).ok_or(error),
            }
            let number = self.lines.number();
            if !self.splitter.is_open() {
                if number == 1 && self.dialect.has_separator_line {
                    continue;
                }
                if content(&bytes).is_empty() {
                    self.counts.blank += 1;
                    continue;
                }
                start = number;
            }
            if self.lines.is_too_long(&bytes) || self.splitter.bytes() + bytes.len() > MAX_LINE_BYTES {
                return Ok(Next::Broken(Fault::new(start, None, too_long())));
            }
            match self.splitter.line(&bytes, number) {
                Ok(false) => {}
                Ok(true) => {
                    return Ok(match self.splitter.take() {
                        Some(record) => Next::Record { line: start, record },
                        None if self.header.is_none() => self.broken(NOT_UTF8.to_owned()),
                        None => {
                            self.counts.continued += number - start;
                            Next::Faulty(Fault::new(start, None, NOT_UTF8))
                        }
                    });
                }
                Err(fault) => {
                    self.splitter.take();
                    self.counts.continued += number - start;
                    return Ok(if self.header.is_none() { Next::Broken(fault) } else { Next::Faulty(fault) });
                }
            }
        }
    }

    fn broken(&self, message: String) -> Next {
        Next::Broken(Fault::new(self.lines.number().max(1), None, message))
    }

    fn unclosed(&self, start: u64) -> Fault {
        let behind = self.lines.number() - start;
        let message = format!(
            "the quotation mark that opens a field here is never closed, so the {behind} lines behind it would all be one \
             text; close it, or write it twice (\"\") in a quoted field where it belongs to the text"
        );
        Fault::new(self.splitter.opened, None, message)
    }

    /// Whether a field holds whole lines that each have as many delimiters as a row.
    fn looks_like_rows(&self, record: &Record) -> bool {
        let delimiters = record.len() - 1;
        let delimiter = char::from(self.dialect.delimiter.byte());
        delimiters > 0
            && record.iter().any(|field| {
                let lines: Vec<&str> = field.lines().collect();
                let inner = lines.get(1..lines.len().saturating_sub(1)).unwrap_or_default();
                let is_row = |line: &&str| line.matches(delimiter).count() == delimiters;
                inner.len() >= SWALLOWED_ROWS - 1 && inner.iter().all(is_row)
            })
    }

    /// The last word on the file.
    fn ending(&self) -> Ending {
        let mut notes = Vec::new();
        let odd = self.splitter.oddities;
        if odd.quotes_behind_space > 0 {
            let message = format!(
                "{} fields begin with white space and a quotation mark, which quotes nothing there: it is read as part of \
                 the text. Remove the white space.",
                odd.quotes_behind_space
            );
            notes.push(Note::warning("quotes_behind_space", message));
        }
        if odd.bare_quotes > odd.quotes_behind_space {
            let count = odd.bare_quotes - odd.quotes_behind_space;
            let message =
                format!("{count} fields hold a quotation mark without being quoted; it is read as it stands.");
            notes.push(Note::info("bare_quotes", message));
        }
        if odd.kept_quotes > 0 {
            let message = format!(
                "{} fields begin and end with a quotation mark, which is read as part of them: other fields of this file show \
                 that marks quote nothing in it.",
                odd.kept_quotes
            );
            notes.push(Note::warning("quotes_kept", message));
        }
        if self.swallowed.count > 0 {
            let message = format!(
                "{} quoted fields hold lines that look like rows: a quotation mark may not have been closed.",
                self.swallowed.count
            );
            notes.push(Note::warning("rows_in_a_field", message).on(&self.swallowed));
        }
        Ending { lines: Some(report::Lines { lines: self.lines.number(), ..self.counts }), notes }
    }
}

/// The fields of a row without the byte order mark that begins a part which was put behind another.
fn unmarked(record: &Record) -> impl Iterator<Item = &str> {
    record
        .iter()
        .enumerate()
        .map(|(place, field)| if place == 0 { field.trim_start_matches('\u{FEFF}') } else { field })
}

/// Whether a row is the header once more, as in files that were put together.
fn is_repeated(header: &Record, record: &Record) -> bool {
    header.iter().eq(unmarked(record))
}

/// Whether a row is the header once more with its columns in another order.
fn is_rearranged(header: &Record, record: &Record) -> bool {
    fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names
    }
    // Hardly any row begins so, and the others are not sorted.
    let begins_so = unmarked(record).next().is_some_and(|first| header.iter().any(|name| name == first));
    begins_so && header.len() > 1 && sorted(header.iter()) == sorted(unmarked(record))
}
