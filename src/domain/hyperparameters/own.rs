//! The hyperparameters that a method has of its own, by name: which they are and what they are like is the method's affair.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::error::{Error, Result};
use super::super::method::problem::ProblemType;
use super::definition::Definition;

/// Values by name. What was stored before a method had a hyperparameter has none of it, and may have those of other methods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Own(Map<String, Value>);

impl Own {
    /// As the method's own type has them.
    ///
    /// # Errors
    /// One is missing or of another type: the values are another method's.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.0.clone())).map_err(Error::internal)
    }

    /// Whether there is a value of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// With another value.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// With `value` where one is left to us.
    #[must_use]
    pub fn with_auto(mut self, name: &str, value: Value) -> Self {
        if self.0.get(name).is_none_or(|own| own == "auto") {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// Those that `T` has, written as it writes them; what is missing is as in `definitions`.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn settled<T: Serialize + DeserializeOwned>(mut self, definitions: &[Definition]) -> Result<Self> {
        for definition in definitions.iter().filter(|definition| !definition.auto) {
            self.0.entry(definition.name).or_insert_with(|| definition.default.value());
        }
        match serde_json::to_value(self.read::<T>()?) {
            Ok(Value::Object(values)) => Ok(Self(values)),
            other => Err(Error::internal(format!("settings of a method that are no object: {other:?}"))),
        }
    }

    /// What a classifier predicts, where the method lets one choose.
    pub fn problem_type(&self) -> Option<ProblemType> {
        ProblemType::among(&self.0)
    }
}
