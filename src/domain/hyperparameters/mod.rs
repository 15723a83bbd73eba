//! Hyperparameters, each defined once: name, rule, default and meaning, those of every method in [`SHARED`], a method's own in its
//! file. The request parser, the API's echo, the check against openapi.yaml and the table of docs/hyperparameters.md come
//! from them.

pub(super) mod augmentation;
pub(super) mod definition;
mod objects;
pub(super) mod own;
mod resolve;
pub(super) mod settings;
mod shape;
pub(super) mod shared;

use serde_json::{Map, Value};

pub use augmentation::{Augmentation, ColorJitter, RandAugment, RandomResizedCrop};
pub use definition::{DefaultValue, Definition, Rule};
pub use objects::{
    Adapter, EarlyStopping, Freeze, FrozenLayers, Lora, LoraWord, NoneWord, Patience, Quantization, TargetModules,
    lora_scaling,
};
pub use own::Own;
pub use resolve::{DataFacts, Subject, resolve};
pub use settings::{Course, Hyperparameters, Interval, LrSchedule, Optimizer, OptimizerWord, Precision, Tuning};
pub use shared::SHARED;

use super::clip::{clipped, clipped_to};
use super::error::{Error, Result};
use super::method::{Method, ProblemType};

/// Hyperparameters as a client asked for them: only names of the method, only values within their rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requested(Map<String, Value>);

/// What a message shows of what is wrong with a value, in characters.
const WHY: usize = 200;

impl Requested {
    /// Checks a `hyperparameters` object that stands at `path` of the request.
    ///
    /// # Errors
    /// A name is unknown, a value breaks its rule, or two names exclude each other; the error names the JSON path.
    pub fn parse(method: Method, values: Map<String, Value>, path: &str) -> Result<Self> {
        for (name, value) in &values {
            let Some(definition) = definition(method, name) else {
                let known: Vec<&str> = definitions(method).map(|definition| definition.name).collect();
                let name = clipped(name);
                return Err(Error::invalid(
                    format!("{path}.{name}"),
                    format!("Unknown hyperparameter '{name}' for {method}. Known: {}.", known.join(", ")),
                ));
            };
            if let Err((below, why)) = definition.check(value) {
                let (below, why) = (clipped(&below), clipped_to(&why, WHY));
                let (dot, colon) = (if below.is_empty() { "" } else { "." }, if why.is_empty() { "" } else { ": " });
                let message = format!(
                    "Invalid value for '{name}': {}{colon}{below}{}{why}. Allowed: {}.",
                    shown(value),
                    if below.is_empty() { "" } else { " " },
                    definition.allowed()
                );
                return Err(Error::invalid(format!("{path}.{name}{dot}{below}"), message));
            }
        }
        let set = |name: &str| values.get(name).is_some_and(|value| value != "auto");
        if set("learning_rate") && set("learning_rate_multiplier") {
            return Err(Error::invalid(
                format!("{path}.learning_rate"),
                "'learning_rate' and 'learning_rate_multiplier' exclude each other; give one of them.",
            ));
        }
        Ok(Self(values))
    }

    /// Checks that nothing is asked for that only training has a use for.
    ///
    /// # Errors
    /// Something is; the error names the JSON path.
    pub fn check_evaluates(&self, method: Method, path: &str) -> Result<()> {
        let known: Vec<&str> = evaluated(method).map(|definition| definition.name).collect();
        let Some(name) = self.0.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
        let message = format!("'{name}' matters to training alone. An evaluation takes: {}.", known.join(", "));
        Err(Error::invalid(format!("{path}.{name}"), message))
    }

    /// Reads what was stored by [`Self::as_map`].
    pub fn from_stored(values: Map<String, Value>) -> Self {
        Self(values)
    }

    /// What a classifier shall predict, where the client says so.
    pub fn problem_type(&self) -> Option<ProblemType> {
        ProblemType::among(&self.0)
    }

    /// Whether the client leaves the value of `name` to us.
    pub fn is_auto(&self, name: &str) -> bool {
        self.0.get(name).is_none_or(|value| value == "auto")
    }

    /// The values by name.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The value of `name`, or its default; null where it has none.
    pub fn value(&self, definition: &Definition) -> Value {
        self.0.get(definition.name).cloned().unwrap_or_else(|| definition.default.value())
    }
}

