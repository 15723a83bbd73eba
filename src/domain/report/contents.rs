//! What the examples of a data file are like, by the kind of data that they were read as.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chats::{ChatStatistics, PreferenceStatistics};
use super::counts::{Counts, Note};
use super::faults::{Fault, Faults};
use super::lengths::Lengths;

/// How many labels a report lists, the most frequent ones; the rest are only counted.
pub const LISTED_LABELS: usize = 1000;

static NO_LABELS: BTreeMap<String, u64> = BTreeMap::new();
static NO_TEXTS: Lengths = Lengths { min: 0, max: 0, mean: 0.0, histogram: BTreeMap::new() };

/// What a file of examples holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExamplesReport {
    /// How many are good.
    pub examples: u64,
    pub contents: Contents,
    /// Code of ISO 639-3 to how many of the texts looked at, some of a large file, are likely in that language; `und` to how
    /// many it could not be told of. Empty of images.
    pub languages: BTreeMap<String, u64>,
    pub faults: Faults,
    /// None in reports of before rows were counted.
    pub counts: Option<Box<Counts>>,
    pub notes: Vec<Note>,
}

/// What was counted of the good examples. Lengths are those of all texts of an example together.
#[derive(Clone, Debug, PartialEq)]
pub enum Contents {
    /// Texts or pairs of texts with labels.
    Labelled { labels: Labels, text_lengths: Lengths },
    /// Texts or pairs of texts with a value each.
    Valued { values: Values, text_lengths: Lengths },
    /// Images with one label each.
    Images { labels: Labels, images: ImageStatistics },
    /// Texts of which nothing is to be predicted: plain ones, and those that belong together.
    Texts { text_lengths: Lengths },
    /// Conversations to imitate, or texts that go on.
    Chats { chats: Box<ChatStatistics>, text_lengths: Lengths },
    /// Conversations, or texts, with two ways in which they may go on.
    Preferences { preferences: Box<PreferenceStatistics>, text_lengths: Lengths },
}

impl Default for Contents {
    fn default() -> Self {
        Self::Texts { text_lengths: Lengths::default() }
    }
}

impl Contents {
    fn labels_mut(&mut self) -> Option<&mut Labels> {
        match self {
            Self::Labelled { labels, .. } | Self::Images { labels, .. } => Some(labels),
            Self::Valued { .. } | Self::Texts { .. } | Self::Chats { .. } | Self::Preferences { .. } => None,
        }
    }

    fn labels(&self) -> Option<&Labels> {
        match self {
            Self::Labelled { labels, .. } | Self::Images { labels, .. } => Some(labels),
            Self::Valued { .. } | Self::Texts { .. } | Self::Chats { .. } | Self::Preferences { .. } => None,
        }
    }
}

impl ExamplesReport {
    /// One of a file in which nothing can be read for this reason.
    pub fn of_fault(fault: Fault) -> Self {
        let mut report = Self::default();
        report.faults.extend([fault]);
        report
    }

    /// Label to number of examples, as far as they are listed; empty where there are no labels.
    pub fn labels(&self) -> &BTreeMap<String, u64> {
        self.contents.labels().map_or(&NO_LABELS, |labels| &labels.listed)
    }

    /// The labels that are not listed, where there are any.
    pub fn other_labels(&self) -> Option<OtherLabels> {
        self.contents.labels().and_then(|labels| labels.others)
    }

    /// How many labels there are.
    pub fn label_count(&self) -> u64 {
        self.labels().len() as u64 + self.other_labels().map_or(0, |others| others.labels)
    }

    /// Lengths of the texts in characters; those of no texts where there are none.
    pub fn text_lengths(&self) -> &Lengths {
        match &self.contents {
            Contents::Labelled { text_lengths, .. }
            | Contents::Valued { text_lengths, .. }
            | Contents::Texts { text_lengths }
            | Contents::Chats { text_lengths, .. }
            | Contents::Preferences { text_lengths, .. } => text_lengths,
            Contents::Images { .. } => &NO_TEXTS,
        }
    }

    /// The values that are to be predicted, where that is what the file holds.
    pub fn values(&self) -> Option<Values> {
        if let Contents::Valued { values, .. } = &self.contents { Some(*values) } else { None }
    }

