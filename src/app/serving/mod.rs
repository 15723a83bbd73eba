//! Trying a classifier: each model at work is a process of its own, started when it is asked for and stopped when
//! nobody asks any more.

mod host;
mod pool;
mod served;
mod waiting;

use std::fs;

use serde_json::Value;

pub use pool::Pool;

use super::{App, models};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::id::ProjectId;
use crate::domain::model::{Model, ModelFile};
use crate::domain::serving::{DEFAULT_TOP_K, Input, MAX_INPUTS, MAX_TOP_K, Prediction};
use crate::process;

/// What is to be classified, and by whom.
#[derive(Debug)]
pub struct Classify {
    pub model: String,
    /// A text, a list of texts and pairs, or of images as data URLs.
    pub input: Value,
    pub top_k: Option<u64>,
}

/// What a model says of each input, in order.
///
/// # Errors
/// The model does not exist or is no classifier, an input cannot be used, or no process is free.
pub async fn classify(app: &App, project: ProjectId, request: Classify) -> Result<(Model, Vec<Prediction>)> {
    let model = models::get(app, project, &request.model).await?;
    let input = inputs(request.input, model.family.is_vision())?;
    let top_k = match request.top_k {
        None => DEFAULT_TOP_K,
        Some(count) if (1..=MAX_TOP_K as u64).contains(&count) => count as usize,
        Some(_) => return Err(Error::invalid("top_k", format!("top_k must be 1 to {MAX_TOP_K}."))),
    };
    let predictions = app.serving.ask(app, project, &model, input, top_k).await?;
    Ok((model, predictions))
}

/// Ends processes that an earlier life of this service left running, and removes their folders. The caller holds the
/// state directory.
pub fn clear(app: &App) {
    process::end_leftovers(&app.served());
    let _ = fs::remove_dir_all(app.served());
}

/// Checks the form of the inputs; each error names the place.
fn inputs(value: Value, is_vision: bool) -> Result<Vec<Input>> {
    let wanted = if is_vision {
        "an image as a data URL (\"data:image/png;base64,…\"), or a list of those"
    } else {
        "a text, or a list of texts and of pairs of texts"
    };
    let items = match value {
        Value::Array(items) => items,
        text @ Value::String(_) => vec![text],
        _ => return Err(Error::invalid("input", format!("input must be {wanted}."))),
    };
    if items.is_empty() || items.len() > MAX_INPUTS {
        let message = format!("input has {} items; 1 to {MAX_INPUTS} are allowed.", items.len());
        return Err(Error::invalid("input", message));
    }
    let refuse = |index: usize, what: &str| {
        let place = format!("input[{index}]");
        Err(Error::invalid(place.clone(), format!("{place} {what}.")))
    };
    let mut inputs = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let input = match item {
            Value::String(text) => Input::One(text),
            Value::Array(texts) if !is_vision => match <[Value; 2]>::try_from(texts) {
                Ok([Value::String(text), Value::String(pair)]) => Input::Pair(text, pair),
                _ => return refuse(index, "must be a text or a pair of texts"),
            },
            _ if is_vision => return refuse(index, "must be an image as a data URL"),
            _ => return refuse(index, "must be a text or a pair of texts"),
        };
        let is_empty = match &input {
            Input::One(text) => text.trim().is_empty(),
            Input::Pair(text, pair) => text.trim().is_empty() || pair.trim().is_empty(),
        };
        if is_empty {
            return refuse(index, "is empty");
        }
        inputs.push(input);
    }
    Ok(inputs)
}

/// Refuses a model that is no classifier, before anything of it is fetched.
async fn check_classifier(app: &App, model: &Model, files: &[ModelFile]) -> Result<()> {
    let refuse = |why: &str| {
        let message = format!("The model '{}' cannot classify: {why}.", model.name);
        Err(Error::invalid("model", message))
    };
    match models::head_of(app, model, files).await? {
        Ok(head) if head.method.supports(model.family) => Ok(()),
        Ok(_) => refuse("its config.json is of another family"),
        Err(why) => refuse(&why),
    }
}

/// Nothing can be served for now; the caller may try again.
fn busy(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Input, inputs};

    #[test]
    fn texts_pairs_and_images_are_told_apart() {
        assert_eq!(inputs(json!("a"), false).unwrap(), [Input::One("a".into())]);
        let mixed = inputs(json!(["a", ["b", "c"]]), false).unwrap();
        assert_eq!(mixed, [Input::One("a".into()), Input::Pair("b".into(), "c".into())]);
        assert_eq!(inputs(Value::from(vec!["x"; 256]), true).unwrap().len(), 256);
        for (value, is_vision, param, message) in [
            (json!(null), false, "input", "must be a text"),
            (json!({"text": "a"}), false, "input", "must be a text"),
            (json!([]), false, "input", "has 0 items; 1 to 256"),
            (Value::from(vec!["x"; 257]), false, "input", "has 257 items"),
            (json!(["a", "", "b"]), false, "input[1]", "is empty"),
            (json!([["a", " "]]), false, "input[0]", "is empty"),
            (json!(["a", ["b"]]), false, "input[1]", "a pair of texts"),
            (json!(["a", ["b", "c", "d"]]), false, "input[1]", "a pair of texts"),
            (json!([1]), false, "input[0]", "must be a text"),
            (json!([["a", "b"]]), true, "input[0]", "an image"),
            (json!(3), true, "input", "an image"),
        ] {
            let error = inputs(value.clone(), is_vision).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{value}");
            assert!(error.message.contains(message), "{value}: {}", error.message);
        }
    }
}