/// The hyperparameters that a method takes: those of all, and its own, which may take the place of one of all.
pub fn definitions(method: Method) -> impl Iterator<Item = &'static Definition> {
    let own = method.card().own;
    let is_own = |name: &str| own.iter().any(|definition| definition.name == name);
    SHARED.iter().filter(move |shared| !is_own(shared.name)).chain(own)
}

/// Those of them that an evaluation depends on, too.
pub fn evaluated(method: Method) -> impl Iterator<Item = &'static Definition> {
    definitions(method).filter(|definition| definition.evaluates)
}

fn definition(method: Method, name: &str) -> Option<&'static Definition> {
    definitions(method).find(|definition| definition.name == name)
}

/// A value as an error message shows it: short, whatever was sent.
fn shown(value: &Value) -> String {
    clipped(&value.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::Requested;
    use crate::domain::method::Method;

    fn parse(values: Value) -> Result<Requested, (String, String)> {
        let Value::Object(values) = values else { panic!("an object") };
        Requested::parse(Method::TextClassification, values, "hyperparameters")
            .map_err(|error| (error.param.unwrap_or_default(), error.message))
    }

    #[test]
    fn values_within_their_rules_are_kept_as_sent() {
        let sent = json!({"n_epochs": "auto", "batch_size": 16, "learning_rate": 3e-4, "eval_interval": 50});
        assert_eq!(Value::Object(parse(sent.clone()).unwrap().as_map().clone()), sent);
        assert_eq!(parse(json!({})), Ok(Requested(Map::new())));
    }

    #[test]
    fn the_error_names_the_path_and_what_is_allowed() {
        for (sent, param, hint) in [
            (json!({"n_epoch": 3}), "hyperparameters.n_epoch", "Known: n_epochs"),
            (json!({"n_epochs": 0}), "hyperparameters.n_epochs", "\"auto\" or an integer from 1 to 50"),
            (json!({"n_epochs": 1.5}), "hyperparameters.n_epochs", "integer"),
            (json!({"batch_size": 257}), "hyperparameters.batch_size", "1 to 256"),
            (json!({"learning_rate": 0}), "hyperparameters.learning_rate", "above 0"),
            (json!({"learning_rate": "auto"}), "hyperparameters.learning_rate", "number"),
            (json!({"lr_schedule": "step"}), "hyperparameters.lr_schedule", "\"linear\", \"cosine\", \"constant\""),
            (json!({"eval_interval": "never"}), "hyperparameters.eval_interval", "\"epoch\" or"),
            (json!({"precision": true}), "hyperparameters.precision", "\"auto\", \"fp32\", \"tf32\", \"bf16\""),
            (json!({"label_smoothing": 1}), "hyperparameters.label_smoothing", "below 1"),
            (json!({"beta": 0.1}), "hyperparameters.beta", "Unknown hyperparameter"),
            (json!({"mlm_probability": 0.1}), "hyperparameters.mlm_probability", "Unknown hyperparameter"),
            (json!({"adapter": {"type": "lora", "r": 0}}), "hyperparameters.adapter.r", "r must be an integer from 1"),
            (json!({"adapter": "dora"}), "hyperparameters.adapter", "{type: \"lora\", r, alpha"),
            (json!({"freeze": {"layers": "two"}}), "hyperparameters.freeze.layers", "invalid type"),
            (json!({"early_stopping": {"metric": "x"}}), "hyperparameters.early_stopping.metric", "loss, accuracy"),
        ] {
            let (at, message) = parse(sent.clone()).unwrap_err();
            assert_eq!(at, param);
            assert!(message.contains(hint), "{sent}: {message}");
        }
    }

    #[test]
    fn learning_rate_excludes_its_multiplier() {
        let both = json!({"learning_rate": 1e-4, "learning_rate_multiplier": 2});
        assert!(parse(both).unwrap_err().1.contains("exclude"));
        assert!(parse(json!({"learning_rate": 1e-4, "learning_rate_multiplier": "auto"})).is_ok());
    }

    #[test]
    fn a_huge_value_is_cut_short_in_the_message() {
        let (_, message) = parse(json!({"n_epochs": "x".repeat(10_000)})).unwrap_err();
        assert!(message.len() < 300, "{}", message.len());
    }
}
