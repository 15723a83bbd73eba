//! Examples of any kind, as reports see them.

use std::io;

use super::labelled::{self, Columns, Target};
use super::reading::good;
use super::{Input, MAX_LABELS, images, pairs, texts};
use crate::domain::method::{DataKind, ProblemType};
use crate::domain::report::{ExamplesReport, Faults, ImageReport, Place};

/// One good example, as far as files are compared by it.
pub struct Seen<'a> {
    pub place: Place,
    /// The bytes that it is known by.
    pub key: &'a [u8],
    pub labels: &'a [String],
}

/// Reads a file and reports on it; `on_example` sees each good row and may add faults.
///
/// # Errors
/// The file cannot be read.
pub fn report(
    input: &Input,
    kind: DataKind,
    columns: &Columns,
    mut on_example: impl FnMut(&Seen<'_>, &mut Faults),
) -> io::Result<ExamplesReport> {
    if kind == DataKind::Images {
        let report = images::report(input, |image, faults| {
            let labels = std::slice::from_ref(&image.label);
            on_example(&Seen { place: image.place.clone(), key: &image.bytes, labels }, faults);
        })?;
        let ImageReport { examples, labels, images, faults, .. } = report;
        return Ok(ExamplesReport { examples, labels, faults, images: Some(images), ..ExamplesReport::default() });
    }
    let mut tally = Tally { report: ExamplesReport::default(), texts: 0, late: Faults::default(), on_example };
    let mut faults = Faults::default();
    match kind {
        DataKind::Labelled(problem) => {
            for example in good(labelled::read(input, columns.clone(), problem)?, &mut faults) {
                let example = example?;
                if let Target::Value(value) = example.target {
                    tally.value(value);
                }
                let whole = example.pair.as_ref().map(|pair| format!("{}\u{1f}{pair}", example.text));
                tally.add(example.line, whole.as_deref().unwrap_or(&example.text), example.labels());
                tally.lengths(std::iter::once(example.text.as_str()).chain(example.pair.as_deref()));
            }
            if problem == ProblemType::Regression {
                tally.report.values.get_or_insert_default();
            }
        }
        DataKind::Images => {}
        DataKind::Texts => {
            for text in good(texts::read(input, columns.text())?, &mut faults) {
                let text = text?;
                tally.add(text.line, &text.text, &[]);
                tally.lengths([text.text.as_str()]);
            }
        }
        DataKind::Pairs => {
            for triplet in good(pairs::read(input)?, &mut faults) {
                let triplet = triplet?;
                tally.add(triplet.line, &format!("{}\u{1f}{}", triplet.anchor, triplet.positive), &[]);
                tally.lengths(triplet.texts());
            }
        }
    }
    let Tally { mut report, late, .. } = tally;
    report.faults = faults.merged(late);
    Ok(report)
}

struct Tally<F> {
    report: ExamplesReport,
    texts: u64,
    /// Faults found in rows that are well-formed.
    late: Faults,
    on_example: F,
}

impl<F: FnMut(&Seen<'_>, &mut Faults)> Tally<F> {
    fn add(&mut self, line: u64, key: &str, labels: &[String]) {
        self.report.examples += 1;
        for label in labels {
            let known = &mut self.report.labels;
            if let Some(count) = known.get_mut(label) {
                *count += 1;
            } else if known.len() < MAX_LABELS {
                known.insert(label.clone(), 1);
            } else if self.late.listed.iter().all(|fault| fault.field.is_some()) {
                self.late.push(line, None, format!("there are more than {MAX_LABELS} different labels"));
            }
        }
        let place = Place { line, member: None };
        (self.on_example)(&Seen { place, key: key.as_bytes(), labels }, &mut self.late);
    }

    /// Counts the texts of one example as one length.
    fn lengths<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        self.texts += 1;
        let length = texts.into_iter().map(|text| text.chars().count() as u64).sum();
        self.report.text_lengths.add(length, self.texts);
    }

    fn value(&mut self, value: f64) {
        let count = self.report.examples + 1;
        let values = self.report.values.get_or_insert_default();
        values.min = if count == 1 { value } else { values.min.min(value) };
        values.max = if count == 1 { value } else { values.max.max(value) };
        values.mean += (value - values.mean) / count as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::{Input, report};
    use crate::dataset::labelled::Columns;
    use crate::domain::method::{DataKind, ProblemType};
    use crate::domain::report::{DataFormat, ExamplesReport};

    fn read(bytes: &[u8], format: DataFormat, kind: DataKind) -> ExamplesReport {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        report(&Input::new(file.path(), format), kind, &Columns::default(), |_, _| {}).unwrap()
    }

    #[test]
    fn each_kind_of_data_has_its_report() {
        let values = read(b"text,label\na,1\nbb,3.5\n", DataFormat::Csv, DataKind::Labelled(ProblemType::Regression));
        let range = values.values.unwrap();
        assert_eq!((range.min, range.max, range.mean, values.labels.len()), (1.0, 3.5, 2.25, 0));
        let many = b"{\"text\":\"a\",\"labels\":[\"x\",\"y\"]}\n{\"text\":\"b\",\"labels\":[\"y\"]}\n";
        let many = read(many, DataFormat::Jsonl, DataKind::Labelled(ProblemType::MultiLabelClassification));
        assert_eq!((many.examples, many.labels["x"], many.labels["y"]), (2, 1, 2));
        let texts = read(b"one\ntwo words\n", DataFormat::Text, DataKind::Texts);
        assert_eq!((texts.examples, texts.text_lengths.max), (2, 9));
        let pairs = read(b"anchor,positive\nab,c\n", DataFormat::Csv, DataKind::Pairs);
        assert_eq!((pairs.examples, pairs.text_lengths.max), (1, 3));
    }
}
