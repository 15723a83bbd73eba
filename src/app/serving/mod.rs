//! Trying a model: each one at work is a process of its own, started when it is asked for and stopped when
//! nobody asks any more.

mod beside;
mod classification;
mod generation;
mod host;
mod inputs;
mod pool;
mod question;
mod served;
mod slices;
mod waiting;

use std::fs;

pub use generation::{Texts, Told, Wanted};
pub use inputs::read_inputs;
pub use pool::Pool;

use self::classification::Classification;
use self::generation::Generation;
use self::served::{REQUEST, START};
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
    if model.facts.backbone.is_language_model() {
        let message = format!(
            "The model '{}' is a language model: POST /v1/chat/completions or /v1/completions asks it.",
            model.name
        );
        return Err(Error::invalid("model", message));
    }
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
    let (inquiry, pending) = Classification::new(input, top_k);
    app.serving.ask(app, project, &model, Box::new(inquiry)).await?;
    let predictions = pending.answer(START + REQUEST).await?;
    Ok((model, predictions))
}

/// The language model of that name.
///
/// # Errors
/// It does not exist, or is no language model.
pub async fn language_model(app: &App, project: ProjectId, name: &str) -> Result<Model> {
    let model = models::get(app, project, name).await?;
    if model.facts.backbone.is_language_model() {
        return Ok(model);
    }
    let message = format!(
        "The model '{}' is a {}, and writes no text: POST /v1/classifications asks classifiers.",
        model.name,
        model.facts.backbone.noun()
    );
    Err(Error::invalid("model", message))
}

/// Texts that a language model writes, and the tokens of each prompt: it has read them all when this returns.
///
/// # Errors
/// A prompt cannot be used, or no process is free.
pub async fn generate(app: &App, project: ProjectId, model: &Model, wanted: Wanted) -> Result<(Texts, Vec<usize>)> {
    let (inquiry, mut texts) = Generation::new(wanted, START + REQUEST);
    app.serving.ask(app, project, model, Box::new(inquiry)).await?;
    match texts.next().await? {
        Some(Told::Begun(prompts)) => Ok((texts, prompts)),
        _ => Err(Error::unavailable("the serving process ended before it had read the prompts")),
    }
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
