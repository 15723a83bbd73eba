//! What an uploaded file holds, as far as its bytes tell, and which methods can use it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::columns::Names;
use super::entries::{Ledger, good};
use super::{Bounds, Detected, Input, detect, images, kinds, rows};
use crate::domain::method::{DataKind, METHODS, Method, ProblemType};
use crate::domain::report::{DataFormat, ExamplesReport, Faults, FileReport, MethodUse, UploadKind};

/// Finds out what a file is, reads it once to find the faults that make it unreadable, and once more as each kind of data that
/// its rows look like.
///
/// # Errors
/// The file cannot be read.
pub fn inspect(path: &Path, filename: &str, bounds: &Bounds) -> io::Result<FileReport> {
    let Detected { format, compression, note, refusal } = detect(path, filename)?;
    let input = Input { bounds: bounds.clone(), ..Input::new(path, format) };
    if let Some(refusal) = refusal {
        let mut report = FileReport::of(format);
        report.faults.push(1, None, refusal);
        return Ok(report);
    }
    let found = FileReport { compression, ..FileReport::of(format) };
    let mut report = match format {
        DataFormat::Zip | DataFormat::Tar => archive(&input, found)?,
        _ => rows_of(&input, found)?,
    };
    report.notes.splice(0..0, note);
    Ok(report)
}

/// Reads all rows, and then once more as each kind of data that they look like.
fn rows_of(input: &Input, found: FileReport) -> io::Result<FileReport> {
    let (mut ledger, mut rows, mut there) = (Ledger::default(), 0, Names::default());
    for row in good(rows::read(input)?, &mut ledger) {
        there.add(&row?);
        rows += 1;
    }
    let Ledger { mut faults, counts, notes } = ledger;
    if rows == 0 && faults.is_empty() {
        faults.push(1, None, "the file holds no data");
    }
    let there = there.listed();
    let read_as = if faults.is_empty() { read_as(input, &there)? } else { BTreeMap::new() };
    let delimiter = rows::delimiter(input)?;
    let report = FileReport { rows, faults, read_as, delimiter, counts: Some(counts), notes, ..found };
    Ok(with_uses(report, &there))
}

/// Reads a file once more as each kind of data that it looks like.
fn read_as(input: &Input, there: &[&str]) -> io::Result<BTreeMap<UploadKind, ExamplesReport>> {
    let mut reports = BTreeMap::new();
    for method in METHODS {
        let kind = kinds::of(method.data(ProblemType::default()));
        if let Some(named) = kind.upload_kind().filter(|named| !reports.contains_key(named))
            && let Some(report) = kind.inspect(input, there)?
        {
            reports.insert(named, report.capped());
        }
    }
    Ok(reports)
}

/// The same report with what the file can be used for.
fn with_uses(report: FileReport, there: &[&str]) -> FileReport {
    if !report.is_readable() {
        return report;
    }
    FileReport { methods: uses(&report, there), ..report }
}

/// What a readable file can be used for. `there` are the names of the fields of its first rows.
fn uses(report: &FileReport, there: &[&str]) -> Vec<MethodUse> {
    METHODS
        .into_iter()
        .map(|method| {
            let reason = fits(method, report, there).err();
            MethodUse { method, usable: reason.is_none(), reason }
        })
        .collect()
}

/// The methods that an upload looks as if it were for: those for conversations or preferences, whether or not there are faults in
/// it, and others that can use it. Of the two kinds it is the one with fewer faults.
pub fn meant_for(report: &FileReport) -> (Vec<Method>, Vec<Method>) {
    let faults = |method: Method| {
        let kind = is_talk(method).then(|| kinds::of(method.data(ProblemType::default())).upload_kind())??;
        Some(report.read_as.get(&kind)?.faults.count)
    };
    let least = METHODS.into_iter().filter_map(faults).min();
    let is_usable = |method: &Method| report.methods.iter().any(|one| one.method == *method && one.usable);
    let told: Vec<Method> = METHODS.into_iter().filter(|method| least.is_some() && faults(*method) == least).collect();
    let others = METHODS.into_iter().filter(|method| is_usable(method) && !told.contains(method)).collect();
    (told, others)
}

fn is_talk(method: Method) -> bool {
    matches!(method.data(ProblemType::default()), DataKind::Chats | DataKind::Preferences)
}

/// The methods for conversations and preferences that a file with these fields looks as if it were for.
pub fn talk_methods(format: DataFormat, there: &[String]) -> Vec<Method> {
    let there: Vec<&str> = there.iter().map(String::as_str).collect();
    let fits = |method: &Method| {
        is_talk(*method) && kinds::of(method.data(ProblemType::default())).fits(format, &there).is_ok()
    };
    METHODS.into_iter().filter(fits).collect()
}

fn fits(method: Method, report: &FileReport, there: &[&str]) -> Result<(), String> {
    let kind = kinds::of(method.data(ProblemType::default()));
    kind.fits(report.format, there)?;
    match kind.upload_kind().and_then(|kind| report.read_as.get(&kind)) {
        Some(ExamplesReport { faults, .. }) if !faults.is_empty() => {
            Err(format!("{} faults: {}", faults.count, faults.summary()))
        }
        _ => Ok(()),
    }
}

