//! One record of delimiter-separated values, as RFC 4180 has it, and nothing forgiven that readers take in different ways:
//! the `csv` crate, like most, ends a quoted field at the end of the file and goes on behind a closing quotation mark.

use crate::dataset::lines::content;
use crate::dataset::record::Record;
use crate::domain::clip::clipped_to;
use crate::domain::report::Fault;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first character of a field.
    Start,
    Plain,
    Quoted,
    /// Behind a quotation mark in a quoted field, which closes it unless another one follows.
    Closed,
}

/// What is odd about a record that can be read in one way only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Oddities {
    /// Fields that are not quoted and hold a quotation mark.
    pub(super) bare_quotes: u64,
    /// Those of them that have it behind white space at their start: it does not quote.
    pub(super) quotes_behind_space: u64,
    /// Fields in quotation marks where these do not quote.
    pub(super) kept_quotes: u64,
}

/// Takes the lines of a record, and splits them.
pub(super) struct Splitter {
    delimiter: u8,
    /// Whether quotation marks quote.
    quoting: bool,
    state: State,
    field: usize,
    text: Vec<u8>,
    ends: Vec<usize>,
    /// The line on which the field that is quoted now began.
    pub(super) opened: u64,
    pub(super) oddities: Oddities,
}

impl Splitter {
    pub(super) fn new(delimiter: u8, quoting: bool) -> Self {
        let (text, ends, oddities) = (Vec::new(), Vec::new(), Oddities::default());
        Self { delimiter, quoting, state: State::Start, field: 0, text, ends, opened: 0, oddities }
    }

    /// Takes one line with its end; true once the record is complete.
    ///
    /// # Errors
    /// A quotation mark that closes a field is not followed by a delimiter or the end of the line.
    pub(super) fn line(&mut self, line: &[u8], number: u64) -> Result<bool, Fault> {
        let content = content(line);
        if self.state == State::Start && (!self.quoting || !content.contains(&b'"')) {
            self.plain(content);
            return Ok(true);
        }
        for (at, &byte) in content.iter().enumerate() {
            self.state = match (self.state, byte) {
                (State::Quoted, b'"') => State::Closed,
                (State::Quoted, byte) => {
                    self.text.push(byte);
                    State::Quoted
                }
                (State::Closed, b'"') => {
                    self.text.push(b'"');
                    State::Quoted
                }
                (State::Start, b'"') => {
                    self.opened = number;
                    State::Quoted
                }
                (_, byte) if byte == self.delimiter => {
                    self.end_field();
                    State::Start
                }
                (State::Closed, _) => return Err(self.broken(number, &content[at..])),
                (State::Start | State::Plain, byte) => {
                    self.text.push(byte);
                    State::Plain
                }
            };
        }
        if self.state == State::Quoted {
            self.text.extend_from_slice(&line[content.len()..]);
            return Ok(false);
        }
        self.end_field();
        Ok(true)
    }

    /// A line, or what is left of one, in which nothing is quoted.
    fn plain(&mut self, content: &[u8]) {
        let delimiter = self.delimiter;
        for field in content.split(|&byte| byte == delimiter) {
            self.text.extend_from_slice(field);
            self.end_field();
        }
    }

    fn end_field(&mut self) {
        let field = &self.text[self.field..];
        if self.state == State::Plain && field.contains(&b'"') {
            self.oddities.bare_quotes += 1;
            let start = field.iter().find(|byte| !byte.is_ascii_whitespace());
            self.oddities.quotes_behind_space += u64::from(start == Some(&b'"'));
        }
        let is_quoted = field.len() > 1 && field.starts_with(b"\"") && field.ends_with(b"\"");
        self.oddities.kept_quotes += u64::from(!self.quoting && is_quoted);
        self.field = self.text.len();
        self.ends.push(self.field);
        self.state = State::Start;
    }

    fn broken(&self, number: u64, rest: &[u8]) -> Fault {
        let rest = String::from_utf8_lossy(&rest[..rest.len().min(80)]).into_owned();
        let closed = if number == self.opened { String::new() } else { format!(" on line {number}") };
        let message = format!(
            "the quotation mark that opens a field here is closed{closed} before \"{}\"; a mark that belongs to the text is \
             written twice (\"\"), in a field that is quoted",
            clipped_to(&rest, 20)
        );
        Fault::new(self.opened, None, message)
    }

    /// Whether a quoted field is open.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Quoted
    }

    /// Bytes taken so far.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The record, None where it is no UTF-8; and readiness for the next one.
    pub(super) fn take(&mut self) -> Option<Record> {
        let (text, ends) = (std::mem::take(&mut self.text), std::mem::take(&mut self.ends));
        (self.state, self.field) = (State::Start, 0);
        Record::new(text, ends)
    }
}

#[cfg(test)]
mod tests {
    use super::{Oddities, Splitter};

    type Found = (Vec<Vec<String>>, Oddities);

    fn split(delimiter: u8, quoting: bool, text: &str) -> Result<Found, (u64, String)> {
        let mut splitter = Splitter::new(delimiter, quoting);
        let mut records = Vec::new();
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let complete = splitter.line(line.as_bytes(), number as u64 + 1);
            if complete.map_err(|fault| (fault.line, fault.message))? {
                records.push(splitter.take().unwrap().iter().map(str::to_owned).collect());
            }
        }
        assert!(!splitter.is_open());
        Ok((records, splitter.oddities))
    }

    fn fields(text: &str) -> Vec<Vec<String>> {
        split(b',', true, text).unwrap().0
    }

    #[test]
    fn fields_are_split_as_rfc_4180_says() {
        assert_eq!(fields("a,b\r\n,\n\"x,\"\"y\"\"\",\n"), [["a", "b"], ["", ""], ["x,\"y\"", ""]]);
        assert_eq!(fields("\"two\r\nlines\",b\n"), [["two\r\nlines", "b"]]);
        assert_eq!(fields("\"\",\"\"\"\"\n"), [["", "\""]]);
        assert_eq!(fields("a"), [["a"]]);
        assert_eq!(split(b'\t', false, "a\t\"b\n").unwrap().0, [["a", "\"b"]]);
    }

    #[test]
    fn a_quotation_mark_within_a_field_is_a_character_and_counted() {
        let (records, oddities) = split(b',', true, "a 5\" disk,b\nx, \"y\"\n").unwrap();
        assert_eq!(records, [["a 5\" disk", "b"], ["x", " \"y\""]]);
        assert_eq!((oddities.bare_quotes, oddities.quotes_behind_space), (2, 1));
    }

    #[test]
    fn what_follows_a_closed_field_is_a_fault_where_the_field_opened() {
        for (text, line, why) in
            [("\"a\"b,c\n", 1, "before \"b,c\""), ("x,y\n\"a\nb,\"c\"\n", 2, "closed on line 3 before \"c\"")]
        {
            let (found, message) = split(b',', true, text).unwrap_err();
            assert!(found == line && message.contains(why), "{found} {message}");
        }
    }
}
