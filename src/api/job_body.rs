//! The body of a job request: OpenAI's fields and ours, from JSON to the types of `app::jobs`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::dataset_body::DatasetBody;
use super::fields::{bounded, required};
use crate::app::jobs::CreateJob;
use crate::domain::clip::clipped;
use crate::domain::error::{Error, Result};
use crate::domain::method::Method;
use crate::domain::model::MODEL_NAME_CHARS;

/// As sent. Any field may be null, which is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateJobBody {
    model: Option<String>,
    training_file: Option<String>,
    validation_file: Option<String>,
    test_file: Option<String>,
    method: Option<Map<String, Value>>,
    hyperparameters: Option<Map<String, Value>>,
    dataset: Option<DatasetBody>,
    suffix: Option<String>,
    seed: Option<i64>,
    metadata: Option<BTreeMap<String, String>>,
    integrations: Option<Vec<Value>>,
    /// Whether to answer what the job would be, and create nothing.
    pub(super) dry_run: Option<bool>,
}

impl CreateJobBody {
    /// Checks what JSON types cannot say.
    ///
    /// # Errors
    /// Something is missing, unknown or given twice; the error names it.
    pub(super) fn into_request(self) -> Result<CreateJob> {
        if self.integrations.is_some_and(|list| !list.is_empty()) {
            let message = "Integrations are not supported; metrics are at /v1/fine_tuning/jobs/{id}/metrics.";
            return Err(Error::invalid("integrations", message));
        }
        let (method, hyperparameters, path) = method(self.method, self.hyperparameters)?;
        let dataset = self.dataset.map(DatasetBody::into_options).transpose()?.unwrap_or_default();
        Ok(CreateJob {
            model: required("model", self.model)?,
            training_file: required("training_file", self.training_file)?,
            validation_file: bounded("validation_file", self.validation_file, MODEL_NAME_CHARS)?,
            test_file: bounded("test_file", self.test_file, MODEL_NAME_CHARS)?,
            method,
            hyperparameters,
            hyperparameters_path: path,
            dataset,
            suffix: self.suffix,
            seed: self.seed,
            metadata: self.metadata,
        })
    }
}

/// The method, its hyperparameters, and where those stand: in the method's own object, or, as OpenAI once had it, at
/// the top.
pub(super) fn method(
    method: Option<Map<String, Value>>,
    top_level: Option<Map<String, Value>>,
) -> Result<(Option<Method>, Map<String, Value>, String)> {
    let top = || (without_nulls(top_level.clone().unwrap_or_default()), "hyperparameters".to_owned());
    let Some(mut body) = method else {
        let (values, path) = top();
        return Ok((None, values, path));
    };
    let word = match body.remove("type") {
        Some(Value::String(word)) => word,
        Some(_) => return Err(Error::invalid("method.type", "'method.type' must be a string.")),
        None => return Err(Error::invalid("method.type", "Missing required parameter: 'method.type'.")),
    };
    let method = Method::parse(&word)?;
    let own = body.remove(&word).filter(|own| !own.is_null());
    if let Some((other, _)) = body.into_iter().find(|(_, value)| !value.is_null()) {
        let other = clipped(&other);
        let message = format!("'method.{other}' does not belong to the method '{word}'.");
        return Err(Error::invalid(format!("method.{other}"), message));
    }
    let at = format!("method.{word}");
    let Some(own) = own else {
        let (values, path) = top();
        return Ok((Some(method), values, path));
    };
    let Value::Object(mut own) = own else {
        return Err(Error::invalid(at.clone(), format!("'{at}' must be an object.")));
    };
    let values = own.remove("hyperparameters").unwrap_or_default();
    if let Some((other, _)) = own.into_iter().find(|(_, value)| !value.is_null()) {
        let path = format!("{at}.{}", clipped(&other));
        return Err(Error::invalid(path.clone(), format!("Unrecognized request argument supplied: {path}")));
    }
    let path = format!("{at}.hyperparameters");
    let values = match values {
        Value::Null => Map::new(),
        Value::Object(values) => without_nulls(values),
        _ => return Err(Error::invalid(path.clone(), format!("'{path}' must be an object."))),
    };
    if top_level.is_some_and(|top| !without_nulls(top).is_empty()) {
        let message = format!("Hyperparameters stand both at the top and in '{path}'; give them in one place.");
        return Err(Error::invalid("hyperparameters", message));
    }
    Ok((Some(method), values, path))
}

fn without_nulls(mut values: Map<String, Value>) -> Map<String, Value> {
    values.retain(|_, value| !value.is_null());
    values
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::CreateJobBody;
    use crate::app::jobs::CreateJob;

    fn read(extra: Value) -> Result<CreateJob, (String, String)> {
        let mut body = json!({"model": "m", "training_file": "f"});
        if let (Value::Object(body), Value::Object(extra)) = (&mut body, extra) {
            body.extend(extra);
        }
        let body: CreateJobBody = serde_json::from_value(body).unwrap();
        body.into_request().map_err(|error| (error.param.unwrap_or_default(), error.message))
    }

    #[test]
    fn hyperparameters_are_found_in_both_places() {
        let old = read(json!({"hyperparameters": {"n_epochs": 2, "batch_size": null}})).unwrap();
        assert_eq!((old.method, old.hyperparameters_path.as_str()), (None, "hyperparameters"));
        assert_eq!(Value::Object(old.hyperparameters), json!({"n_epochs": 2}));
        let method =
            json!({"type": "text_classification", "text_classification": {"hyperparameters": {"n_epochs": 2}}});
        let new = read(json!({"method": method, "hyperparameters": {}})).unwrap();
        assert_eq!(new.hyperparameters_path, "method.text_classification.hyperparameters");
        assert_eq!(Value::Object(new.hyperparameters), json!({"n_epochs": 2}));
    }

    #[test]
    fn what_does_not_belong_is_named() {
        for (extra, param) in [
            (json!({"method": {}}), "method.type"),
            (json!({"method": {"type": 3}}), "method.type"),
            (json!({"method": {"type": "reinforcement"}}), "method.type"),
            (json!({"method": {"type": "text_classification", "dpo": {}}}), "method.dpo"),
            (
                json!({"method": {"type": "text_classification", "text_classification": []}}),
                "method.text_classification",
            ),
            (
                json!({"method": {"type": "text_classification", "text_classification": {"grader": {}}}}),
                "method.text_classification.grader",
            ),
            (
                json!({"method": {"type": "text_classification", "text_classification": {"hyperparameters": 1}}}),
                "method.text_classification.hyperparameters",
            ),
            (
                json!({"hyperparameters": {"n_epochs": 1}, "method": {"type": "text_classification",
                       "text_classification": {"hyperparameters": {"n_epochs": 1}}}}),
                "hyperparameters",
            ),
            (json!({"integrations": [{"type": "wandb"}]}), "integrations"),
            (json!({"model": null}), "model"),
            (json!({"training_file": ""}), "training_file"),
        ] {
            assert_eq!(read(extra.clone()).unwrap_err().0, param, "{extra}");
        }
    }
}
