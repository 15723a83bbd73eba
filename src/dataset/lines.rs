//! Bounded reading: no line or row, however long, is held in memory beyond the cap.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

const BUFFER: usize = 256 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Opens a file behind its UTF-8 byte order mark, if it has one.
fn open(path: &Path) -> io::Result<BufReader<File>> {
    let mut reader = BufReader::with_capacity(BUFFER, File::open(path)?);
    if reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    Ok(reader)
}

/// The first byte that is no white space.
pub(super) fn first_character(path: &Path) -> io::Result<Option<u8>> {
    let mut reader = open(path)?;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        if let Some(&byte) = buffer.iter().find(|byte| !byte.is_ascii_whitespace()) {
            return Ok(Some(byte));
        }
        let read = buffer.len();
        reader.consume(read);
    }
}

/// Whether the first line of a file ends in carriage return and line feed.
pub(super) fn first_line_ends_in_crlf(path: &Path) -> io::Result<bool> {
    let mut reader = open(path)?;
    let mut before = None;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        if let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            return Ok(end.checked_sub(1).map_or(before, |at| buffer.get(at).copied()) == Some(b'\r'));
        }
        before = buffer.last().copied();
        let read = buffer.len();
        reader.consume(read);
    }
}

/// A line without its end.
pub(super) enum Line {
    Text(String),
    NotUtf8,
    TooLong,
}

/// The lines of a file with their numbers, from 1, one at a time.
pub(super) struct Lines {
    reader: BufReader<File>,
    longest: usize,
    number: u64,
}

impl Iterator for Lines {
    type Item = io::Result<(u64, Line)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

impl Lines {
    pub(super) fn open(path: &Path, longest: usize) -> io::Result<Self> {
        Ok(Self { reader: open(path)?, longest, number: 0 })
    }

    fn read(&mut self) -> io::Result<Option<(u64, Line)>> {
        let mut bytes = Vec::new();
        let limit = self.longest as u64 + 2;
        let read = (&mut self.reader).take(limit).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let ended = bytes.ends_with(b"\n");
        if ended {
            bytes.pop();
        }
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
        if bytes.len() > self.longest {
            if !ended {
                self.skip_line()?;
            }
            return Ok(Some((self.number, Line::TooLong)));
        }
        Ok(Some((self.number, String::from_utf8(bytes).map_or(Line::NotUtf8, Line::Text))))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            if let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                self.reader.consume(end + 1);
                return Ok(());
            }
            let read = buffer.len();
            self.reader.consume(read);
        }
    }
}

/// Bytes read since the last row, shared between a [`RowLimit`] and who parses the rows.
#[derive(Clone, Default)]
pub(super) struct RowBytes(Rc<Cell<usize>>);

impl RowBytes {
    pub(super) fn start_row(&self) {
        self.0.set(0);
    }
}

/// Fails once more than `longest` bytes are read without a new row being started.
pub(super) struct RowLimit {
    inner: BufReader<File>,
    since_row: RowBytes,
    longest: usize,
}

impl RowLimit {
    pub(super) fn open(path: &Path, longest: usize) -> io::Result<(Self, RowBytes)> {
        let since_row = RowBytes::default();
        Ok((Self { inner: open(path)?, since_row: since_row.clone(), longest }, since_row))
    }
}

impl Read for RowLimit {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_row.0.get() > self.longest {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "row too long"));
        }
        let read = self.inner.read(buffer)?;
        self.since_row.0.set(self.since_row.0.get() + read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Lines, first_character};

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
    fn a_long_line_is_passed_over_and_the_next_one_read() {
        assert_eq!(lines(b"12345\n123456\n1234567890123\nab\n", 5), ["1:12345", "2!long", "3!long", "4:ab"]);
        assert_eq!(lines(b"1234567", 5), ["1!long"]);
        assert_eq!(lines(b"12345\r\n", 5), ["1:12345"]);
    }

    #[test]
    fn invalid_utf8_spoils_its_own_line_only() {
        assert_eq!(lines(b"a\n\xFF\xFE\nb\n", 10), ["1:a", "2!utf8", "3:b"]);
    }

    #[test]
    fn the_first_character_is_found_behind_white_space() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\xEF\xBB\xBF \n\t{").unwrap();
        assert_eq!(first_character(file.path()).unwrap(), Some(b'{'));
        std::fs::write(file.path(), b" \n").unwrap();
        assert_eq!(first_character(file.path()).unwrap(), None);
    }
}
