//! What an uploaded file holds, as far as its bytes tell.

use std::io;
use std::path::Path;

use super::labelled::{self, Columns, LABEL_COLUMNS, Next, TEXT_COLUMN};
use super::{MAX_LABELS, detect_format};
use crate::domain::report::{DataFormat, Faults, FileReport, LabelledReport};

/// Reads a whole file once to find the faults that make it unreadable, and once more as labelled texts if its first
/// row looks like one.
///
/// # Errors
/// The file cannot be read.
pub fn inspect(path: &Path, filename: &str) -> io::Result<FileReport> {
    let format = detect_format(path, filename)?;
    let mut faults = Faults::default();
    let mut rows = 0;
    let mut columns: Option<Vec<String>> = None;
    match format {
        DataFormat::Jsonl => labelled::each_object(path, &mut faults, |_, object, _| {
            rows += 1;
            columns.get_or_insert_with(|| object.keys().cloned().collect());
        })?,
        DataFormat::Csv => labelled::each_row(path, &mut faults, |_, header, _, _| {
            rows += 1;
            columns.get_or_insert_with(|| header.iter().map(str::to_owned).collect());
            Next::Go
        })?,
    }
    if rows == 0 && faults.is_empty() {
        faults.push(1, None, "the file holds no data");
    }
    let has = |name: &str| columns.iter().flatten().any(|column| column == name);
    let looks_labelled = has(TEXT_COLUMN) && LABEL_COLUMNS.into_iter().any(has);
    let text_classification = if faults.is_empty() && looks_labelled {
        Some(labelled_report(path, format, Columns::default(), |_, _| {})?)
    } else {
        None
    };
    Ok(FileReport { format, rows, faults, text_classification })
}

/// Reads a file of labelled texts and reports on it; `on_example` sees each good row and may add faults.
///
/// # Errors
/// The file cannot be read.
pub fn labelled_report(
    path: &Path,
    format: DataFormat,
    columns: Columns<'_>,
    mut on_example: impl FnMut(&labelled::Example, &mut Faults),
) -> io::Result<LabelledReport> {
    let mut report = LabelledReport::default();
    let mut faults = Faults::default();
    let mut late = Faults::default();
    labelled::read(path, format, columns, &mut faults, |example| {
        report.examples += 1;
        report.text_lengths.add(example.text.chars().count() as u64, report.examples);
        if let Some(count) = report.labels.get_mut(&example.label) {
            *count += 1;
        } else if report.labels.len() < MAX_LABELS {
            report.labels.insert(example.label.clone(), 1);
        } else if report.labels.len() == MAX_LABELS && late.listed.iter().all(|fault| fault.field.is_none()) {
            late.push(example.line, None, format!("there are more than {MAX_LABELS} different labels"));
        }
        on_example(&example, &mut late);
    })?;
    report.faults = merged(faults, late);
    Ok(report)
}

/// Both lists of faults in the order of their lines.
fn merged(mut faults: Faults, other: Faults) -> Faults {
    faults.count += other.count;
    faults.listed.extend(other.listed);
    faults.listed.sort_by_key(|fault| fault.line);
    faults.listed.truncate(crate::domain::report::LISTED_FAULTS);
    faults
}

#[cfg(test)]
mod tests {
    use super::inspect;
    use crate::domain::report::{DataFormat, FileReport};

    fn inspect_bytes(name: &str, bytes: &[u8]) -> FileReport {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        inspect(file.path(), name).unwrap()
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
