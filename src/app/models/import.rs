//! Importing base models.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::check::check;
use super::facts::MAX_CONFIG;
use super::folder::{Folder, TOKENIZER};
use super::values::spoilt;
use crate::app::App;
use crate::db::models;
use crate::domain::Timestamp;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::id::ModelId;
use crate::domain::model::{
    ADAPTER_CONFIG, ADAPTER_FOLDER, Checked, Model, ModelFacts, ModelFile, ModelKind, base_model_name_near,
    is_base_model_name,
};
use crate::store;
use crate::telemetry::audit_operator;

/// What importing found.
pub struct Imported {
    pub model: Model,
    /// False if the same files had been imported under this name before.
    pub new: bool,
    /// Files of the directory that were not taken, with the reason where their names would have been right.
    pub skipped: Vec<String>,
}

/// Where a model is imported from.
pub(super) struct Source<'a> {
    /// In the Hugging Face layout.
    pub(super) directory: &'a Path,
    /// What the operator named.
    pub(super) shown: &'a Path,
    /// What there is to say of how it came into that layout.
    pub(super) notes: Vec<String>,
}

/// Imports a base model from a directory in the Hugging Face layout.
///
/// # Errors
/// The directory is not a model that the engine can train, or the name is taken by other files.
pub(super) async fn import(app: &App, source: &Source<'_>, name: &str) -> Result<Imported> {
    let (directory, shown) = (source.directory, source.shown);
    let folder = Folder::read(directory).map_err(|error| unusable(shown, error))?;
    folder.needed("config.json", MAX_CONFIG).map_err(|why| unusable(shown, elsewhere(directory, why)))?;
    folder.whole().and_then(|()| folder.genuine()).map_err(|why| unusable(shown, why))?;
    let (checked, built) = check(app, &folder).await?;
    let (family, facts) = match checked {
        Checked::Trainable { family, mut facts } => {
            facts.notes.splice(..0, source.notes.iter().cloned());
            (family, facts)
        }
        Checked::Refused(why) => return Err(unusable(shown, why)),
    };
    let (skipped, mut taken) = (folder.skipped(), folder.taken.clone());
    if let Some(tokenizer) = &built {
        // A path that means the open file (`proc_pid_fd(5)`).
        taken.push((TOKENIZER.to_owned(), PathBuf::from(format!("/proc/self/fd/{}", tokenizer.as_raw_fd()))));
        taken.sort();
    }
    let before = match imported_before(app, name, &taken).await? {
        Before::Same(model) => return Ok(Imported { new: false, model: *model, skipped }),
        Before::Less(id) => Some(id),
        Before::Nothing => None,
    };
    if let Some(why) = spoilt(&folder).await? {
        return Err(unusable(shown, why));
    }
    let id = ModelId::new();
    let files = put(app, id, &taken).await?;
    let model = base_model(id, name, family, facts);
    let mut tx = app.db.begin().await?;
    if let Some(before) = before {
        models::delete(&mut *tx.connection(), before).await?;
    }
    models::insert(tx.connection(), &model, &files).await?;
    tx.commit().await?;
    audit_operator("import_model", None, name);
    Ok(Imported { model, new: true, skipped })
}

/// Stores files of a base model, by the paths that it has them under.
///
/// # Errors
/// One cannot be read, or the store is away or full.
pub(super) async fn put(app: &App, id: ModelId, taken: &[(String, PathBuf)]) -> Result<Vec<ModelFile>> {
    let mut files = Vec::with_capacity(taken.len());
    for (path, full) in taken {
        let object_key = format!("models/{}/{path}", id.0.simple());
        let stored = app.store.put_copy(&object_key, full).await?;
        files.push(ModelFile { path: path.clone(), bytes: stored.bytes, sha256: stored.sha256, object_key });
    }
    Ok(files)
}

/// A base model as it is imported now.
pub(super) fn base_model(id: ModelId, name: &str, family: String, facts: ModelFacts) -> Model {
    Model {
        id,
        project: None,
        name: name.to_owned(),
        kind: ModelKind::Base,
        family,
        facts,
        job: None,
        created_at: Timestamp::now_utc(),
    }
}

/// Checks that a base model can be called so.
///
/// # Errors
/// It cannot.
pub(super) fn check_name(name: &str) -> Result<()> {
    if is_base_model_name(name) { Ok(()) } else { Err(Error::invalid("name", misnamed(name))) }
}

/// What a name must be, with one that is near to this one.
fn misnamed(name: &str) -> String {
    let near = base_model_name_near(name).map(|near| format!("; for example {near}")).unwrap_or_default();
    format!("a model's name is one or two segments (a/b) of letters, digits, dots, dashes and underscores{near}")
}

/// The folder of PEFT's that lies there in place of a model's, or below it in a checkpoint of a run that trained an adapter.
pub(super) fn adapter_in(directory: &Path) -> Option<PathBuf> {
    const WHOLE: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
    let is_whole = WHOLE.iter().any(|name| directory.join(name).exists());
    let places = [directory.to_owned(), directory.join(ADAPTER_FOLDER)];
    places.into_iter().find(|place| !is_whole && place.join(ADAPTER_CONFIG).is_file())
}

/// Old models of sentence-transformers keep the encoder in a folder of its own.
fn elsewhere(directory: &Path, why: String) -> String {
    const OLD: [&str; 3] = ["0_Transformer", "0_BERT", "0_RoBERTa"];
    match OLD.iter().find(|old| directory.join(old).join("config.json").is_file()) {
        Some(old) => format!(
            "{why}; its encoder lies in {old}: move the files there up, and in modules.json set the path of the first module \
             to \"\""
        ),
        None => match model_below(directory) {
            Some(inner) => format!("{why}; a model lies in {inner} below it: import that folder"),
            None => why,
        },
    }
}

/// The first folder with a `config.json`, at most two below: of a hub's cache, of a training's checkpoints, or of an archive
/// that was unpacked.
fn model_below(directory: &Path) -> Option<String> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let first = below(directory);
    let second = first.iter().flat_map(|folder| below(folder));
    let found = first.iter().cloned().chain(second).find(|folder| folder.join("config.json").is_file())?;
    Some(found.strip_prefix(directory).ok()?.display().to_string())
}

/// What there is under the name already.
enum Before {
    Nothing,
    /// The very same files.
    Same(Box<Model>),
    /// The same files but for settings of modules, which were not always taken: this one takes its place.
    Less(ModelId),
}

/// What there is under that name.
///
/// # Errors
/// A model of other files.
async fn imported_before(app: &App, name: &str, taken: &[(String, PathBuf)]) -> Result<Before> {
    let Some(existing) = models::find_base(app.db.pool(), name).await? else { return Ok(Before::Nothing) };
    let stored: BTreeMap<String, ModelFile> =
        models::files(app.db.pool(), existing.id).await?.into_iter().map(|file| (file.path.clone(), file)).collect();
    let (mut same, mut more) = (0, false);
    for (path, full) in taken {
        match stored.get(path) {
            Some(file) if file.sha256 == store::hash_file(full).await?.sha256 => same += 1,
            None if path.contains('/') => more = true,
            _ => return Err(taken_name(name)),
        }
    }
    match more {
        _ if same < stored.len() => Err(taken_name(name)),
        true => Ok(Before::Less(existing.id)),
        false => Ok(Before::Same(Box::new(existing))),
    }
}

pub(super) fn taken_name(name: &str) -> Error {
    let message = format!("a model called {name} exists with other files; choose another name");
    Error::new(ErrorKind::Conflict, message).param("name")
}

pub(super) fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::invalid("directory", format!("{} is no usable model: {why}", path.display()))
}
