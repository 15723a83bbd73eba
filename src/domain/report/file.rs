//! What is known of a file from its bytes alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::contents::ExamplesReport;
use super::counts::{Counts, Note};
use super::faults::Faults;
use crate::domain::method::Method;

/// How a data file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// One JSON object per line.
    Jsonl,
    /// A JSON array of objects, or objects over several lines.
    Json,
    /// Delimiter-separated values (RFC 4180) with a header.
    Csv,
    /// One text per line.
    Text,
    /// Apache Parquet.
    Parquet,
    /// A zip archive of images, a folder for each class.
    Zip,
    /// The same as a tar archive, not compressed.
    Tar,
    /// None that is read.
    Unknown,
}

/// How a file of lines is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    Gzip,
    Zstd,
}

/// What stands between the fields of a CSV file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delimiter {
    #[serde(rename = ",")]
    Comma,
    #[serde(rename = ";")]
    Semicolon,
    #[serde(rename = "\t")]
    Tab,
    #[serde(rename = "|")]
    Pipe,
}

impl Delimiter {
    /// All of them, the likelier ones first.
    pub const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Pipe];

    /// The character.
    pub fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }

    /// What people call several of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Comma => "commas",
            Self::Semicolon => "semicolons",
            Self::Tab => "tabs",
            Self::Pipe => "vertical bars",
        }
    }
}

/// The kinds of data that an upload is read as at once where it looks like them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UploadKind {
    /// Texts with labels, where its keys or columns look like that.
    LabelledTexts,
    /// Images with labels: every archive, and JSONL with such keys.
    LabelledImages,
    /// Conversations to imitate, likewise.
    Chats,
    /// Preferences, likewise.
    Preferences,
}

/// Whether a file can be used for a method as it stands: with the usual names of columns, and none that a job gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodUse {
    pub method: Method,
    pub usable: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// What is known about a file from its bytes alone, found when it is uploaded.
#[derive(Clone, Debug, PartialEq)]
pub struct FileReport {
    pub format: DataFormat,
    /// Lines (JSONL), rows (CSV) or members (zip, tar) with data.
    pub rows: u64,
    /// Faults that make the file unreadable whatever it is used for.
    pub faults: Faults,
    /// How it is compressed, where it is.
    pub compression: Option<Compression>,
    /// What was found to stand between the fields, where it is CSV.
    pub delimiter: Option<Delimiter>,
    /// None in reports of before rows were counted.
    pub counts: Option<Counts>,
    pub notes: Vec<Note>,
    /// What reading it as the kinds of data found that it looks like.
    pub read_as: BTreeMap<UploadKind, ExamplesReport>,
    /// What it can be used for, by method; empty where it is unreadable, or was read before this was kept.
    pub methods: Vec<MethodUse>,
}

impl FileReport {
    /// One without anything in it.
    pub fn of(format: DataFormat) -> Self {
        Self {
            format,
            rows: 0,
            faults: Faults::default(),
            compression: None,
            delimiter: None,
            counts: None,
            notes: Vec::new(),
            read_as: BTreeMap::new(),
            methods: Vec::new(),
        }
    }

    /// Whether it can be read as data at all.
    pub fn is_readable(&self) -> bool {
        self.faults.is_empty()
    }

    /// Why no method can use the file as it stands, in a sentence; None where one can.
    pub fn why_useless(&self) -> Option<String> {
        if self.methods.is_empty() || self.methods.iter().any(|one| one.usable) {
            return None;
        }
        let reasons = self.methods.iter().filter_map(|one| Some(format!("{}: {}", one.method, one.reason.as_ref()?)));
        Some(format!("No method can use the file as it stands. {}", reasons.collect::<Vec<_>>().join(". ")))
    }
}
