//! `dataset` of the requests that name data files.

use serde::Deserialize;

use super::fields::bounded;
use crate::dataset::MAX_LABELS;
use crate::dataset::label::LABEL_CHARS;
use crate::domain::error::{Error, Result};
use crate::domain::job::{COLUMN_CHARS, DatasetOptions, LabelSeparator, OtherFiles, OverlapPolicy, ReadOptions};
use crate::domain::report::Delimiter;

/// As sent. Any field may be null, which is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatasetBody {
    text_column: Option<String>,
    label_column: Option<String>,
    delimiter: Option<Delimiter>,
    label_separator: Option<LabelSeparator>,
    label_names: Option<Vec<String>>,
    other_files: Option<OtherFiles>,
    validation_split: Option<f64>,
    overlap: Option<OverlapPolicy>,
}

impl DatasetBody {
    /// What a job says of its data.
    ///
    /// # Errors
    /// A name is too long, or there are too many.
    pub(super) fn into_options(self) -> Result<DatasetOptions> {
        let (validation_split, overlap) = (self.validation_split, self.overlap);
        Ok(DatasetOptions { validation_split, overlap, read: self.into_read()? })
    }

    /// What of it is about reading, where nothing is split.
    ///
    /// # Errors
    /// As above, or it says more.
    pub(super) fn read_only(self) -> Result<ReadOptions> {
        let unknown = [("validation_split", self.validation_split.is_some()), ("overlap", self.overlap.is_some())];
        if let Some((name, _)) = unknown.into_iter().find(|(_, given)| *given) {
            let message = format!("Unrecognized request argument supplied: {name}");
            return Err(Error::invalid(name, message).code("unknown_parameter"));
        }
        self.into_read()
    }

    fn into_read(self) -> Result<ReadOptions> {
        Ok(ReadOptions {
            text_column: bounded("dataset.text_column", self.text_column, COLUMN_CHARS)?,
            label_column: bounded("dataset.label_column", self.label_column, COLUMN_CHARS)?,
            delimiter: self.delimiter,
            label_separator: self.label_separator,
            label_names: self.label_names.map(label_names).transpose()?,
            other_files: self.other_files,
        })
    }
}

fn label_names(names: Vec<String>) -> Result<Vec<String>> {
    const FIELD: &str = "dataset.label_names";
    let refuse = |message: String| Err(Error::invalid(FIELD, message));
    if !(2..=MAX_LABELS).contains(&names.len()) {
        return refuse(format!("'{FIELD}' has {} names; from 2 to {MAX_LABELS} are allowed.", names.len()));
    }
    if let Some(long) = names.iter().position(|name| name.chars().count() > LABEL_CHARS || name.trim().is_empty()) {
        return refuse(format!("'{FIELD}[{long}]' must have from 1 to {LABEL_CHARS} characters."));
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => refuse(format!("'{FIELD}' holds \"{}\" more than once.", pair[0])),
        None => Ok(names),
    }
}
