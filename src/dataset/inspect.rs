//! What an uploaded file holds, as far as its bytes tell.

use std::io;
use std::path::Path;

use super::images::{self, IMAGE_COLUMN};
use super::labelled::{self, Columns, LABEL_COLUMNS};
use super::reading::good;
use super::uses::uses;
use super::{Bounds, Input, detect_format, examples, rows};
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
    for row in good(rows::read(&input)?, &mut faults) {
        let row = row?;
        rows += 1;
        columns.get_or_insert_with(|| row.names().into_iter().map(str::to_owned).collect());
    }
    if rows == 0 && faults.is_empty() {
        faults.push(1, None, "the file holds no data");
    }
    let columns = columns.unwrap_or_default();
    let has = |name: &str| columns.iter().any(|column| column == name);
    let text_classification = if faults.is_empty() && labelled::looks_labelled(&columns) {
        let kind = DataKind::Labelled(labelled::problem_type(&input, &Columns::default())?);
        Some(examples::report(&input, kind, &Columns::default(), |_, _| {})?.capped())
    } else {
        None
    };
    let has_images = format == DataFormat::Jsonl && has(IMAGE_COLUMN) && LABEL_COLUMNS.into_iter().any(has);
    let image_classification =
        if faults.is_empty() && has_images { Some(images::survey(&input)?.capped()) } else { None };
    let there: Vec<&str> = columns.iter().map(String::as_str).collect();
    let report = FileReport { format, rows, faults, text_classification, image_classification, methods: Vec::new() };
    Ok(with_uses(report, &there))
}

/// The same report with what the file can be used for.
fn with_uses(report: FileReport, there: &[&str]) -> FileReport {
    if !report.is_readable() {
        return report;
    }
    FileReport { methods: uses(&report, there), ..report }
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
    let (format, text_classification, image_classification) = (input.format, None, Some(report));
    let report = FileReport { format, rows, faults, text_classification, image_classification, methods: Vec::new() };
    Ok(with_uses(report, &[]))
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
    fn more_columns_than_a_table_has_are_one_fault() {
        let header = |columns: usize| vec!["c"; columns].join(",");
        let report = inspect_bytes("a.csv", format!("{}\n", header(10_001)).repeat(3).as_bytes());
        assert_eq!((report.rows, report.faults.count), (0, 1));
        assert!(report.faults.summary().contains("10001 columns where at most 10000 are allowed"), "{report:?}");
        assert!(inspect_bytes("a.csv", format!("{}\n", header(10_000)).repeat(2).as_bytes()).is_readable());
    }

    #[test]
    fn other_json_lines_are_readable_but_not_labelled() {
        let report = inspect_bytes("chat.jsonl", b"{\"messages\": []}\n");
        assert!(report.is_readable() && report.text_classification.is_none());
    }

    #[test]
    fn a_report_says_what_a_file_can_be_used_for() {
        let usable = |name: &str, bytes: &[u8]| {
            let methods = inspect_bytes(name, bytes).methods;
            assert!(methods.iter().all(|one| one.usable == one.reason.is_none()));
            methods.into_iter().filter(|one| one.usable).map(|one| one.method.as_str()).collect::<Vec<_>>().join(" ")
        };
        for (name, bytes, methods) in [
            ("a.csv", &b"text,category\nhello,x\n"[..], "text_classification masked_lm"),
            ("a.jsonl", b"{\"text\": \"a\", \"labels\": [\"x\"]}\n", "text_classification masked_lm"),
            ("a.csv", b"text,category\nhello,\n", "masked_lm"),
            ("a.csv", b"query,label\nhello,x\n", ""),
            ("a.csv", b"anchor,positive\na,b\n", "embedding"),
            ("a.txt", b"hello\n", "masked_lm"),
            ("a.jsonl", b"{\"messages\": []}\n", ""),
        ] {
            assert_eq!(usable(name, bytes), methods, "{}", String::from_utf8_lossy(bytes));
        }
        let report = inspect_bytes("a.csv", b"query,intent\nhello,x\n");
        let why = report.why_useless().unwrap();
        for part in [
            "text_classification: there is no text column \"text\"; found \"query\", \"intent\"; name it in dataset.text_column",
            "image_classification: is no file of images",
            "embedding: there is no \"anchor\"; found",
        ] {
            assert!(why.contains(part), "{why}");
        }
        assert!(inspect_bytes("a.csv", b"text,label\n").methods.is_empty(), "an unreadable file has its faults");
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
