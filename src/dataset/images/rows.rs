//! Images from JSONL: `{"image": "data:image/png;base64,…", "label": "cat"}`.

use std::io;

use super::ImageExample;
use super::data_url::data_url;
use crate::dataset::columns::{self, IMAGE_COLUMN, LABEL_COLUMNS, Names};
use crate::dataset::entries::{Entries, Entry, Step, settled};
use crate::dataset::label::{Spelling, of_value};
use crate::dataset::row::{MISSING, Row, listed};
use crate::dataset::{Input, rows};
use crate::domain::report::{Fault, Place};

/// See [`super::read`].
pub(super) fn read(input: &Input) -> io::Result<Entries<ImageExample>> {
    let named = input.options.label_column.clone();
    let spelling = Spelling { whole: false, names: input.options.label_names.clone() };
    let settle = move |rows: &[&Row]| {
        let names = Names::of(rows);
        if !names.listed().contains(&IMAGE_COLUMN) {
            return Err(Fault::new(names.line(), Some(IMAGE_COLUMN), no_image(&names.listed())));
        }
        let key = label_key(named.as_deref(), rows)?;
        let notes = columns::not_read(rows, &names.listed(), &[IMAGE_COLUMN, &key]);
        Ok((key, notes))
    };
    Ok(settled(rows::read(input)?, Row::weight, settle, move |key, row| Ok(Step::To(example(&row, key, &spelling)))))
}

/// The key of the label: the one that the job names, else of the usual ones that which most of the first rows have.
fn label_key(named: Option<&str>, rows: &[&Row]) -> Result<String, Fault> {
    let keys = named.map_or_else(|| LABEL_COLUMNS.to_vec(), |name| vec![name]);
    if let Some(key) = columns::fullest(&keys, rows).filter(|key| rows.iter().any(|row| row.get(key).is_some())) {
        return Ok(key.to_owned());
    }
    let names = Names::of(rows);
    let message = format!("there is no label column ({}); found {}", listed(&keys), listed(&names.listed()));
    Err(Fault::new(names.line(), Some("label"), message))
}

/// Whether rows with these fields can be images.
///
/// # Errors
/// What is missing.
pub(super) fn fit(there: &[&str]) -> Result<(), String> {
    if !there.contains(&IMAGE_COLUMN) {
        return Err(no_image(there));
    }
    if !LABEL_COLUMNS.into_iter().any(|name| there.contains(&name)) {
        return Err(format!("there is no label column ({}); found {}", listed(&LABEL_COLUMNS), listed(there)));
    }
    Ok(())
}

fn no_image(there: &[&str]) -> String {
    format!("there is no \"{IMAGE_COLUMN}\"; found {}", listed(there))
}

/// The image of a row with the label under `key`, or what is wrong with either.
fn example(row: &Row, key: &str, spelling: &Spelling) -> Entry<ImageExample> {
    let bytes = row.text(IMAGE_COLUMN).and_then(|url| data_url(&url));
    let label = row.get(key).ok_or_else(|| MISSING.to_owned()).and_then(|value| of_value(&value, spelling));
    match (bytes, label) {
        (Ok(bytes), Ok(label)) => {
            let place = Place { line: row.line, member: None };
            Entry::Good(ImageExample { place, label: label.text, is_tidied: label.is_tidied, bytes })
        }
        (bytes, label) => {
            let parts = [(IMAGE_COLUMN, bytes.err()), (key, label.err())];
            Entry::Faulty(parts.into_iter().filter_map(|(field, why)| Some(row.fault(field, why?))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report;
    use super::{Input, read};
    use crate::dataset::entries::{Ledger, good};
    use crate::domain::report::DataFormat;

    #[test]
    fn rows_become_examples_and_faults_name_line_and_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rows = [
            r#"{"image": "data:image/png;base64,AAEC", "class": 3}"#,
            r#"{"image": 5, "class": ""}"#,
            r#"{"class": "x"}"#,
            r#"{"image": "data:image/png;base64,AAEC", "label": "x"}"#,
            "[",
        ];
        std::fs::write(file.path(), rows.join("\n")).unwrap();
        let mut ledger = Ledger::default();
        let images = super::super::read(&Input::new(file.path(), DataFormat::Jsonl)).unwrap();
        let images = good(images, &mut ledger).map(Result::unwrap);
        let found: Vec<_> = images.map(|image| (image.place.line, image.label, image.bytes)).collect();
        assert_eq!(found, [(1, "3".to_owned(), vec![0, 1, 2])]);
        let shown: Vec<String> = ledger
            .faults
            .listed
            .iter()
            .map(|f| format!("{} {} {}", f.line, f.field.as_deref().unwrap_or_default(), f.message))
            .collect();
        assert_eq!(
            shown,
            [
                "2 image must be a string, not a number",
                "2 class is empty",
                "3 image is missing",
                "4 class is missing",
                "5  is not valid JSON (column 1: EOF while parsing a list)",
            ]
        );
    }

    #[test]
    fn labels_that_were_tidied_are_told_and_a_job_may_name_their_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let image = "data:image/png;base64,AAEC";
        let rows = ["cats", "cats ", "dogs", " dogs"]
            .map(|label| format!(r#"{{"image": "{image}", "label": "all alike", "breed": "{label}"}}"#));
        std::fs::write(file.path(), rows.join("\n")).unwrap();
        let mut input = Input::new(file.path(), DataFormat::Jsonl);
        input.options.label_column = Some("breed".to_owned());
        let report = report(&input, &mut ()).unwrap();
        let tidied = report.notes.iter().find(|note| note.code == "labels_tidied").unwrap();
        // What these bytes are is looked at later.
        assert_eq!((report.faults.count, tidied.lines.as_slice()), (4, &[2, 4][..]));
        let labels: Vec<_> =
            good(read(&input).unwrap(), &mut Ledger::default()).map(|image| image.unwrap().label).collect();
        assert_eq!(labels, ["cats", "cats", "dogs", "dogs"]);
        input.options.label_column = Some("race".to_owned());
        let mut ledger = Ledger::default();
        assert_eq!(good(read(&input).unwrap(), &mut ledger).count(), 0);
        let summary = ledger.faults.summary();
        assert!(summary.starts_with("line 1, label: there is no label column (\"race\"); found"), "{summary}");
    }
}
