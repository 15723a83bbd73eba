//! A row of a data file, whatever its format: JSON objects, CSV records and plain lines as fields by name.

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::MAX_LINE_BYTES;
use super::record::Record;
use super::tree::{Object, Tree};
use crate::domain::clip::{clipped, visible};
use crate::domain::report::Fault;

/// What is said of a field that is not there.
pub const MISSING: &str = "is missing";

/// The one field that a line of a plain text file has.
pub const LINE_FIELD: &str = "text";

/// One row, and the line on which it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub line: u64,
    pub(super) fields: Fields,
}

/// The fields of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fields {
    Json(Map<String, Value>),
    /// The same with values that are whole.
    Whole(Object),
    Csv {
        header: Rc<Record>,
        record: Record,
    },
    Line(String),
}

impl Row {
    /// The names of its fields; of a CSV file a name may stand more than once.
    pub fn names(&self) -> Vec<&str> {
        match &self.fields {
            Fields::Json(object) => object.keys().map(String::as_str).collect(),
            Fields::Whole(object) => object.keys().collect(),
            Fields::Csv { header, .. } => header.iter().collect(),
            Fields::Line(_) => vec![LINE_FIELD],
        }
    }

    /// Whether a header has named the fields of all rows.
    pub(super) fn has_header(&self) -> bool {
        matches!(self.fields, Fields::Csv { .. })
    }

    /// The field called `name`, as JSON; None where it is absent or null.
    pub fn get(&self, name: &str) -> Option<Cow<'_, Value>> {
        match &self.fields {
            Fields::Json(object) => object.get(name).filter(|value| !value.is_null()).map(Cow::Borrowed),
            Fields::Whole(object) => object.get(name).map(|tree| Cow::Owned(tree.value())),
            Fields::Csv { header, record } => {
                let place = header.iter().position(|column| column == name)?;
                record.get(place).map(|field| Cow::Owned(Value::String(field.to_owned())))
            }
            Fields::Line(line) => (name == LINE_FIELD).then(|| Cow::Owned(Value::String(line.clone()))),
        }
    }

    /// The field called `name`, as a tree; None where it is absent or null.
    pub(super) fn tree(&self, name: &str) -> Option<Cow<'_, Tree>> {
        match &self.fields {
            Fields::Whole(object) => object.get(name).map(Cow::Borrowed),
            Fields::Json(_) | Fields::Csv { .. } | Fields::Line(_) => {
                self.get(name).map(|value| Cow::Owned(Tree::from(&*value)))
            }
        }
    }

    /// A text that is not blank.
    pub fn text(&self, name: &str) -> Result<String, String> {
        let text = match self.get(name) {
            None => return Err(MISSING.to_owned()),
            Some(Cow::Owned(Value::String(text))) => text,
            Some(value) => match &*value {
                Value::String(text) => text.clone(),
                other => return Err(format!("must be a string, not {}", kind(other))),
            },
        };
        match blemish(&text) {
            Some(what) => Err(what.to_owned()),
            None => Ok(text),
        }
    }

    /// About how many bytes it holds.
    pub(super) fn weight(&self) -> usize {
        match &self.fields {
            Fields::Json(object) => object.iter().map(|(key, value)| key.len() + weight(value)).sum(),
            Fields::Whole(object) => object.weight(),
            Fields::Csv { record, .. } => record.bytes(),
            Fields::Line(line) => line.len(),
        }
    }

    /// What is wrong with one of its fields.
    pub(super) fn fault(&self, field: &str, message: impl Into<String>) -> Fault {
        Fault::new(self.line, Some(field), message)
    }
}

fn weight(value: &Value) -> usize {
    const ANY: usize = 32;
    match value {
        Value::String(text) => ANY + text.len(),
        Value::Array(items) => ANY + items.iter().map(weight).sum::<usize>(),
        Value::Object(object) => ANY + object.iter().map(|(key, value)| key.len() + weight(value)).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) => ANY,
    }
}

/// Why a text is none that is trained on.
pub(super) fn blemish(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() { Some(EMPTY) } else { text.contains('\0').then_some(NUL) }
}

/// What is said of a text that says nothing.
pub(super) const EMPTY: &str = "is empty";

/// What is said of one with a NUL character.
pub(super) const NUL: &str = "holds a NUL character, which no text has; the file may be damaged, or not in UTF-8";

/// The names in `there`, as a message shows them.
pub(super) fn listed(there: &[&str]) -> String {
    const MOST: usize = 20;
    let shown: Vec<String> = there.iter().take(MOST).map(|name| format!("\"{}\"", visible(&clipped(name)))).collect();
    let more = if there.len() > MOST { ", …" } else { "" };
    if shown.is_empty() { "none".to_owned() } else { format!("{}{more}", shown.join(", ")) }
}

pub(super) const NOT_UTF8: &str = "is not valid UTF-8";

pub(super) fn too_long() -> String {
    format!("is longer than {} MiB", MAX_LINE_BYTES >> 20)
}

/// What a JSON value is, as a message says it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
