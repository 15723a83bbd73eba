//! What a file is: by its content first, by its name where content does not tell, and in words where it is none that is
//! read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::IgnoredAny;

use super::lines::content;
use super::magic::{self, Known};
use super::source::{self, compression};
use super::{csv, images};
use crate::domain::clip::clipped_to;
use crate::domain::job::ReadOptions;
use crate::domain::report::{Compression, DataFormat, Delimiter, Note};

/// How much of a file tells what it is.
const HEAD: usize = 64 << 10;

/// What a file was found to be.
#[derive(Clone, Debug)]
pub struct Detected {
    pub format: DataFormat,
    pub compression: Option<Compression>,
    /// What its owner should know of how it is read.
    pub note: Option<Note>,
    /// Why it is not read, where it is of no format that is.
    pub refusal: Option<String>,
}

impl From<DataFormat> for Detected {
    fn from(format: DataFormat) -> Self {
        Self { format, compression: None, note: None, refusal: None }
    }
}

impl Detected {
    fn refused(what: String) -> Self {
        Self { refusal: Some(what), ..Self::from(DataFormat::Unknown) }
    }

    fn noted(self, code: &str, message: String) -> Self {
        Self { note: Some(Note::info(code, message)), ..self }
    }
}

/// What the ending of a file's name says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Json,
    Csv,
    Text,
    Other,
}

impl Name {
    /// By the last ending that does not tell of compression.
    fn of(filename: &str) -> (Self, Option<String>) {
        let name = filename.to_ascii_lowercase();
        let name = [".gz", ".zst", ".zstd"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_owned());
        let what = match ending.as_deref() {
            Some("csv" | "tsv" | "tab" | "psv") => Self::Csv,
            Some("jsonl" | "ndjson" | "json") => Self::Json,
            Some("txt" | "text") => Self::Text,
            _ => Self::Other,
        };
        (what, ending)
    }
}

/// What a file is. `filename` is what its owner calls it.
///
/// # Errors
/// The file cannot be read.
pub fn detect(path: &Path, filename: &str) -> io::Result<Detected> {
    let mut raw = Vec::new();
    File::open(path)?.take(HEAD as u64).read_to_end(&mut raw)?;
    let Some(compression) = compression(&raw) else {
        return by_head(path, filename, &raw);
    };
    let mut head = Vec::new();
    // Damage is told by the reader.
    let _ = source::open(path)?.take(HEAD as u64).read_to_end(&mut head);
    let inner = by_head(path, filename, &head)?;
    Ok(match inner.format {
        // Archives are walked from place to place, which compressed ones do not allow: their reader says so.
        DataFormat::Tar => Detected::from(DataFormat::Tar),
        DataFormat::Zip | DataFormat::Parquet => {
            Detected::refused(format!("is a compressed {}; upload it as it was before", name_of(inner.format)))
        }
        _ => Detected { compression: Some(compression), ..inner },
    })
}

fn name_of(format: DataFormat) -> &'static str {
    match format {
        DataFormat::Jsonl | DataFormat::Json => "JSON",
        DataFormat::Csv => "CSV",
        DataFormat::Text => "plain text",
        DataFormat::Parquet => "Parquet file",
        DataFormat::Zip => "zip archive",
        DataFormat::Tar => "tar archive",
        DataFormat::Unknown => "file of an unknown format",
    }
}

/// By the first bytes, unpacked.
fn by_head(path: &Path, filename: &str, head: &[u8]) -> io::Result<Detected> {
    let (name, ending) = Name::of(filename);
    let binary = match magic::known(head) {
        Some(Known::Parquet) => Some(Detected::from(DataFormat::Parquet)),
        Some(Known::Zip) => Some(zip(path)?),
        Some(Known::Tar) => Some(Detected::from(DataFormat::Tar)),
        None | Some(Known::Other(_)) if images::is_zip_behind_prefix(path)? => Some(zip(path)?),
        Some(Known::Other(what)) => return Ok(Detected::refused(what.into_owned())),
        None if ending.as_deref() == Some("zip") => Some(Detected::from(DataFormat::Zip)),
        None if ending.as_deref() == Some("tar") => Some(Detected::from(DataFormat::Tar)),
        None => None,
    };
    if let Some(found) = binary {
        let contradicts = name != Name::Other && found.refusal.is_none();
        let message = || format!("Its name {} says otherwise, but it is a {}.", shown(filename), name_of(found.format));
        return Ok(if contradicts { found.clone().noted("name_says_otherwise", message()) } else { found });
    }
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    match (json(head, name), name) {
        (Some(format), Name::Csv | Name::Text) => {
            let message =
                format!("Its name {} says otherwise, but it holds JSON, and is read as that.", shown(filename));
            Ok(Detected::from(format).noted("name_says_otherwise", message))
        }
        (Some(format), _) => Ok(format.into()),
        (None, Name::Json) => no_json(path, filename, head),
        (None, Name::Csv) => Ok(DataFormat::Csv.into()),
        (None, Name::Text | Name::Other) => text(path, name, ending.as_deref()),
    }
}

