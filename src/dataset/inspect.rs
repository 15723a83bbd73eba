//! What an uploaded file holds, as far as its bytes tell.

use std::io;
use std::path::Path;

use super::images::{self, IMAGE_COLUMN};
use super::labelled::{self, Columns, LABEL_COLUMNS};
use super::rows::{self, Next};
use super::{Bounds, Input, detect_format, examples};
use crate::domain::method::DataKind;
use crate::domain::report::{DataFormat, Faults, FileReport};

/// Reads a whole file once to find the faults that make it unreadable, and once more as labelled texts if its first
/// row looks like one.
///
/// # Errors
/// The file cannot be read.
pub fn inspect(path: &Path, filename: &str, bounds: &Bounds) -> io::Result<FileReport> {
    let format = detect_format(path, filename)?;
    let input = Input { path: path.to_owned(), format, bounds: bounds.clone() };
    if matches!(format, DataFormat::Zip | DataFormat::Tar) {
        return archive(&input);
    }
    let mut faults = Faults::default();
    let mut rows = 0;
    let mut columns: Option<Vec<String>> = None;
    rows::each(&input, &mut faults, |_, row, _| {
        rows += 1;
        columns.get_or_insert_with(|| row.names().into_iter().map(str::to_owned).collect());
        Next::Go
    })?;
    if rows == 0 && faults.is_empty() {
        faults.push(1, None, "the file holds no data");
    }
    let columns = columns.unwrap_or_default();
    let has = |name: &str| columns.iter().any(|column| column == name);
    let text_classification = if faults.is_empty() && labelled::looks_labelled(&columns) {
        let kind = DataKind::Labelled(labelled::problem_type(&input, Columns::default())?);
        Some(examples::report(&input, kind, Columns::default(), |_, _| {})?.capped())
    } else {
        None
    };
    let has_images = format == DataFormat::Jsonl && has(IMAGE_COLUMN) && LABEL_COLUMNS.into_iter().any(has);
    let image_classification =
        if faults.is_empty() && has_images { Some(images::survey(&input)?.capped()) } else { None };
    Ok(FileReport { format, rows, faults, text_classification, image_classification })
}

/// An archive is read as labelled images, which is all that archives are for: without a single one it is unreadable.
fn archive(input: &Input) -> io::Result<FileReport> {
    let report = images::survey(input)?.capped();
    let mut faults = Faults::default();
    if report.examples == 0 {
        faults = report.faults.clone();
        if faults.is_empty() {
            faults.push(1, None, "the file holds no images");
        }
    }
    let rows = report.examples;
    let format = input.format;
    Ok(FileReport { format, rows, faults, text_classification: None, image_classification: Some(report) })
}

#[cfg(test)]
mod tests {
    use super::{Bounds, inspect};
    use crate::domain::report::{DataFormat, FileReport};

    fn inspect_bytes(name: &str, bytes: &[u8]) -> FileReport {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        inspect(file.path(), name, &Bounds::default()).unwrap()
    }

    #[test]
    fn labelled_texts_get_their_histogram() {
        let report = inspect_bytes("a.csv", b"text,category\nhello,x\nworld!,y\nagain,x\n");
        assert_eq!((report.format, report.rows, report.is_readable()), (DataFormat::Csv, 3, true));
        let labelled = report.text_classification.unwrap();
        assert_eq!(labelled.labels.into_iter().collect::<Vec<_>>(), [("x".to_owned(), 2), ("y".to_owned(), 1)]);
        assert_eq!((labelled.text_lengths.min, labelled.text_lengths.max), (5, 6));
    }

    #[test]
    fn other_json_lines_are_readable_but_not_labelled() {
        let report = inspect_bytes("chat.jsonl", b"{\"messages\": []}\n");
        assert!(report.is_readable() && report.text_classification.is_none());
    }

    #[test]
    fn the_first_character_decides_where_the_name_says_nothing() {
        assert_eq!(inspect_bytes("upload", b"{\"text\": \"a\"}\n").format, DataFormat::Jsonl);
        assert_eq!(inspect_bytes("upload", b"text,label\na,b\n").format, DataFormat::Csv);
    }

    #[test]
    fn unreadable_files_say_why() {
        for (name, bytes, why) in [
            ("a.jsonl", &b"\n \n"[..], "the file holds no data"),
            ("a.csv", b"text,label\n", "the file holds no data"),
            ("a.jsonl", b"text,label\na,b\n", "is not valid JSON"),
            ("a.jsonl", b"[{\"text\": \"a\"}]", "expected a JSON object, found an array"),
            ("a.csv", b"PK\x03\x04\xFF\xFE", "is not valid UTF-8"),
        ] {
            let report = inspect_bytes(name, bytes);
            assert!(!report.is_readable());
            assert!(report.faults.summary().contains(why), "{}", report.faults.summary());
        }
    }
}
