//! Models: importing base models, reading and deleting.

mod adapter;
mod check;
mod facts;
mod folder;
mod gguf;
mod import;
mod stand_in;
mod upon;
mod values;

use std::path::Path;

pub use facts::{head, head_of, purpose, trained_length};
pub use import::Imported;
pub use upon::{below, served_from};

use super::App;
use super::objects::Object;
use crate::db::{self, models};
use crate::domain::clip::clipped_to;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::id::{ModelId, ProjectId};
use crate::domain::method::{METHODS, Method};
use crate::domain::model::{MODEL_NAME_CHARS, Model, ModelFile, ModelKind};
use crate::domain::project::Role;
use crate::store::StoreError;
use crate::telemetry::audit_operator;

/// Imports a base model from a directory in the Hugging Face layout, from a GGUF file, or from PEFT's folder with an adapter of a
/// base model that is here.
///
/// # Errors
/// What lies there is not a model that the engine can train, or the name is taken by other files.
pub async fn import(app: &App, path: &Path, name: &str) -> Result<Imported> {
    import::check_name(name)?;
    match import::adapter_in(path) {
        Some(folder) => adapter::import(app, &folder, name, None).await,
        None if path.is_file() => gguf::import(app, path, name).await,
        None => import::import(app, &import::Source { directory: path, shown: path, notes: Vec::new() }, name).await,
    }
}

/// Imports an adapter likewise, upon the base model called `base`, whatever the adapter says.
///
/// # Errors
/// As of [`import`]; or there is no adapter, or no such base model.
pub async fn import_upon(app: &App, path: &Path, name: &str, base: &str) -> Result<Imported> {
    import::check_name(name)?;
    let folder = import::adapter_in(path).ok_or_else(|| {
        Error::invalid("base", format!("{} holds no adapter, so it has no base model", path.display()))
    })?;
    adapter::import(app, &folder, name, Some(base)).await
}

/// All models that a project can see but checkpoints.
pub async fn list(app: &App, project: ProjectId) -> Result<Vec<Model>> {
    models::list(app.db.pool(), Some(project)).await
}

/// All base models.
pub async fn list_base(app: &App) -> Result<Vec<Model>> {
    models::list(app.db.pool(), None).await
}

/// The model of that name that a project can see.
///
/// # Errors
/// There is none.
pub async fn get(app: &App, project: ProjectId, name: &str) -> Result<Model> {
    // PostgreSQL's text cannot hold NUL, and no name has one.
    let possible = !name.contains('\0') && name.chars().count() <= MODEL_NAME_CHARS;
    let found = if possible { models::find(app.db.pool(), project, name).await? } else { None };
    match found {
        Some(model) => Ok(model),
        None => Err(not_found(name, &list_base(app).await?)),
    }
}

/// Refuses a method that cannot train or score the model: what is not to be `done` with it.
///
/// # Errors
/// Its backbone is another one, or the model lacks what the method needs.
pub fn check_method(model: &Model, method: Method, done: &str) -> Result<()> {
    let (backbone, name) = (model.facts.backbone, clipped_to(&model.name, NAME));
    let message = if !method.supports(backbone) {
        let fitting: Vec<&str> =
            METHODS.into_iter().filter(|method| method.supports(backbone)).map(Method::as_str).collect();
        format!(
            "The model '{name}' is a {} and cannot be {done} with the method '{method}'. Methods for it: {}.",
            backbone.noun(),
            fitting.join(", ")
        )
    } else if let Some(why) = model.facts.unfit.get(&method) {
        format!("The model '{name}' cannot be {done} with the method '{method}': {why}.")
    } else {
        return Ok(());
    };
    Err(Error::invalid("method.type", message))
}

/// What a message quotes of a model's name or a path, in characters.
const NAME: usize = 100;

