//! Rows of Parquet files, as pandas and the library `datasets` write them. A row's line is its number, from 1.

mod guard;
mod thrift;
mod values;

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record;
use parquet::record::reader::{ReaderIter, TreeBuilder};

use self::values::{ClassNames, class_names, fields, object};
use super::entries::{Ending, Entries, Entry, nothing_but};
use super::json::MAX_KEYS;
use super::row::{Fields, Row, too_long};
use super::{Bounds, Input, MAX_LINE_BYTES};
use crate::domain::clip::clipped_to;
use crate::domain::report::{Fault, Note};

/// What is said of a file whose first part would be read in place of its last.
const JOINED: &str = "holds several Parquet files one behind the other; upload them one by one, or join their tables and write \
                      one file";

/// How many values of each column are decoded at once.
const BATCH: usize = 256;

/// What makes the fields of a row.
pub(super) type Make = fn(record::Row, &ClassNames) -> Fields;

/// Fields as columns of a table have them.
pub(super) fn flat(row: record::Row, names: &ClassNames) -> Fields {
    Fields::Json(fields(row, names))
}

/// Fields that are whole. Conversations have no classes, so that numbers stay numbers.
pub(super) fn whole(row: record::Row, _names: &ClassNames) -> Fields {
    Fields::Whole(object(row))
}

/// The rows of a file, whose fields `make` makes.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn read(input: &Input, make: Make) -> io::Result<Entries<Row>> {
    let mut file = File::open(&input.path)?;
    let footer = match guard::footer(&mut file)? {
        Ok(footer) => footer,
        Err(what) => return Ok(nothing_but(Fault::new(1, None, what))),
    };
    let reader = match guarded(|| SerializedFileReader::new(file.try_clone()?)) {
        Ok(reader) => reader,
        Err(what) => return Ok(nothing_but(Fault::new(1, None, what))),
    };
    if guard::is_behind_another(&mut file, footer, reader.metadata().row_groups())? {
        return Ok(nothing_but(Fault::new(1, None, JOINED)));
    }
    let metadata = reader.metadata().file_metadata();
    let columns = metadata.schema_descr().root_schema().get_fields().len();
    if columns > MAX_KEYS {
        let message = format!("has {columns} columns where at most {MAX_KEYS} are allowed");
        return Ok(nothing_but(Fault::new(1, None, message)));
    }
    let written = metadata.key_value_metadata().into_iter().flatten().find(|pair| pair.key == "huggingface");
    let names = written.and_then(|pair| Some(class_names(pair.value.as_deref()?))).unwrap_or_default();
    let rows =
        Rows { reader, file, names, make, bounds: input.bounds.clone(), group: 0, open: None, line: 0, is_over: false };
    Ok(Box::new(rows))
}

/// What the crate reads, or what is wrong with the file in words. It is handed files of strangers, and some of what it takes
/// for granted of them it asserts.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(ParquetError::NYI(what))) => {
            Err(format!("the Parquet file has what is not read: {}", clipped_to(&what, 100)))
        }
        Ok(Err(error)) => {
            let error = error.to_string();
            let (what, remedy) = if ["codec", "ompression", "Disabled feature"].iter().any(|word| error.contains(word))
            {
                ("is compressed in a way that is not read", "; write it with snappy or zstd")
            } else {
                (thrift::DAMAGED, "")
            };
            Err(format!("{what} ({}){remedy}", clipped_to(&error, 100)))
        }
        Err(_) => Err(thrift::DAMAGED.to_owned()),
    }
}

struct Rows {
    reader: SerializedFileReader<File>,
    /// The same file, for looking at pages before they are read.
    file: File,
    names: ClassNames,
    make: Make,
    bounds: Bounds,
    /// The next row group.
    group: usize,
    open: Option<ReaderIter>,
    line: u64,
    is_over: bool,
}

impl Iterator for Rows {
    type Item = io::Result<Entry<Row>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let entry = self.bounds.check().and_then(|()| self.entry());
        self.is_over = !matches!(entry, Ok(Entry::Good(_) | Entry::Faulty(_)));
        Some(entry)
    }
}

impl Rows {
    fn entry(&mut self) -> io::Result<Entry<Row>> {
        loop {
            let Some(rows) = &mut self.open else {
                if self.group == self.reader.num_row_groups() {
                    return Ok(Entry::End(Box::new(self.ending())));
                }
                match self.open_group()? {
                    Ok(rows) => self.open = Some(rows),
                    Err(what) => return Ok(Entry::Broken(Fault::new(self.line + 1, None, what))),
                }
                continue;
            };
            let row = match guarded(|| rows.next().transpose()) {
                Ok(Some(row)) => row,
                Ok(None) => {
                    self.open = None;
                    continue;
                }
                Err(what) => return Ok(Entry::Broken(Fault::new(self.line + 1, None, what))),
            };
            self.line += 1;
            let row = Row { line: self.line, fields: (self.make)(row, &self.names) };
            return Ok(if row.weight() > 2 * MAX_LINE_BYTES {
                Entry::fault(self.line, too_long())
            } else {
                Entry::Good(row)
            });
        }
    }

    /// The rows of the next row group, after a look at its pages.
    fn open_group(&mut self) -> io::Result<Result<ReaderIter, String>> {
        let group = match guarded(|| self.reader.get_row_group(self.group)) {
            Ok(group) => group,
            Err(what) => return Ok(Err(what)),
        };
        self.group += 1;
        let Some(places) = group.metadata().columns().iter().map(guard::pages_of).collect::<Option<Vec<_>>>() else {
            return Ok(Err(thrift::DAMAGED.to_owned()));
        };
        if let Err(what) = guard::pages(&mut self.file, &places)? {
            return Ok(Err(what));
        }
        let group: &dyn RowGroupReader = group.as_ref();
        Ok(guarded(|| TreeBuilder::new().with_batch_size(BATCH).as_iter(group.metadata().schema_descr_ptr(), group)))
    }

    fn ending(&self) -> Ending {
        let mut columns: Vec<&String> = self.names.keys().collect();
        columns.sort();
        let notes = columns.into_iter().map(|column| {
            let names = &self.names[column];
            let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
            let more = if names.len() > shown.len() { ", …" } else { "" };
            let message = format!(
                "The numbers of the column \"{}\" are read by the names that the file gives them: {}{more}.",
                clipped_to(column, 40),
                clipped_to(&shown.join(", "), 200)
            );
            Note::info("class_names", message)
        });
        Ending { lines: None, notes: notes.collect() }
    }
}
