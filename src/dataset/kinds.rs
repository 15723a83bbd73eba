//! The kinds of data: the one place that knows them all.

use super::chats::Chats;
use super::images::LabelledImages;
use super::kind::Kind;
use super::labelled::LabelledTexts;
use super::pairs::Pairs;
use super::preferences::Preferences;
use super::texts::Texts;
use crate::domain::method::DataKind;

/// The kind behind its name.
pub(super) fn of(kind: DataKind) -> Box<dyn Kind> {
    match kind {
        DataKind::Labelled(problem) => Box::new(LabelledTexts(problem)),
        DataKind::Images => Box::new(LabelledImages),
        DataKind::Texts => Box::new(Texts),
        DataKind::Pairs => Box::new(Pairs),
        DataKind::Chats => Box::new(Chats),
        DataKind::Preferences => Box::new(Preferences),
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

    /// Rows of conversations and preferences, each in a form of its own, since a file has one.
    const TALK: [&str; 5] = [
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0},{"role":"user","content":
            [{"type":"text","text":"c"},{"type":"text","text":"d"}]},{"role":"assistant","tool_calls":[{"id":"1","function":
            {"name":"f","arguments":{"z":1,"a":[2]}}}]}],"tools":[{"name":"f","parameters":{}}]} {"messages":[{"role":"bot",
            "content":""},{"role":"assistant"},3]} {"messages":[]}"#,
        r#"{"conversations":[{"from":"system","value":"s"},{"from":"gpt","value":"a","id":1},{"from":"human","value":"b"},
            {"from":"gpt","value":"c"}]} {"conversations":[{"from":"human","value":"a"}]}"#,
        r#"{"prompt":"a","completion":"b","instruction":"a","chosen":"c","rejected":"d"} {"prompt":" ","chosen":"d","rejected":"d"}"#,
        r#"{"instruction":"a","input":"b","output":"c","chosen":[{"role":"user","content":"a"},{"role":"assistant","content":
            "b"}],"rejected":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]} {"instruction":3,"chosen":[],
            "rejected":"a"}"#,
        r#"{"input":{"messages":[{"role":"user","content":"a"}]},"preferred_output":[{"role":"assistant","content":"b"}],
            "non_preferred_output":[{"role":"assistant","content":"c"}]} {"input":{},"preferred_output":3}"#,
    ];

    #[test]
    fn what_readers_find_is_that_of_their_version() {
        let single = ProblemType::SingleLabelClassification;
        let kinds = [single, ProblemType::MultiLabelClassification, ProblemType::Regression].map(DataKind::Labelled);
        let mut hasher = Sha256::new();
        let others = [DataKind::Images, DataKind::Texts, DataKind::Pairs, DataKind::Chats, DataKind::Preferences];
        for kind in kinds.into_iter().chain(others) {
            for rows in TALK {
                hasher.update(serde_json::to_vec(&read(rows.as_bytes(), DataFormat::Json, kind)).unwrap());
            }
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
            (5, "9a675e99a1dade4c78ef331f4361e17cadc619e116cdf013377e854a6d2479d9"),
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

    #[test]
    fn conversations_and_preferences_are_counted() {
        let report = read(TALK[0].as_bytes(), DataFormat::Json, DataKind::Chats);
        let chats = report.chats().unwrap();
        let messages: Vec<(&str, u64)> = chats.messages.iter().map(|(role, count)| (role.as_str(), *count)).collect();
        assert_eq!((report.examples, report.faults.count, messages), (1, 4, vec![("assistant", 2), ("user", 2)]));
        assert_eq!((chats.turns.max, chats.learned_messages, chats.with_tools, chats.tool_calls), (4, 1, 1, 1));
        // What is learned is the call; its tool counts among all texts.
        assert_eq!(chats.learned_characters, r#"f{"z":1,"a":[2]}"#.len() as u64);
        let tool = r#"{"type":"function","function":{"name":"f","parameters":{}}}"#;
        assert_eq!(report.text_lengths().max, 1 + 1 + 3 + chats.learned_characters + tool.len() as u64);
        let report = read(TALK[2].as_bytes(), DataFormat::Json, DataKind::Chats);
        let chats = report.chats().unwrap();
        assert_eq!((report.examples, chats.turns.texts(), chats.learned_characters), (1, 0, 1));
        for (rows, turns) in [(TALK[2], 0), (TALK[3], 1), (TALK[4], 1)] {
            let report = read(rows.as_bytes(), DataFormat::Json, DataKind::Preferences);
            let found = report.preferences().unwrap();
            assert_eq!((report.examples, found.turns.texts(), found.preferred_lengths.max), (1, turns, 1), "{rows}");
        }
    }

    #[test]
    fn uploads_that_look_like_conversations_or_preferences_are_read_as_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TALK[4]).unwrap();
        let input = Input::new(file.path(), DataFormat::Json);
        let (chats, preferences) = (of(DataKind::Chats), of(DataKind::Preferences));
        let there = ["input", "preferred_output", "non_preferred_output"];
        assert!(chats.inspect(&input, &there).unwrap().is_none());
        let report = preferences.inspect(&input, &there).unwrap().unwrap();
        assert_eq!((report.examples, report.faults.count), (1, 3));
        assert!(preferences.fits(DataFormat::Zip, &there).unwrap_err().contains("archive of images"));
        assert!(chats.fits(DataFormat::Csv, &["prompt", "completion"]).is_ok());
        assert_ne!(chats.upload_kind(), preferences.upload_kind());
    }
}
