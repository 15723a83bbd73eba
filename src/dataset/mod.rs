//! From bytes to examples: reading data files by streaming, and reporting every fault by line. No tensors here.

mod bounds;
pub mod columns;
pub mod entries;
pub mod evaluation;
pub mod images;
pub mod inspect;
pub mod json;
mod kind;
mod kinds;
pub mod label;
pub mod labelled;
mod lines;
pub mod pairs;
pub mod prepare;
mod records;
pub mod row;
pub mod rows;
pub mod split;
mod tally;
pub mod texts;

use std::path::{Path, PathBuf};

pub use bounds::{Bounds, Gate, Room, Usage};

use crate::domain::job::ReadOptions;
use crate::domain::report::DataFormat;

/// The version of the readers. Whatever changes which examples or faults are found, or what is counted of them, makes
/// another: what an older one found is not used any more.
pub const READER_VERSION: i32 = 2;

/// The longest line (JSONL) or row (CSV) that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// The most labels a classifier may have.
pub const MAX_LABELS: usize = 10_000;

/// A data file.
#[derive(Clone, Debug)]
pub struct Input {
    pub path: PathBuf,
    pub format: DataFormat,
    pub options: ReadOptions,
    pub bounds: Bounds,
}

impl Input {
    /// A file that is read as it asks for itself, without bounds.
    pub fn new(path: impl Into<PathBuf>, format: DataFormat) -> Self {
        Self { path: path.into(), format, options: ReadOptions::default(), bounds: Bounds::default() }
    }
}

/// How a file is written: by the ending of its name, else by its first bytes.
///
/// # Errors
/// The file cannot be read.
pub fn detect_format(path: &Path, filename: &str) -> std::io::Result<DataFormat> {
    let ending = filename.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        Some("csv") => Ok(DataFormat::Csv),
        Some("jsonl" | "ndjson" | "json") => Ok(DataFormat::Jsonl),
        Some("txt") => Ok(DataFormat::Text),
        Some("zip") => Ok(DataFormat::Zip),
        // What is compressed as well is refused by the tar reader, which says so.
        Some("tar" | "tgz" | "gz") => Ok(DataFormat::Tar),
        _ => {
            if let Some(archive) = images::archive_format(path)? {
                return Ok(archive);
            }
            let first = lines::first_character(path)?;
            Ok(if matches!(first, Some(b'{' | b'[')) { DataFormat::Jsonl } else { DataFormat::Csv })
        }
    }
}
