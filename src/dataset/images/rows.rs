//! Images from JSONL: `{"image": "data:image/png;base64,…", "label": "cat"}`.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{IMAGE_COLUMN, ImageExample, MAX_IMAGE_BYTES};
use crate::dataset::columns::LABEL_COLUMNS;
use crate::dataset::entries::{Entries, Entry, Step, further};
use crate::dataset::label::{Spelling, of_value};
use crate::dataset::row::{MISSING, Row, listed};
use crate::dataset::{Input, rows};
use crate::domain::report::Place;

/// See [`super::read`].
pub(super) fn read(input: &Input) -> io::Result<Entries<ImageExample>> {
    let mut label_key = None;
    Ok(further(rows::read(input)?, move |row| {
        // The first row says where the label stands, as with labelled texts.
        if label_key.is_none() {
            let there = row.names();
            label_key = LABEL_COLUMNS.into_iter().find(|key| there.contains(key));
        }
        Ok(Step::To(label_key.map_or_else(|| no_label(&row), |key| example(&row, key))))
    }))
}

/// Whether rows with these fields can be images.
///
/// # Errors
/// What is missing.
pub(super) fn fit(there: &[&str]) -> Result<(), String> {
    let missing = |what: &str| Err(format!("there is no {what}; found {}", listed(there)));
    if !there.contains(&IMAGE_COLUMN) {
        return missing(&format!("\"{IMAGE_COLUMN}\""));
    }
    if !LABEL_COLUMNS.into_iter().any(|name| there.contains(&name)) {
        return missing(&format!("label column ({})", listed(&LABEL_COLUMNS)));
    }
    Ok(())
}

fn no_label(row: &Row) -> Entry<ImageExample> {
    let (usual, there) = (listed(&LABEL_COLUMNS), listed(&row.names()));
    Entry::Faulty(vec![row.fault("label", format!("there is no label column ({usual}); found {there}"))])
}

/// The image of a row with the label under `key`, or what is wrong with either.
fn example(row: &Row, key: &str) -> Entry<ImageExample> {
    let bytes = row.text(IMAGE_COLUMN).and_then(|url| data_url(&url));
    let label = row
        .get(key)
        .ok_or_else(|| MISSING.to_owned())
        .and_then(|value| Ok(of_value(&value, &Spelling::default())?.text));
    match (bytes, label) {
        (Ok(bytes), Ok(label)) => {
            Entry::Good(ImageExample { place: Place { line: row.line, member: None }, label, bytes })
        }
        (bytes, label) => {
            let parts = [(IMAGE_COLUMN, bytes.err()), (key, label.err())];
            Entry::Faulty(parts.into_iter().filter_map(|(field, why)| Some(row.fault(field, why?))).collect())
        }
    }
}

/// The bytes of a data URL (RFC 2397) in base64. What its media type says does not count; the bytes do.
///
/// # Errors
/// It is none, or the image is too large; in words for its owner.
pub fn data_url(url: &str) -> Result<Vec<u8>, String> {
    const EXPECTED: &str = "must be a data URL, such as \"data:image/png;base64,…\"";
    if url.starts_with("http:") || url.starts_with("https:") {
        return Err(format!("{EXPECTED}; links are not followed"));
    }
    let Some((head, data)) = url.split_once(',') else { return Err(EXPECTED.to_owned()) };
    let is_image = head.get(..11).is_some_and(|start| start.eq_ignore_ascii_case("data:image/"));
    if !is_image || !head.to_ascii_lowercase().ends_with(";base64") {
        return Err(EXPECTED.to_owned());
    }
    if data.len() / 4 * 3 > MAX_IMAGE_BYTES {
        return Err(format!("is larger than {} MiB", MAX_IMAGE_BYTES >> 20));
    }
    STANDARD.decode(data).map_err(|error| format!("is not valid base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{Input, data_url};
    use crate::dataset::entries::{Ledger, good};
    use crate::domain::report::DataFormat;

    #[test]
    fn data_urls_are_decoded_and_everything_else_is_refused() {
        assert_eq!(data_url("data:image/png;base64,AAEC"), Ok(vec![0, 1, 2]));
        assert_eq!(data_url("DATA:IMAGE/JPEG;BASE64,AA=="), Ok(vec![0]));
        for (url, why) in [
            ("https://example.com/a.png", "links are not followed"),
            ("AAEC", "must be a data URL"),
            ("data:text/plain;base64,AAEC", "must be a data URL"),
            ("data:image/png,AAEC", "must be a data URL"),
            ("data:image/png;base64,A", "not valid base64"),
            ("data:image/png;base64,AA\nAA", "not valid base64"),
            ("data:imagé/png;base64,AAAA", "must be a data URL"),
        ] {
            assert!(data_url(url).unwrap_err().contains(why), "{url}");
        }
    }

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
}
