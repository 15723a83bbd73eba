//! Reports as they are kept and sent: flat, with a field for whatever one of the kinds of data has.
//!
//! A report in this form does not say its kind. What has images is one of images, what has values one of values, and so on;
//! what has labels is one of labels, and what has none of them reads as texts, which is written the same way.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::chats::{ChatStatistics, PreferenceStatistics};
use super::contents::{Contents, ExamplesReport, ImageStatistics, Labels, MinMax, OtherLabels, Values};
use super::counts::{Counts, Note};
use super::faults::Faults;
use super::file::{Compression, DataFormat, Delimiter, FileReport, MethodUse, UploadKind};
use super::lengths::Lengths;

#[derive(Serialize, Deserialize)]
struct Flat<'a> {
    examples: u64,
    labels: Cow<'a, BTreeMap<String, u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other_labels: Option<OtherLabels>,
    text_lengths: Cow<'a, Lengths>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Values>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    images: Option<Cow<'a, ImageStatistics>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chats: Option<Cow<'a, ChatStatistics>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preferences: Option<Cow<'a, PreferenceStatistics>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    languages: Cow<'a, BTreeMap<String, u64>>,
    faults: Cow<'a, Faults>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counts: Option<Cow<'a, Counts>>,
    #[serde(default, skip_serializing_if = "<[Note]>::is_empty")]
    notes: Cow<'a, [Note]>,
}

impl<'a> From<&'a ExamplesReport> for Flat<'a> {
    fn from(report: &'a ExamplesReport) -> Self {
        Self {
            examples: report.examples,
            labels: Cow::Borrowed(report.labels()),
            other_labels: report.other_labels(),
            text_lengths: Cow::Borrowed(report.text_lengths()),
            values: report.values(),
            images: report.images().map(Cow::Borrowed),
            chats: report.chats().map(Cow::Borrowed),
            preferences: report.preferences().map(Cow::Borrowed),
            languages: Cow::Borrowed(&report.languages),
            faults: Cow::Borrowed(&report.faults),
            counts: report.counts.as_deref().map(Cow::Borrowed),
            notes: Cow::Borrowed(&report.notes),
        }
    }
}

impl Flat<'_> {
    fn labelled(self) -> ExamplesReport {
        let labels = Labels { listed: self.labels.into_owned(), others: self.other_labels };
        let text_lengths = self.text_lengths.into_owned();
        let contents = if let Some(images) = self.images {
            Contents::Images { labels, images: images.into_owned() }
        } else if let Some(values) = self.values {
            Contents::Valued { values, text_lengths }
        } else if let Some(chats) = self.chats {
            Contents::Chats { chats: Box::new(chats.into_owned()), text_lengths }
        } else if let Some(preferences) = self.preferences {
            Contents::Preferences { preferences: Box::new(preferences.into_owned()), text_lengths }
        } else {
            Contents::Labelled { labels, text_lengths }
        };
        ExamplesReport {
            examples: self.examples,
            contents,
            languages: self.languages.into_owned(),
            faults: self.faults.into_owned(),
            counts: self.counts.map(|counts| Box::new(counts.into_owned())),
            notes: self.notes.into_owned(),
        }
    }
}

impl From<Flat<'_>> for ExamplesReport {
    fn from(flat: Flat<'_>) -> Self {
        let report = flat.labelled();
        match report.contents {
            Contents::Labelled { labels, text_lengths } if labels.listed.is_empty() => {
                Self { contents: Contents::Texts { text_lengths }, ..report }
            }
            contents => Self { contents, ..report },
        }
    }
}

impl Serialize for ExamplesReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Flat::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ExamplesReport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Flat::deserialize(deserializer).map(Self::from)
    }
}

/// A report on images, as that on an upload has it: its statistics are not apart.
#[derive(Serialize, Deserialize)]
struct FlatImages<'a> {
    examples: u64,
    labels: Cow<'a, BTreeMap<String, u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other_labels: Option<OtherLabels>,
    widths: MinMax,
    heights: MinMax,
    formats: Cow<'a, BTreeMap<String, u64>>,
    faults: Cow<'a, Faults>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counts: Option<Cow<'a, Counts>>,
    #[serde(default, skip_serializing_if = "<[Note]>::is_empty")]
    notes: Cow<'a, [Note]>,
}

