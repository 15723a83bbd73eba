//! What is to be predicted of a row.

use serde_json::Value;

use super::Target;
use super::cells;
use super::schema::Form;
use crate::dataset::MAX_LABELS;
use crate::dataset::label::{Spelling, label, of_value};
use crate::dataset::row::{MISSING, Row, kind};
use crate::domain::clip::clipped;
use crate::domain::job::LabelSeparator;

/// What is to be predicted, and whether a label stands otherwise in the file.
///
/// # Errors
/// What is wrong with the field `name`, in words for the file's owner.
pub(super) fn target(
    row: &Row,
    name: &str,
    form: &Form,
    separator: Option<LabelSeparator>,
) -> Result<(Target, bool), String> {
    let value = row.get(name).ok_or(MISSING)?;
    match form {
        Form::One(spelling) => of_value(&value, spelling).map(|label| (Target::Class(label.text), label.is_tidied)),
        Form::Several { spelling, or_one } => several(&value, spelling, *or_one, separator),
        Form::MultiHot(names) => multi_hot(&value, names).map(|labels| (Target::Classes(labels), false)),
        Form::Number => value_of(&value, row).map(|number| (Target::Value(number), false)),
    }
}

fn several(
    value: &Value,
    spelling: &Spelling,
    or_one: bool,
    separator: Option<LabelSeparator>,
) -> Result<(Target, bool), String> {
    let parsed;
    let items: &[Value] = match (value, separator) {
        (Value::Array(items), _) => items,
        (object @ Value::Object(_), _) if cells::choices(object).is_some() => {
            cells::choices(object).unwrap_or_default()
        }
        (Value::String(text), separator) => {
            parsed = match (cells::list(text), separator) {
                (Some(items), _) => items,
                (None, Some(separator)) => split(text, separator),
                (None, None) if or_one => vec![value.clone()],
                (None, None) => return Err(no_list(value)),
            };
            &parsed
        }
        (Value::Number(_) | Value::Bool(_), _) if or_one => std::slice::from_ref(value),
        (other, _) => return Err(no_list(other)),
    };
    if items.len() > MAX_LABELS {
        return Err(format!("has more than {MAX_LABELS} labels"));
    }
    let labels = items.iter().map(|item| of_value(item, spelling)).collect::<Result<Vec<_>, _>>()?;
    let is_tidied = labels.iter().any(|label| label.is_tidied);
    let mut labels: Vec<String> = labels.into_iter().map(|label| label.text).collect();
    labels.sort();
    labels.dedup();
    Ok((Target::Classes(labels), is_tidied))
}

fn no_list(value: &Value) -> String {
    format!(
        "must be a list of labels, not {}; write [\"a\", \"b\"], or name what stands between labels in \
         dataset.label_separator",
        kind(value)
    )
}

/// The labels between separators; a text of none has no labels. White space around them is no part of them.
fn split(text: &str, separator: LabelSeparator) -> Vec<Value> {
    let parts = text.split(separator.char()).map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Value::String(part.to_owned())).collect()
}

/// The names of the places that hold 1.
fn multi_hot(value: &Value, names: &[String]) -> Result<Vec<String>, String> {
    let parsed;
    let items: &[Value] = match value {
        Value::Array(items) => items,
        Value::String(text) => {
            parsed = cells::list(text).ok_or_else(|| no_list(value))?;
            &parsed
        }
        other => return Err(no_list(other)),
    };
    if items.len() != names.len() {
        return Err(format!("has {} places where dataset.label_names has {} names", items.len(), names.len()));
    }
    let mut labels = Vec::new();
    for (item, name) in items.iter().zip(names) {
        match (item.as_bool(), item.as_f64()) {
            (Some(true), _) | (_, Some(1.0)) => labels.push(label(name)?.text),
            (Some(false), _) | (_, Some(0.0)) => {}
            _ => return Err("must hold only 0 and 1, as the other rows do".to_owned()),
        }
    }
    labels.sort();
    Ok(labels)
}

fn no_number(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let point =
        if text.contains(',') { "; decimals have a point, and thousands no separator, as in 1234.5" } else { "" };
    format!("is no number: \"{}\"{point}", clipped(&text))
}

/// A number to be predicted.
fn value_of(value: &Value, row: &Row) -> Result<f64, String> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if row.has_header() => text.trim().parse().ok(),
        other => return Err(format!("must be a number, not {}", kind(other))),
    };
    // In float32, as the model computes.
    number.filter(|number| (*number as f32).is_finite()).ok_or_else(|| no_number(value))
}
