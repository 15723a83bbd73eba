//! Bounded reading: no line, however long, is held in memory beyond the cap.

use std::io::{self, BufRead, Read};
use std::path::Path;

use super::source::{self, Source};

/// A line without its end.
pub(super) enum Line {
    Text(String),
    NotUtf8,
    TooLong,
}

/// The lines of a file with their numbers, from 1, one at a time. Lines end in a line feed, with or without a carriage return
/// before it; in a file that has more carriage returns of their own than line feeds, as old Macintosh programs write, in those.
pub(super) struct Lines {
    reader: Source,
    longest: usize,
    end: u8,
    number: u64,
}

impl Iterator for Lines {
    type Item = io::Result<(u64, Line)>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        match self.read(&mut bytes) {
            Ok(false) => None,
            Ok(true) => {
                let line = if self.is_too_long(&bytes) {
                    Line::TooLong
                } else {
                    bytes.truncate(content(&bytes).len());
                    String::from_utf8(bytes).map_or(Line::NotUtf8, Line::Text)
                };
                Some(Ok((self.number, line)))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl Lines {
    pub(super) fn open(path: &Path, longest: usize) -> io::Result<Self> {
        let mut reader = source::open(path)?;
        // What is wrong with the bytes is told by the first line.
        let head = reader.fill_buf().unwrap_or_default();
        let count = |end: u8| head.split(|&byte| byte == end).count() - 1;
        let pairs = head.windows(2).filter(|pair| pair == b"\r\n").count();
        let (feeds, returns) = (count(b'\n'), count(b'\r') - pairs);
        let end = if returns > feeds { b'\r' } else { b'\n' };
        Ok(Self { reader, longest, end, number: 0 })
    }

    /// The number of the line that was read last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Appends the next line with its end to `bytes`; false at the end of the file. Of a line that is too long it appends a part.
    pub(super) fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let before = bytes.len();
        let limit = self.longest as u64 + 2;
        if (&mut self.reader).take(limit).read_until(self.end, bytes)? == 0 {
            return Ok(false);
        }
        self.number += 1;
        if !bytes.ends_with(&[self.end]) && self.is_too_long(&bytes[before..]) {
            self.skip_line()?;
        }
        Ok(true)
    }

    /// Whether a line, with its end, is longer than any may be.
    pub(super) fn is_too_long(&self, line: &[u8]) -> bool {
        content(line).len() > self.longest
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            if let Some(end) = buffer.iter().position(|&byte| byte == self.end) {
                self.reader.consume(end + 1);
                return Ok(());
            }
            let read = buffer.len();
            self.reader.consume(read);
        }
    }
}

/// A line without its end.
pub(super) fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::{Line, Lines};

    fn lines(bytes: &[u8], longest: usize) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let shown = |(number, line)| match line {
            Line::Text(text) => format!("{number}:{text}"),
            Line::NotUtf8 => format!("{number}!utf8"),
            Line::TooLong => format!("{number}!long"),
        };
        Lines::open(file.path(), longest).unwrap().map(|line| shown(line.unwrap())).collect()
    }

    #[test]
    fn line_ends_and_byte_order_mark_are_not_part_of_a_line() {
        assert_eq!(lines(b"\xEF\xBB\xBFa\r\nb\n\nc", 10), ["1:a", "2:b", "3:", "4:c"]);
        assert!(lines(b"", 10).is_empty());
    }

    #[test]
    fn a_file_of_carriage_returns_alone_has_lines_too() {
        assert_eq!(lines(b"a\rb\r\rc", 10), ["1:a", "2:b", "3:", "4:c"]);
        assert_eq!(lines(b"a\rb\nc", 10), ["1:a\rb", "2:c"]);
    }

    #[test]
    fn a_long_line_is_passed_over_and_the_next_one_read() {
        assert_eq!(lines(b"12345\n123456\n1234567890123\nab\n", 5), ["1:12345", "2!long", "3!long", "4:ab"]);
        assert_eq!(lines(b"1234567", 5), ["1!long"]);
        assert_eq!(lines(b"12345\r\n", 5), ["1:12345"]);
    }

    #[test]
    fn invalid_utf8_spoils_its_own_line_only() {
        assert_eq!(lines(b"a\n\xFF\xFE\nb\n", 10), ["1:a", "2!utf8", "3:b"]);
    }
}