/// An archive is read as labelled images, which is all that archives are for: without a single one it is unreadable.
fn archive(input: &Input, found: FileReport) -> io::Result<FileReport> {
    let mut report = images::survey(input)?.capped();
    let mut faults = Faults::default();
    if report.examples == 0 {
        faults = report.faults.clone();
        if faults.is_empty() {
            faults.push(1, None, "the file holds no images");
        }
    }
    let (rows, counts, notes) = (report.examples, report.counts.as_deref().cloned(), std::mem::take(&mut report.notes));
    let read_as = BTreeMap::from([(UploadKind::LabelledImages, report)]);
    let report = FileReport { rows, faults, counts, notes, read_as, ..found };
    Ok(with_uses(report, &[]))
}

#[cfg(test)]
mod tests {
    use super::{Bounds, inspect};
    use crate::domain::report::{DataFormat, FileReport, UploadKind};

    fn inspect_bytes(name: &str, bytes: &[u8]) -> FileReport {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        inspect(file.path(), name, &Bounds::default()).unwrap()
    }

    #[test]
    fn labelled_texts_get_their_histogram() {
        let report = inspect_bytes("a.csv", b"text,category\nhello,x\nworld!,y\nagain,x\n");
        assert_eq!((report.format, report.rows, report.is_readable()), (DataFormat::Csv, 3, true));
        let labelled = &report.read_as[&UploadKind::LabelledTexts];
        let labels = labelled.labels().iter().map(|(label, count)| (label.as_str(), *count));
        assert_eq!(labels.collect::<Vec<_>>(), [("x", 2), ("y", 1)]);
        assert_eq!((labelled.text_lengths().min, labelled.text_lengths().max), (5, 6));
    }

    #[test]
    fn more_columns_than_a_table_has_are_one_fault() {
        let header = |columns: usize| vec!["c"; columns].join(",");
        let report = inspect_bytes("a.csv", format!("{}\n", header(10_001)).repeat(3).as_bytes());
        assert_eq!((report.rows, report.faults.count), (0, 1));
        assert!(report.faults.summary().contains("10001 columns where at most 10000 are allowed"), "{report:?}");
        let row = vec!["v"; 10_000].join(",");
        assert!(inspect_bytes("a.csv", format!("{}\n{row}\n", header(10_000)).as_bytes()).is_readable());
    }

    #[test]
    fn other_json_lines_are_readable_but_not_labelled() {
        let report = inspect_bytes("other.jsonl", b"{\"ratings\": []}\n");
        assert!(report.is_readable() && report.read_as.is_empty());
        let report = inspect_bytes("chat.jsonl", b"{\"messages\": []}\n");
        assert!(report.is_readable() && report.read_as.keys().eq([&UploadKind::Chats]), "{report:?}");
    }

    #[test]
    fn what_a_file_is_meant_for_is_told_by_its_fields_and_then_by_its_faults() {
        let meant = |text: &str| {
            let report = inspect_bytes("a.jsonl", text.as_bytes());
            let (told, others) = super::meant_for(&report);
            let words = |methods: Vec<super::Method>| {
                methods.into_iter().map(super::Method::as_str).collect::<Vec<_>>().join(" ")
            };
            (words(told), words(others))
        };
        let of = |told: &str, others: &str| (told.to_owned(), others.to_owned());
        let (user, said) = (r#"{"role":"user","content":"a"}"#, r#"{"role":"assistant","content":"b"}"#);
        assert_eq!(meant(&format!("{{\"messages\":[{user},{said}]}}\n")), of("supervised", ""));
        assert_eq!(meant("{\"chosen\":\"a\",\"rejected\":\"a\",\"prompt\":\"b\"}\n"), of("dpo", ""));
        let both = |messages: &str| {
            format!(
                "{{\"messages\":[{messages}],\"chosen\":[{said}],\"rejected\":[{{\"role\":\"assistant\",\"content\":\"c\"}}]}}\n"
            )
        };
        assert_eq!(meant(&both(user)), of("dpo", ""), "as conversations they end with the user");
        assert_eq!(
            meant("{\"prompt\":\"a\",\"response\":\"b\",\"chosen\":\"c\",\"rejected\":\"d\"}\n"),
            of("supervised dpo", "")
        );
        assert_eq!(meant("{\"text\":\"a\"}\n").0, "");
    }

    #[test]
    fn a_report_says_what_a_file_can_be_used_for() {
        let usable = |name: &str, bytes: &[u8]| {
            let methods = inspect_bytes(name, bytes).methods;
            assert!(methods.iter().all(|one| one.usable == one.reason.is_none()));
            methods.into_iter().filter(|one| one.usable).map(|one| one.method.as_str()).collect::<Vec<_>>().join(" ")
        };
        for (name, bytes, methods) in [
            ("a.csv", &b"text,category\nhello,x\n"[..], "text_classification masked_lm causal_lm"),
            ("a.jsonl", b"{\"text\": \"a\", \"labels\": [\"x\"]}\n", "text_classification masked_lm causal_lm"),
            ("a.csv", b"text,category\nhello,\n", "masked_lm causal_lm"),
            ("a.csv", b"query,label\nhello,x\n", ""),
            ("a.csv", b"anchor,positive\na,b\n", "embedding"),
            ("a.txt", b"hello\n", "masked_lm causal_lm"),
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
            ("a.jsonl", b"[[\"text\", \"a\"]]", "expected a JSON object, found an array"),
            ("a.csv", b"PK\x03\x04\xFF\xFE", "the zip archive ends early"),
            ("a.csv", b"text,label\n\xFF,x\n", "is not valid UTF-8"),
        ] {
            let report = inspect_bytes(name, bytes);
            assert!(!report.is_readable());
            assert!(report.faults.summary().contains(why), "{}", report.faults.summary());
        }
    }
}
