//! The kinds of data: the one place that knows them all.

use super::images::LabelledImages;
use super::kind::Kind;
use super::labelled::LabelledTexts;
use super::pairs::Pairs;
use super::texts::Texts;
use crate::domain::method::DataKind;

/// The kind behind its name.
pub(super) fn of(kind: DataKind) -> Box<dyn Kind> {
    match kind {
        DataKind::Labelled(problem) => Box::new(LabelledTexts(problem)),
        DataKind::Images => Box::new(LabelledImages),
        DataKind::Texts => Box::new(Texts),
        DataKind::Pairs => Box::new(Pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::dataset::Input;
    use crate::dataset::columns::Columns;
    use crate::domain::method::{DataKind, ProblemType};
    use crate::domain::report::{DataFormat, ExamplesReport};

    fn read(bytes: &[u8], format: DataFormat, kind: DataKind) -> ExamplesReport {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        of(kind).report(&Input::new(file.path(), format), &Columns::default(), &mut |_, _| {}).unwrap()
    }

    #[test]
    fn each_kind_of_data_has_its_report() {
        let values = read(b"text,label\na,1\nbb,3.5\n", DataFormat::Csv, DataKind::Labelled(ProblemType::Regression));
        let range = values.values().unwrap();
        assert_eq!((range.min, range.max, range.mean, values.labels().len()), (1.0, 3.5, 2.25, 0));
        let many = b"{\"text\":\"a\",\"labels\":[\"x\",\"y\"]}\n{\"text\":\"b\",\"labels\":[\"y\"]}\n";
        let many = read(many, DataFormat::Jsonl, DataKind::Labelled(ProblemType::MultiLabelClassification));
        assert_eq!((many.examples, many.labels()["x"], many.labels()["y"]), (2, 1, 2));
        let texts = read(b"one\ntwo words\n", DataFormat::Text, DataKind::Texts);
        assert_eq!((texts.examples, texts.text_lengths().max), (2, 9));
        let pairs = read(b"anchor,positive\nab,c\n", DataFormat::Csv, DataKind::Pairs);
        assert_eq!((pairs.examples, pairs.text_lengths().max), (1, 3));
    }
}
