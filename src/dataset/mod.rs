//! From bytes to examples: reading data files by streaming, and reporting every fault by line. No tensors here.

mod balance;
mod bounds;
pub mod chats;
pub mod columns;
mod comparison;
mod constants;
mod csv;
pub mod entries;
pub mod evaluation;
mod format;
pub mod images;
pub mod inspect;
pub mod json;
mod json_items;
mod kind;
mod kinds;
pub mod label;
pub mod labelled;
mod languages;
mod lines;
mod magic;
mod near;
pub mod pairs;
mod parquet;
pub mod preferences;
pub mod prepare;
pub mod preview;
pub mod prints;
mod record;
pub mod row;
pub mod rows;
mod sorted;
mod source;
mod spelling;
mod tally;
pub mod texts;
mod tree;

use std::path::PathBuf;

pub use bounds::{Bounds, Gate, Room, Usage};
pub use format::{Detected, detect};
pub use kind::{Seen, Watch};

use crate::domain::job::ReadOptions;
use crate::domain::report::DataFormat;

/// The version of the readers. Whatever changes which examples or faults are found, or what is counted of them, makes
/// another: what an older one found is not used any more.
pub const READER_VERSION: i32 = 5;

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