impl<'a> FlatImages<'a> {
    fn of(report: &'a ExamplesReport) -> Option<Self> {
        let ImageStatistics { widths, heights, formats } = report.images()?;
        Some(Self {
            examples: report.examples,
            labels: Cow::Borrowed(report.labels()),
            other_labels: report.other_labels(),
            widths: *widths,
            heights: *heights,
            formats: Cow::Borrowed(formats),
            faults: Cow::Borrowed(&report.faults),
            counts: report.counts.as_deref().map(Cow::Borrowed),
            notes: Cow::Borrowed(&report.notes),
        })
    }
}

impl From<FlatImages<'_>> for ExamplesReport {
    fn from(flat: FlatImages<'_>) -> Self {
        let FlatImages { widths, heights, formats, .. } = flat;
        let images = ImageStatistics { widths, heights, formats: formats.into_owned() };
        let labels = Labels { listed: flat.labels.into_owned(), others: flat.other_labels };
        let contents = Contents::Images { labels, images };
        Self {
            examples: flat.examples,
            contents,
            languages: BTreeMap::new(),
            faults: flat.faults.into_owned(),
            counts: flat.counts.map(|counts| Box::new(counts.into_owned())),
            notes: flat.notes.into_owned(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct FlatFile<'a> {
    format: DataFormat,
    rows: u64,
    faults: Cow<'a, Faults>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compression: Option<Compression>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delimiter: Option<Delimiter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counts: Option<Cow<'a, Counts>>,
    #[serde(default, skip_serializing_if = "<[Note]>::is_empty")]
    notes: Cow<'a, [Note]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text_classification: Option<Flat<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_classification: Option<FlatImages<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chats: Option<Flat<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preferences: Option<Flat<'a>>,
    /// Reports of the first versions have none.
    #[serde(default)]
    methods: Cow<'a, [MethodUse]>,
}

impl Serialize for FileReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let flat = FlatFile {
            format: self.format,
            rows: self.rows,
            faults: Cow::Borrowed(&self.faults),
            compression: self.compression,
            delimiter: self.delimiter,
            counts: self.counts.as_ref().map(Cow::Borrowed),
            notes: Cow::Borrowed(&self.notes),
            text_classification: self.read_as.get(&UploadKind::LabelledTexts).map(Flat::from),
            image_classification: self.read_as.get(&UploadKind::LabelledImages).and_then(FlatImages::of),
            chats: self.read_as.get(&UploadKind::Chats).map(Flat::from),
            preferences: self.read_as.get(&UploadKind::Preferences).map(Flat::from),
            methods: Cow::Borrowed(&self.methods),
        };
        flat.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FileReport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let flat = FlatFile::deserialize(deserializer)?;
        let texts = flat.text_classification.map(Flat::labelled);
        let images = flat.image_classification.map(ExamplesReport::from);
        let read_as = [
            (UploadKind::LabelledTexts, texts),
            (UploadKind::LabelledImages, images),
            (UploadKind::Chats, flat.chats.map(ExamplesReport::from)),
            (UploadKind::Preferences, flat.preferences.map(ExamplesReport::from)),
        ];
        Ok(Self {
            format: flat.format,
            rows: flat.rows,
            faults: flat.faults.into_owned(),
            compression: flat.compression,
            delimiter: flat.delimiter,
            counts: flat.counts.map(Cow::into_owned),
            notes: flat.notes.into_owned(),
            read_as: read_as.into_iter().filter_map(|(kind, report)| Some((kind, report?))).collect(),
            methods: flat.methods.into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::domain::report::{
        ChatStatistics, Contents, DataFormat, DataReport, ExamplesReport, FileReport, Lengths, OtherLabels,
        PreferenceStatistics, UploadKind,
    };

    /// Reports as an older version wrote them, whose types were as flat as this form.
    const WRITTEN_BEFORE: &str = include_str!("../../../tests/fixtures/reports_v1.json");

    fn written_before(of: &str) -> Vec<Value> {
        let all: Value = serde_json::from_str(WRITTEN_BEFORE).unwrap();
        let reports = all[of].as_array().unwrap().clone();
        assert!(reports.len() > 10);
        reports
    }

    #[test]
    fn reports_that_an_older_version_kept_are_read_and_written_as_they_were() {
        for kept in written_before("files") {
            let report: FileReport = serde_json::from_value(kept.clone()).unwrap();
            assert_eq!(serde_json::to_value(&report).unwrap(), kept);
        }
        for kept in written_before("jobs") {
            let report: DataReport = serde_json::from_value(kept.clone()).unwrap();
            assert_eq!(serde_json::to_value(&report).unwrap(), kept);
        }
    }

    #[test]
    fn every_kind_of_data_is_among_what_was_kept() {
        let jobs = written_before("jobs").into_iter().map(|kept| serde_json::from_value::<DataReport>(kept).unwrap());
        let mut found = [0; 4];
        for report in jobs {
            found[match report.training.contents {
                Contents::Labelled { .. } => 0,
                Contents::Valued { .. } => 1,
                Contents::Images { .. } => 2,
                Contents::Texts { .. } => 3,
                Contents::Chats { .. } | Contents::Preferences { .. } => panic!("older versions had none"),
            }] += 1;
        }
        assert!(found.iter().all(|&count| count > 0), "{found:?}");
    }

    #[test]
    fn labels_that_are_not_listed_are_written_and_need_not_be() {
        let written = json!({"examples": 3, "labels": {"a": 1}, "other_labels": {"labels": 2, "examples": 2},
            "text_lengths": {"min": 1, "max": 1, "mean": 1.0, "histogram": {"1": 3}}, "faults": {"count": 0, "listed": []}});
        let report: ExamplesReport = serde_json::from_value(written.clone()).unwrap();
        assert_eq!((report.label_count(), report.other_labels()), (3, Some(OtherLabels { labels: 2, examples: 2 })));
        assert_eq!(serde_json::to_value(&report).unwrap(), written);
        let mut older = written;
        older.as_object_mut().unwrap().remove("other_labels");
        let report: ExamplesReport = serde_json::from_value(older).unwrap();
        assert_eq!((report.label_count(), report.other_labels()), (1, None));
    }

    #[test]
    fn reports_on_conversations_and_preferences_are_read_as_they_were_written() {
        let mut turns = Lengths::default();
        turns.add(3, 1);
        let messages = [("user".to_owned(), 1), ("assistant".to_owned(), 2)].into();
        let chats = ChatStatistics { turns: turns.clone(), messages, learned_messages: 2, ..ChatStatistics::default() };
        let preferences =
            PreferenceStatistics { turns: turns.clone(), with_tools: 1, ..PreferenceStatistics::default() };
        let text_lengths = turns;
        for contents in [
            Contents::Chats { chats: Box::new(chats), text_lengths: text_lengths.clone() },
            Contents::Preferences { preferences: Box::new(preferences), text_lengths },
        ] {
            let report = ExamplesReport { examples: 1, contents, ..ExamplesReport::default() };
            let written = serde_json::to_value(&report).unwrap();
            assert_eq!(serde_json::from_value::<ExamplesReport>(written).unwrap(), report);
            for kind in [UploadKind::Chats, UploadKind::Preferences] {
                let file = FileReport { read_as: [(kind, report.clone())].into(), ..FileReport::of(DataFormat::Jsonl) };
                let written = serde_json::to_value(&file).unwrap();
                assert_eq!(serde_json::from_value::<FileReport>(written).unwrap(), file);
            }
        }
    }

    #[test]
    fn reports_of_before_uses_were_kept_still_read() {
        let report: FileReport =
            serde_json::from_str(r#"{"format": "csv", "rows": 1, "faults": {"count": 0, "listed": []}}"#).unwrap();
        assert!(report.is_readable() && report.methods.is_empty() && report.why_useless().is_none());
    }
}
