//! Trying a classifier: each model at work is a process of its own, started when it is asked for and stopped when
//! nobody asks any more.

mod host;
mod inputs;
mod pool;
mod question;
mod served;
mod waiting;

use std::fs;

pub use inputs::read_inputs;
pub use pool::Pool;

use super::{App, models};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::id::ProjectId;
use crate::domain::model::{Model, ModelFile};
use crate::domain::serving::{DEFAULT_TOP_K, Input, MAX_TOP_K, Prediction};
use crate::process;

/// Models at work, at most so many at once.
pub fn pool(most: usize) -> Pool {
    Pool::new(most, host::start)
}

/// A request to classify, but for its inputs.
#[derive(Debug)]
pub struct Classify {
    pub model: String,
    pub top_k: Option<u64>,
}

/// The model that is to classify, for whom, and how many labels are wanted of each input.
#[derive(Debug)]
pub struct Chosen {
    pub project: ProjectId,
    pub model: Model,
    pub top_k: usize,
}

/// What a request asks for, checked before its inputs are read.
///
/// # Errors
/// The model does not exist, or a number is not allowed.
pub async fn choose(app: &App, project: ProjectId, request: Classify) -> Result<Chosen> {
    let model = models::get(app, project, &request.model).await?;
    let top_k = match request.top_k {
        None => DEFAULT_TOP_K,
        Some(count) if (1..=MAX_TOP_K as u64).contains(&count) => count as usize,
        Some(_) => return Err(Error::invalid("top_k", format!("top_k must be 1 to {MAX_TOP_K}."))),
    };
    Ok(Chosen { project, model, top_k })
}

/// What the model says of each input, in order.
///
/// # Errors
/// The model is no classifier, an input cannot be used, or no process is free.
pub async fn classify(app: &App, chosen: Chosen, input: Vec<Input>) -> Result<(Model, Vec<Prediction>)> {
    let Chosen { project, model, top_k } = chosen;
    let predictions = app.serving.ask(app, project, &model, input, top_k).await?;
    Ok((model, predictions))
}

/// Ends processes that an earlier life of this service left running, and removes their folders. The caller holds the
/// state directory.
pub fn clear(app: &App) {
    process::end_leftovers(&app.served());
    let _ = fs::remove_dir_all(app.served());
}

/// Refuses a model that is no classifier, before anything of it is fetched.
async fn check_classifier(app: &App, model: &Model, files: &[ModelFile]) -> Result<()> {
    let refuse = |why: &str| {
        let message = format!("The model '{}' cannot classify: {why}.", model.name);
        Err(Error::invalid("model", message))
    };
    match models::head_of(app, model, files).await? {
        Ok(head) if head.method.supports(model.facts.backbone) => Ok(()),
        Ok(_) => refuse("its config.json is of another kind of model"),
        Err(why) => refuse(&why),
    }
}

/// Nothing can be served for now; the caller may try again.
fn busy(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}
