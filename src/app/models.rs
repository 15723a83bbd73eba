//! Models: importing base models, reading and deleting.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::App;
use crate::db::models;
use crate::domain::Timestamp;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::id::{ModelId, ProjectId};
use crate::domain::model::{
    FAMILIES, Family, Model, ModelFacts, ModelFile, ModelKind, TRAINING_STATE_FOLDER, is_base_model_name,
};
use crate::store::{self, Store};

/// Endings of the files that belong to a model. Weights in pickles are never taken: reading them runs code.
const TAKEN: [&str; 5] = ["json", "safetensors", "txt", "model", "md"];

/// What importing found.
pub struct Imported {
    pub model: Model,
    /// False if the same files had been imported under this name before.
    pub new: bool,
    /// Files of the directory that were not taken.
    pub skipped: Vec<String>,
}

/// Imports a base model from a directory in the Hugging Face layout.
///
/// # Errors
/// The directory is not a model that the engine can train, or the name is taken by other files.
pub async fn import(app: &App, directory: &Path, name: &str) -> Result<Imported> {
    if !is_base_model_name(name) {
        let message = "a model's name is one or two segments (a/b) of letters, digits, dots, dashes and underscores";
        return Err(Error::invalid("name", message));
    }
    let (family, facts) = read_config(directory)?;
    let ModelDirectory { taken, skipped } = list_files(directory)?;
    for required in ["config.json", "tokenizer.json"] {
        if !taken.iter().any(|(path, _)| path == required) {
            return Err(unusable(directory, format!("it has no {required}")));
        }
    }
    let weights: Vec<&PathBuf> =
        taken.iter().filter(|(path, _)| path.ends_with(".safetensors")).map(|(_, full)| full).collect();
    if weights.is_empty() {
        return Err(unusable(directory, "it has no weights in .safetensors files"));
    }
    for path in weights {
        check_safetensors(path).map_err(|why| unusable(directory, why))?;
    }
    if let Some(model) = imported_before(app, name, &taken).await? {
        return Ok(Imported { new: false, model, skipped });
    }
    let id = ModelId::new();
    let mut files = Vec::with_capacity(taken.len());
    for (path, full) in taken {
        let object_key = format!("models/{}/{path}", id.0.simple());
        let stored = app.store.put_copy(&object_key, &full).await?;
        files.push(ModelFile { path, bytes: stored.bytes, sha256: stored.sha256, object_key });
    }
    let model = Model {
        id,
        project: None,
        name: name.to_owned(),
        kind: ModelKind::Base,
        family,
        facts,
        job: None,
        created_at: Timestamp::now_utc(),
    };
    let mut tx = app.db.begin().await?;
    models::insert(tx.connection(), &model, &files).await?;
    tx.commit().await?;
    Ok(Imported { model, new: true, skipped })
}

/// The model of that name if it has the very same files.
///
/// # Errors
/// It has others.
async fn imported_before(app: &App, name: &str, taken: &[(String, PathBuf)]) -> Result<Option<Model>> {
    let Some(existing) = models::find_base(app.db.pool(), name).await? else { return Ok(None) };
    let stored = models::files(app.db.pool(), existing.id).await?;
    let mut same = stored.len() == taken.len();
    for (file, (path, full)) in stored.iter().zip(taken) {
        same = same && file.path == *path && file.sha256 == store::hash_file(full).await?.sha256;
    }
    if same {
        return Ok(Some(existing));
    }
    let message = format!("a model called {name} exists with other files; choose another name");
    Err(Error::new(ErrorKind::Conflict, message).param("name"))
}

fn unusable(directory: &Path, why: impl std::fmt::Display) -> Error {
    Error::invalid("directory", format!("{} is no usable model: {why}", directory.display()))
}

/// What `config.json` says about a model; fields that its family does not need may be absent.
#[derive(Deserialize)]
struct ConfigFile {
    model_type: Option<String>,
    hidden_size: Option<u32>,
    max_position_embeddings: Option<u32>,
}

fn read_config(directory: &Path) -> Result<(Family, ModelFacts)> {
    let text = std::fs::read(directory.join("config.json"))
        .map_err(|error| unusable(directory, format!("config.json cannot be read: {error}")))?;
    let config: ConfigFile =
        serde_json::from_slice(&text).map_err(|error| unusable(directory, format!("config.json: {error}")))?;
    let word = config.model_type.unwrap_or_default();
    let family: Family = word.parse().map_err(|()| {
        let known = FAMILIES.map(Family::as_str).join(", ");
        unusable(directory, format!("config.json has model_type \"{word}\"; supported: {known}"))
    })?;
    let field =
        |value: Option<u32>, name: &str| value.ok_or_else(|| unusable(directory, format!("config.json has no {name}")));
    let facts = ModelFacts {
        hidden_size: field(config.hidden_size, "hidden_size")?,
        max_positions: field(config.max_position_embeddings, "max_position_embeddings")?,
    };
    Ok((family, facts))
}

/// The files of a model directory.
struct ModelDirectory {
    /// Those that belong to the model, with their full paths, sorted.
    taken: Vec<(String, PathBuf)>,
    /// The others.
    skipped: Vec<String>,
}

fn list_files(directory: &Path) -> Result<ModelDirectory> {
    let (mut taken, mut skipped) = (Vec::new(), Vec::new());
    let entries = std::fs::read_dir(directory).map_err(|error| unusable(directory, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unusable(directory, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Followed, since model caches keep a directory of links.
        let is_file = std::fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file());
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if is_file && TAKEN.contains(&ending) && !name.starts_with('.') {
            taken.push((name, entry.path()));
        } else {
            skipped.push(name);
        }
    }
    taken.sort();
    skipped.sort();
    Ok(ModelDirectory { taken, skipped })
}

/// Checks a safetensors file's header without reading the tensors.
fn check_safetensors(path: &Path) -> std::result::Result<(), String> {
    use std::io::Read;
    const LONGEST_HEADER: u64 = 100 << 20;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bad = |why: &str| format!("{name} is no safetensors file: {why}");
    let mut file = std::fs::File::open(path).map_err(|error| bad(&error.to_string()))?;
    let size = file.metadata().map_err(|error| bad(&error.to_string()))?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| bad("it is too short"))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER || length + 8 > size {
        return Err(bad("its header does not fit"));
    }
    let mut header = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact(&mut header).map_err(|_| bad("it is too short"))?;
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&header)
        .map(drop)
        .map_err(|_| bad("its header is no JSON object"))
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
    models::delete(app.db.pool(), model.id).await?;
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
            tokio::fs::create_dir_all(folder).await.map_err(Error::internal)?;
        }
        store.fetch(&file.object_key, file.sha256, &target).await?;
    }
    Ok(())
}