/// No such model; whoever mistyped a name, or has just installed the service, is told what there is.
fn not_found(name: &str, base: &[Model]) -> Error {
    const SHOWN: usize = 5;
    let name = clipped_to(name, NAME);
    let shown: Vec<&str> = base.iter().take(SHOWN).map(|model| model.name.as_str()).collect();
    let there = match base.len() {
        0 => "There are no base models yet".to_owned(),
        count if count > SHOWN => format!("Base models: {} and {} more", shown.join(", "), count - SHOWN),
        _ => format!("Base models: {}", shown.join(", ")),
    };
    let message = format!(
        "The model '{name}' does not exist or you do not have access to it. {there}; \
         the operator adds one with 'finetuned models import DIRECTORY'."
    );
    Error::new(ErrorKind::NotFound, message).param("model").code("model_not_found")
}

/// Makes a project's model invisible at once, or a base model for an admin; its files go when no active job needs them.
///
/// # Errors
/// There is none of that name, or it is a base model and the key is no admin's.
pub async fn delete(app: &App, project: ProjectId, role: Role, name: &str) -> Result<Model> {
    let model = get(app, project, name).await?;
    if model.kind == ModelKind::Base && role != Role::Admin {
        let message = "Base models belong to the operator of this service; an admin's key is needed to delete one.";
        return Err(Error::new(ErrorKind::Forbidden, message).param("model").code("insufficient_permissions"));
    }
    let mut tx = app.db.begin().await?;
    models::delete(&mut *tx.connection(), model.id).await?;
    // So that its bytes go soon.
    db::hint(&mut *tx.connection(), None).await?;
    tx.commit().await?;
    Ok(model)
}

/// The same for the operator, of a base model; how many active jobs still use it, and keep its files until they end.
///
/// # Errors
/// There is none of that name.
pub async fn remove_base(app: &App, name: &str) -> Result<i64> {
    let found = models::find_base(app.db.pool(), name).await?;
    let model = found.ok_or_else(|| Error::invalid("name", format!("there is no base model called {name}")))?;
    models::delete(app.db.pool(), model.id).await?;
    audit_operator("remove_model", None, &model.name);
    models::count_active_jobs(app.db.pool(), model.id).await
}

/// The files of a model that belong to it, by path.
///
/// # Errors
/// There is no model of that name.
pub async fn files(app: &App, project: ProjectId, name: &str) -> Result<(Model, Vec<ModelFile>)> {
    let model = get(app, project, name).await?;
    let mut files = loaded_from(app, model.id).await?;
    files.retain(|file| !file.is_of_base());
    Ok((model, files))
}

/// One file of a model.
///
/// # Errors
/// There is no such model or file.
pub async fn file(app: &App, project: ProjectId, name: &str, path: &str) -> Result<(Model, ModelFile)> {
    let (model, files) = files(app, project, name).await?;
    let found = files.into_iter().find(|file| file.path == path).ok_or_else(|| {
        let message = format!("The model '{}' has no file '{}'.", clipped_to(name, NAME), clipped_to(path, NAME));
        Error::new(ErrorKind::NotFound, message).param("path")
    });
    Ok((model, found?))
}

/// The files of a model that the trainer loads it from: all but what serves resuming alone.
///
/// # Errors
/// The database is away.
pub async fn loaded_from(app: &App, id: ModelId) -> Result<Vec<ModelFile>> {
    let mut files = models::files(app.db.pool(), id).await?;
    files.retain(|file| !file.is_training_state());
    Ok(files)
}

/// Checks that a model's files are there with their sizes; what they hold is checked when they are fetched.
///
/// # Errors
/// One is not, or the store is away.
pub async fn check_sizes(app: &App, model: &Model, files: &[ModelFile]) -> Result<()> {
    for file in files {
        Object::of_model(model, file).check_size(app).await?;
    }
    Ok(())
}

/// Puts files of a model into a directory for the trainer.
///
/// # Errors
/// A file is missing from the store or damaged.
pub async fn fetch(app: &App, model: &Model, files: &[ModelFile], directory: &Path) -> Result<()> {
    for file in files {
        let target = directory.join(&file.path);
        if let Some(folder) = target.parent() {
            let made = tokio::fs::create_dir_all(folder).await;
            made.map_err(|source| StoreError::Io { key: file.path.clone(), source })?;
        }
        Object::of_model(model, file).fetch(app, &target).await?;
    }
    Ok(())
}
