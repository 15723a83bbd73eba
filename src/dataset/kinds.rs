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
    use sha2::{Digest, Sha256};

    use super::of;
    use crate::dataset::{Input, READER_VERSION};
    use crate::domain::hex::hex;
    use crate::domain::method::{DataKind, ProblemType};
    use crate::domain::report::{DataFormat, ExamplesReport};

    fn read(bytes: &[u8], format: DataFormat, kind: DataKind) -> ExamplesReport {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        of(kind).report(&Input::new(file.path(), format), &mut ()).unwrap()
    }

    /// Rows of all kinds, good and bad ones.
    const ROWS: &str = concat!(
        r#"{"text":"a","label":"x","labels":["x","y"],"anchor":"a","positive":"b"}"#,
        "\n\n",
        r#"{"text":" ","label":3,"labels":[],"anchor":"é","positive":"b"}"#,
        "\r\n",
        r#"{"text":"b c","label":true,"labels":"x","anchor":5}"#,
        "\n",
        r#"{"text":"a","label":"1.5","labels":[null],"anchor":"a","positive":"b","negative":"c"}"#,
        "\n[1]\n",
        r#"{"text":"a","text":"b"}"#,
        "\n",
        r#"{"image":"data:image/gif;base64,R0lGODlh","label":"x"}"#,
    );

    #[test]
    fn what_readers_find_is_that_of_their_version() {
        let single = ProblemType::SingleLabelClassification;
        let kinds = [single, ProblemType::MultiLabelClassification, ProblemType::Regression].map(DataKind::Labelled);
        let mut hasher = Sha256::new();
        for kind in kinds.into_iter().chain([DataKind::Images, DataKind::Texts, DataKind::Pairs]) {
            for (bytes, format) in [
                (ROWS, DataFormat::Jsonl),
                ("text,label,anchor,positive\na,1,b,c\n\"d\ne\",x,f\n,2,,\na,1,b,c\n", DataFormat::Csv),
                ("\u{feff}a\r\n \nb", DataFormat::Text),
                ("no archive", DataFormat::Zip),
                ("no archive", DataFormat::Tar),
            ] {
                hasher.update(serde_json::to_vec(&read(bytes.as_bytes(), format, kind)).unwrap());
            }
        }
        let found = hex(&hasher.finalize());
        assert_eq!(
            (READER_VERSION, found.as_str()),
            (3, "e74e0a3d1789fa97feecbe5a7ef48e5f704a2c3f59a8b5bd3ffd70a4da20a8bd"),
            "what was found before would not be found now: raise READER_VERSION"
        );
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