fn shown(filename: &str) -> String {
    format!("\"{}\"", clipped_to(filename, 80))
}

/// What a zip archive holds: images, unless it is one of the documents that are zips, or holds data files alone.
fn zip(path: &Path) -> io::Result<Detected> {
    Ok(match images::zip_names(path)?.and_then(|names| magic::zip_holds(&names)) {
        Some(what) => Detected::refused(what),
        None => DataFormat::Zip.into(),
    })
}

/// Which JSON it is, if it is any: by all lines of the head, since any of them may be broken.
fn json(head: &[u8], name: Name) -> Option<DataFormat> {
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let body = &head[start..];
    let rows: Vec<&[u8]> = body.split_inclusive(|&byte| byte == b'\n').map(content).collect();
    // What is cut off by the end of the head says nothing.
    let whole = if head.len() == HEAD && rows.len() > 1 { &rows[..rows.len() - 1] } else { &rows[..] };
    let rows = || whole.iter().filter(|row| !row.trim_ascii().is_empty());
    let (all, objects) = (rows().count(), rows().filter(|row| looks_like_object(row)).count());
    match body.first() {
        Some(b'{') if 2 * objects >= all => Some(DataFormat::Jsonl),
        Some(b'{') if name == Name::Json || has_key(body) => Some(DataFormat::Json),
        Some(b'[') => {
            let inside = body[1..].iter().find(|byte| !byte.is_ascii_whitespace());
            let is_array = matches!(inside, Some(b'{')) || (name == Name::Json && all == 1);
            let lists = rows().filter(|row| serde_json::from_slice::<Vec<IgnoredAny>>(row).is_ok()).count();
            match (is_array || name == Name::Json, name) {
                (true, Name::Json) if !is_array && 2 * lists >= all => Some(DataFormat::Jsonl),
                (true, _) => Some(DataFormat::Json),
                (false, _) => None,
            }
        }
        _ if objects > 0 && 2 * objects >= all => Some(DataFormat::Jsonl),
        _ => None,
    }
}

fn looks_like_object(row: &[u8]) -> bool {
    let row = row.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(row).trim_ascii();
    let is_cut = row.len() + 16 > HEAD;
    row.starts_with(b"{") && (is_cut || serde_json::from_slice::<IgnoredAny>(row).is_ok())
}

/// Whether an object begins with a key and a colon.
fn has_key(body: &[u8]) -> bool {
    let rest = body[1..].trim_ascii_start();
    let Some(key) = rest.strip_prefix(b"\"") else { return false };
    let end = key.iter().position(|&byte| byte == b'"');
    end.is_some_and(|end| key[end + 1..].trim_ascii_start().starts_with(b":"))
}

/// A file whose name says JSON, and whose content says something else.
fn no_json(path: &Path, filename: &str, head: &[u8]) -> io::Result<Detected> {
    let Some(line) = head.split(|&byte| byte == b'\n').map(content).find(|line| !line.trim_ascii().is_empty()) else {
        return Ok(DataFormat::Jsonl.into());
    };
    let guess = csv::guess(path, &ReadOptions::default())?;
    if guess.columns < 2 || guess.known_columns == 0 {
        return Ok(DataFormat::Jsonl.into());
    }
    let first = String::from_utf8_lossy(line).into_owned();
    Ok(Detected::refused(format!(
        "is not valid JSON, which its name {} says it is: line 1 is {:?}, which looks like values separated by {}; name it \
         .csv",
        shown(filename),
        clipped_to(&first, 60),
        guess.dialect.delimiter.name()
    )))
}

/// Text that is no JSON, where the name does not say CSV.
fn text(path: &Path, name: Name, ending: Option<&str>) -> io::Result<Detected> {
    let guess = csv::guess(path, &ReadOptions::default())?;
    let has_columns = guess.columns > 1 && guess.fitting >= 0.5;
    let delimiter = guess.dialect.delimiter;
    let by = || format!("values separated by {} with a header", delimiter.name());
    if has_columns && guess.known_columns > 0 {
        let found = Detected::from(DataFormat::Csv);
        let message = format!("Its name says plain text, but it holds {}, and is read as that.", by());
        return Ok(if name == Name::Text { found.noted("name_says_otherwise", message) } else { found });
    }
    if name == Name::Text {
        return Ok(DataFormat::Text.into());
    }
    // Commas stand in any prose; a tab in every line does not.
    let enough = if delimiter == Delimiter::Comma { 0.99 } else { 0.9 };
    let said = ending.map_or_else(
        || "Its name has no ending".to_owned(),
        |ending| format!("The ending .{} says nothing", clipped_to(ending, 20)),
    );
    Ok(if guess.columns > 1 && guess.fitting >= enough {
        Detected::from(DataFormat::Csv).noted("format_found", format!("{said}; it is read as {}.", by()))
    } else if guess.columns == 1 && guess.known_columns == 1 {
        DataFormat::Csv.into()
    } else {
        Detected::from(DataFormat::Text)
            .noted("format_found", format!("{said}; it is read as plain text, a text in each line."))
    })
}
