//! Fields that many bodies have.

use crate::domain::error::{Error, Result};
use crate::domain::model::MODEL_NAME_CHARS;

/// A text of at most `most` characters.
///
/// # Errors
/// It has more.
pub(super) fn bounded(name: &str, value: Option<String>, most: usize) -> Result<Option<String>> {
    let length = value.as_ref().map_or(0, |text| text.chars().count());
    if length <= most {
        return Ok(value);
    }
    Err(Error::invalid(name, format!("'{name}' has {length} characters; at most {most} are allowed.")))
}

/// A text of at most `most` characters, which must be there.
///
/// # Errors
/// It is not, or it has more.
pub(super) fn filled(name: &str, value: Option<String>, most: usize) -> Result<String> {
    bounded(name, value, most)?.filter(|text| !text.is_empty()).ok_or_else(|| missing(name))
}

/// The name of a model or the id of a file, which must be there.
///
/// # Errors
/// It is not, or it is longer than any.
pub(super) fn required(name: &str, value: Option<String>) -> Result<String> {
    filled(name, value, MODEL_NAME_CHARS)
}

/// What is said of a field that must be there and is not.
pub(super) fn missing(name: &str) -> Error {
    Error::invalid(name, format!("Missing required parameter: '{name}'.")).code("missing_required_parameter")
}
