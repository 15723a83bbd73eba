//! Models: importing base models, reading and deleting.

mod config;
mod facts;
mod import;

use std::path::Path;

pub use facts::{head_of, purpose, trained_length};
pub use import::{Imported, check_safetensors, import};

use super::App;
use crate::db::{models, queue};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::id::ProjectId;
use crate::domain::model::{Model, ModelFile, ModelKind, TRAINING_STATE_FOLDER};
use crate::store::{Store, StoreError};

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
    if name.contains('\0') {
        return Err(not_found(name));
    }
    models::find(app.db.pool(), project, name).await?.ok_or_else(|| not_found(name))
}

/// No such model.
pub fn not_found(name: &str) -> Error {
    let message = format!("The model '{name}' does not exist or you do not have access to it.");
    Error::new(ErrorKind::NotFound, message).param("model").code("model_not_found")
}

/// Makes a project's model invisible at once; its files go when no active job needs them.
///
/// # Errors
/// There is none of that name, or it is a base model.
pub async fn delete(app: &App, project: ProjectId, name: &str) -> Result<Model> {
    let model = get(app, project, name).await?;
    if model.kind == ModelKind::Base {
        let message = "Base models belong to the operator of this service and cannot be deleted through the API.";
        return Err(Error::new(ErrorKind::Forbidden, message).param("model").code("insufficient_permissions"));
    }
    let mut tx = app.db.begin().await?;
    models::delete(&mut *tx.connection(), model.id).await?;
    // So that its bytes go soon.
    queue::hint(&mut *tx.connection()).await?;
    tx.commit().await?;
    Ok(model)
}

/// The files of a model that belong to it, by path.
///
/// # Errors
/// There is no model of that name.
pub async fn files(app: &App, project: ProjectId, name: &str) -> Result<(Model, Vec<ModelFile>)> {
    let model = get(app, project, name).await?;
    let mut files = models::files(app.db.pool(), model.id).await?;
    files.retain(|file| !file.path.starts_with(TRAINING_STATE_FOLDER));
    Ok((model, files))
}

/// One file of a model.
///
/// # Errors
/// There is no such model or file.
pub async fn file(app: &App, project: ProjectId, name: &str, path: &str) -> Result<ModelFile> {
    let (_, files) = files(app, project, name).await?;
    files.into_iter().find(|file| file.path == path).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("The model '{name}' has no file '{path}'.")).param("path")
    })
}

/// Puts a model's files, training state included, into a directory for the trainer.
///
/// # Errors
/// A file is missing from the store or damaged.
pub async fn fetch(store: &Store, files: &[ModelFile], directory: &Path) -> Result<()> {
    for file in files {
        let target = directory.join(&file.path);
        if let Some(folder) = target.parent() {
            let made = tokio::fs::create_dir_all(folder).await;
            made.map_err(|source| StoreError::Io { key: file.path.clone(), source })?;
        }
        store.fetch(&file.object_key, file.sha256, &target).await?;
    }
    Ok(())
}
