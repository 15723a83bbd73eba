//! Fields of a `config.json` on its way into a GGUF file.

use serde_json::{Map, Value};

use super::config::MAX_SIZE;

/// Fields of `config.json`.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl Fields<'_> {
    /// A whole number; None if the field is absent or null.
    pub(super) fn count(self, name: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| format!("{name} of config.json is {value}, no whole number"))
    }

    /// A whole number within `1..=most`.
    pub(super) fn within(self, name: &str, default: Option<u64>, most: u64) -> Result<u64, String> {
        match self.count(name)?.or(default) {
            Some(size) if (1..=most).contains(&size) => Ok(size),
            Some(size) => Err(format!("{name} of config.json is {size}; supported: 1 to {most}")),
            None => Err(format!("config.json does not have {name}")),
        }
    }

    pub(super) fn size(self, name: &str, default: Option<u64>) -> Result<u64, String> {
        self.within(name, default, MAX_SIZE)
    }

    /// A number; None if the field is absent or null.
    pub(super) fn number(self, name: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| format!("{name} of config.json is {value}, no number"))
    }

    pub(super) fn flag(self, name: &str, default: bool) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    /// Refuses what the field says unless that is `allowed`, or nothing.
    pub(super) fn only(self, name: &str, allowed: &Value) -> Result<(), String> {
        match self.0.get(name) {
            Some(value) if value != allowed && !value.is_null() => {
                Err(format!("{name} of config.json is {value}; models are exported as GGUF with {allowed} alone"))
            }
            _ => Ok(()),
        }
    }
}