    /// What the images are like, where that is what the file holds.
    pub fn images(&self) -> Option<&ImageStatistics> {
        if let Contents::Images { images, .. } = &self.contents { Some(images) } else { None }
    }

    /// What conversations to imitate are like, where that is what the file holds.
    pub fn chats(&self) -> Option<&ChatStatistics> {
        if let Contents::Chats { chats, .. } = &self.contents { Some(chats) } else { None }
    }

    /// What preferences are like, where that is what the file holds.
    pub fn preferences(&self) -> Option<&PreferenceStatistics> {
        if let Contents::Preferences { preferences, .. } = &self.contents { Some(preferences) } else { None }
    }

    /// As it is kept and shown.
    #[must_use]
    pub fn capped(mut self) -> Self {
        if let Some(labels) = self.contents.labels_mut() {
            labels.cap();
        }
        self
    }
}

/// The labels of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Label to number of examples.
    pub listed: BTreeMap<String, u64>,
    /// Those that are not listed.
    pub others: Option<OtherLabels>,
}

impl Labels {
    /// Takes all but the most frequent labels off the list.
    fn cap(&mut self) {
        if self.listed.len() <= LISTED_LABELS {
            return;
        }
        let mut sorted: Vec<(String, u64)> = std::mem::take(&mut self.listed).into_iter().collect();
        // Stable, so equally frequent ones stay in the order of their names.
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let others = sorted.split_off(LISTED_LABELS);
        self.listed.extend(sorted);
        let examples = others.iter().map(|(_, count)| count).sum();
        self.others = Some(OtherLabels { labels: others.len() as u64, examples });
    }
}

/// What a report does not list of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherLabels {
    /// How many there are.
    pub labels: u64,
    /// The examples that have them, counted once for each.
    pub examples: u64,
}

/// The values that a regression is to predict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Values {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
}

impl Values {
    /// Counts one value; `count` is the number of values with it.
    pub fn add(&mut self, value: f64, count: u64) {
        self.min = if count == 1 { value } else { self.min.min(value) };
        self.max = if count == 1 { value } else { self.max.max(value) };
        self.mean += (value - self.mean) / count as f64;
    }
}

/// The least and the most of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinMax {
    pub min: u64,
    pub max: u64,
}

impl MinMax {
    /// Takes in a value; `first` says that there was none before.
    pub fn add(&mut self, value: u64, first: bool) {
        self.min = if first { value } else { self.min.min(value) };
        self.max = self.max.max(value);
    }
}

/// What the images of a file are like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStatistics {
    /// Widths in pixels, as the images are shown (EXIF orientation applied).
    pub widths: MinMax,
    /// Heights in pixels, likewise.
    pub heights: MinMax,
    /// How the images are written (`jpeg`, `png`, `webp`), and how many each.
    pub formats: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::{Contents, ExamplesReport, LISTED_LABELS, Labels, Lengths, MinMax, OtherLabels};

    #[test]
    fn labels_beyond_the_cap_are_counted_only() {
        let listed = (0..LISTED_LABELS as u64 + 7).map(|i| (format!("label {i:05}"), 1 + i % 2)).collect();
        let labels = Labels { listed, others: None };
        let contents = Contents::Labelled { labels, text_lengths: Lengths::default() };
        let report = ExamplesReport { contents, ..ExamplesReport::default() }.capped();
        assert_eq!((report.labels().len(), report.label_count()), (LISTED_LABELS, LISTED_LABELS as u64 + 7));
        // The rare ones are cut, the last in the order of their names.
        assert_eq!(report.other_labels(), Some(OtherLabels { labels: 7, examples: 7 }));
        assert!(report.labels().contains_key("label 01005") && !report.labels().contains_key("label 01006"));
        assert_eq!(report.clone().capped(), report);
    }

    #[test]
    fn a_range_starts_at_its_first_value() {
        let mut range = MinMax::default();
        for (i, value) in [5, 9, 3].into_iter().enumerate() {
            range.add(value, i == 0);
        }
        assert_eq!(range, MinMax { min: 3, max: 9 });
    }
}
