//! The rows of CSV files: as many fields in each as the header has, and no row held beyond the cap.

use std::io;
use std::rc::Rc;

use csv::{ByteRecord, StringRecord};

use super::entries::Entry;
use super::json::MAX_KEYS;
use super::lines::{RowBytes, RowLimit, first_line_ends_in_crlf};
use super::row::{Fields, NOT_UTF8, Row, too_long};
use super::{Bounds, Input, MAX_LINE_BYTES};
use crate::domain::report::Fault;

/// Room that is made for a row before it is read, in bytes at most.
const MOST_EXPECTED: usize = 64 << 10;

/// The rows behind the header, one at a time.
pub(super) struct Records {
    reader: csv::Reader<RowLimit>,
    row_bytes: RowBytes,
    bounds: Bounds,
    header: Option<Rc<StringRecord>>,
    /// The reader has taken a row when it has seen the carriage return, and counts the line when it sees the line feed.
    lag: u64,
    /// Bytes that the next row probably has.
    expected: usize,
    is_over: bool,
}

impl Iterator for Records {
    type Item = io::Result<Entry<Row>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over { None } else { self.row().transpose() }
    }
}

impl Records {
    pub(super) fn open(input: &Input) -> io::Result<Self> {
        let (limited, row_bytes) = RowLimit::open(&input.path, MAX_LINE_BYTES)?;
        let lag = u64::from(first_line_ends_in_crlf(&input.path)?);
        let reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(limited);
        Ok(Self { reader, row_bytes, bounds: input.bounds.clone(), header: None, lag, expected: 0, is_over: false })
    }

    fn row(&mut self) -> io::Result<Option<Entry<Row>>> {
        loop {
            let (line, record) = match self.record()? {
                None => return Ok(None),
                Some(Entry::Faulty(faults)) => return Ok(Some(Entry::Faulty(faults))),
                Some(Entry::Broken(fault)) => return Ok(Some(Entry::Broken(fault))),
                Some(Entry::Skipped(_) | Entry::End(_)) => continue,
                Some(Entry::Good(found)) => found,
            };
            let Some(header) = &self.header else {
                self.header = Some(Rc::new(record));
                continue;
            };
            if record.len() == header.len() {
                let fields = Fields::Csv { header: Rc::clone(header), record };
                return Ok(Some(Entry::Good(Row { line, fields })));
            }
            let message = format!("has {} fields where the header has {}", record.len(), header.len());
            return Ok(Some(Entry::fault(line, message)));
        }
    }

    /// The next row, be it the header, and the line on which it starts.
    fn record(&mut self) -> io::Result<Option<Entry<(u64, StringRecord)>>> {
        self.bounds.check()?;
        self.row_bytes.start_row();
        let is_header = self.header.is_none();
        let line = self.reader.position().line() + if is_header { 0 } else { self.lag };
        let fields = self.header.as_ref().map_or(0, |header| header.len());
        let mut bytes = ByteRecord::with_capacity(self.expected, fields);
        match self.reader.read_byte_record(&mut bytes) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    return Ok(Some(self.end(line, too_long())));
                }
                csv::ErrorKind::Io(error) => return Err(error),
                other => return Ok(Some(self.end(line, format!("not readable as CSV: {other:?}")))),
            },
        }
        if is_header && bytes.len() > MAX_KEYS {
            let message = format!("has {} columns where at most {MAX_KEYS} are allowed", bytes.len());
            return Ok(Some(self.end(line, message)));
        }
        self.expected = bytes.as_slice().len().min(MOST_EXPECTED);
        match StringRecord::from_byte_record(bytes) {
            Ok(record) => Ok(Some(Entry::Good((line, record)))),
            Err(_) if is_header => Ok(Some(self.end(line, NOT_UTF8.to_owned()))),
            Err(_) => Ok(Some(Entry::fault(line, NOT_UTF8))),
        }
    }

    /// A fault behind which nothing can be read.
    fn end<E>(&mut self, line: u64, message: String) -> Entry<E> {
        self.is_over = true;
        Entry::Broken(Fault::new(line, None, message))
    }
}
