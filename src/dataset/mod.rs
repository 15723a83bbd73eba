//! From bytes to examples: reading data files by streaming, and reporting every fault by line. No tensors here.

pub mod inspect;
pub mod json;
pub mod labelled;
mod lines;
pub mod prepare;
pub mod split;

use std::path::Path;

use crate::domain::report::DataFormat;

/// The longest line (JSONL) or row (CSV) that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// The most labels a classifier may have.
pub const MAX_LABELS: usize = 10_000;

/// How a file is written: by the ending of its name, else by its first character.
///
/// # Errors
/// The file cannot be read.
pub fn detect_format(path: &Path, filename: &str) -> std::io::Result<DataFormat> {
    let ending = filename.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        Some("csv") => Ok(DataFormat::Csv),
        Some("jsonl" | "ndjson" | "json") => Ok(DataFormat::Jsonl),
        _ => {
            let first = lines::first_character(path)?;
            Ok(if matches!(first, Some(b'{' | b'[')) { DataFormat::Jsonl } else { DataFormat::Csv })
        }
    }
}
