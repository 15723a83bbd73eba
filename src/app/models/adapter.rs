//! Importing adapters as PEFT saves them, upon a base model that is here already. What is stored of the result is the adapter;
//! the files of the base are its files, too, by the same objects.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::check::check;
use super::folder::{Folder, open};
use super::import::{Imported, base_model, put, taken_name, unusable};
use super::values::{header, spoilt};
use super::{fetch, loaded_from};
use crate::app::App;
use crate::db::models;
use crate::domain::error::{Error, Result};
use crate::domain::id::ModelId;
use crate::domain::model::{
    ADAPTER_CONFIG, ADAPTER_FOLDER, ADAPTER_WEIGHTS, BASE_FOLDER, Checked, Model, ModelFile, as_base, without_mark,
};
use crate::telemetry::audit_operator;
use crate::{private, store};

/// What an adapter's folder may have in place of its base's.
const TEMPLATE: &str = "chat_template.jinja";
/// The largest `adapter_config.json`, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// What of `adapter_config.json` says whether the adapter is one that is built here.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    peft_type: String,
    #[serde(default)]
    base_model_name_or_path: String,
    #[serde(flatten)]
    more: serde_json::Map<String, Value>,
}

/// Fields of what is not built, with what each asks for.
const NOT_BUILT: [(&str, &str); 7] = [
    ("use_dora", "DoRA"),
    ("use_qalora", "QALoRA"),
    ("modules_to_save", "whole modules beside the adapter"),
    ("rank_pattern", "ranks by module"),
    ("alpha_pattern", "alphas by module"),
    ("trainable_token_indices", "tokens that are trained"),
    ("target_parameters", "parameters that are no layer's"),
];

impl Config {
    fn read(path: &Path) -> std::result::Result<Self, String> {
        let mut bytes = Vec::new();
        let read = open(path).and_then(|file| file.take(MAX_CONFIG).read_to_end(&mut bytes));
        read.map_err(|error| format!("{ADAPTER_CONFIG} cannot be read: {error}"))?;
        serde_json::from_slice(without_mark(&bytes)).map_err(|error| format!("{ADAPTER_CONFIG}: {error}"))
    }

    /// Whether what it describes is low-rank matrices beside linear layers, and nothing else.
    fn check(&self) -> std::result::Result<(), String> {
        const MERGE: &str = "merge it with PEFT's merge_and_unload, and import what save_pretrained writes";
        if self.peft_type != "LORA" {
            return Err(format!("its adapter is of the type \"{}\", and LORA alone is built; {MERGE}", self.peft_type));
        }
        let is_none = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(fields) => fields.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        for (field, what) in NOT_BUILT {
            if !self.more.get(field).is_none_or(is_none) {
                return Err(format!("its adapter has {what} ({field}), which is not built; {MERGE}"));
            }
        }
        match self.more.get("bias") {
            Some(bias) if bias != "none" => {
                Err(format!("its adapter trains biases (bias), which is not built; {MERGE}"))
            }
            _ => Ok(()),
        }
    }
}

/// Imports the adapter in `directory` upon the base model called `base`, or the one that the adapter names.
///
/// # Errors
/// It is no adapter that is built, or its base model is not here, or does not fit; or the name is taken by other files.
pub(super) async fn import(app: &App, directory: &Path, name: &str, base: Option<&str>) -> Result<Imported> {
    let folder = Folder::read(directory).map_err(|error| unusable(directory, error))?;
    let [config, weights] = [ADAPTER_CONFIG, ADAPTER_WEIGHTS].map(|name| folder.path(name).map(Path::to_owned));
    let (Some(config), Some(weights)) = (config, weights) else {
        let why =
            format!("an adapter has {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}, as PEFT's save_pretrained writes them");
        return Err(unusable(directory, why));
    };
    folder.genuine().map_err(|why| unusable(directory, why))?;
    let described = Config::read(&config).and_then(|config| config.check().map(|()| config));
    let described = described.map_err(|why| unusable(directory, why))?;
    only_matrices(&weights).map_err(|why| unusable(directory, why))?;
    let base = find_base(app, base, &described.base_model_name_or_path).await?;
    let own = [(ADAPTER_CONFIG, Some(&config)), (ADAPTER_WEIGHTS, Some(&weights))];
    let mut own: Vec<(String, PathBuf)> =
        own.into_iter().filter_map(|(name, path)| Some((format!("{ADAPTER_FOLDER}{name}"), path?.clone()))).collect();
    own.extend(folder.path(TEMPLATE).map(|path| (TEMPLATE.to_owned(), path.to_owned())));
    let work = app.runs().join(Uuid::new_v4().simple().to_string());
    let imported = upon(app, (directory, &work), name, &base, &own).await;
    if let Err(error) = fs::remove_dir_all(&work) {
        tracing::debug!(%error, "the folder of an import stays");
    }
    let skipped = folder.taken.iter().map(|(name, _)| name.clone());
    let is_left = |name: &String| !own.iter().any(|(taken, _)| taken.rsplit('/').next() == Some(name));
    Ok(Imported { skipped: skipped.filter(is_left).chain(folder.skipped()).collect(), ..imported? })
}

/// The base model that is wanted: by its own name, or by the last part of what the adapter calls it.
async fn find_base(app: &App, wanted: Option<&str>, named: &str) -> Result<Model> {
    let last = named.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let names: Vec<&str> = wanted.map_or_else(|| vec![named, last], |wanted| vec![wanted]);
    for name in &names {
        if let Some(found) = models::find_base(app.db.pool(), name).await? {
            return Ok(found);
        }
    }
    let message = match wanted {
        Some(wanted) => format!("there is no base model called {wanted}"),
        None => format!(
            "the adapter's base model, \"{named}\", is not here: import that first, or name the one that it is, as in --base {last}"
        ),
    };
    Err(Error::invalid("base", message))
}

/// Whether all tensors of an adapter's file are low-rank matrices.
fn only_matrices(path: &Path) -> std::result::Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{ADAPTER_WEIGHTS} cannot be read: {error}");
    let mut file = open(path).map_err(unreadable)?;
    let (_, header) = header(&mut file).map_err(unreadable)?;
    let entries: serde_json::Map<String, Value> = serde_json::from_slice(&header)
        .map_err(|error| format!("{ADAPTER_WEIGHTS} is no safetensors file: {error}"))?;
    let is_matrix = |name: &str| name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight");
    match entries.keys().find(|name| *name != "__metadata__" && !is_matrix(name)) {
        Some(name) => Err(format!("its adapter has the tensor {name}, which is none of a linear layer's adapter")),
        None if entries.keys().any(|name| is_matrix(name)) => Ok(()),
        None => Err(format!("{ADAPTER_WEIGHTS} has no low-rank matrices")),
    }
}

/// Stores the adapter's `own` files upon `base`, after the trainer has looked at both together in the folder `work`.
async fn upon(
    app: &App,
    (shown, work): (&Path, &Path),
    name: &str,
    base: &Model,
    own: &[(String, PathBuf)],
) -> Result<Imported> {
    let files = loaded_from(app, base.id).await?;
    let below = as_base(&files);
    let is_own = |file: &ModelFile| own.iter().any(|(path, _)| *path == file.path);
    let around: Vec<ModelFile> =
        files.into_iter().filter(|file| !file.is_whole_weights() && !file.is_of_base() && !is_own(file)).collect();
    private::make_folder(work, private::FOLDER).map_err(Error::internal)?;
    fetch(app, base, &below, work).await?;
    fetch(app, base, &around, work).await?;
    let fetched = below.iter().chain(&around).map(|file| (file.path.clone(), work.join(&file.path)));
    let together = Folder::of(fetched.chain(own.iter().cloned()).collect());
    let (checked, _) = check(app, &together).await?;
    let (family, facts) = match checked {
        Checked::Trainable { family, facts } => (family, facts),
        Checked::Refused(why) => return Err(unusable(shown, format!("with its base model {}, {why}", base.name))),
    };
    if let Some(why) = spoilt(&Folder::of(own.to_vec())).await? {
        return Err(unusable(shown, why));
    }
    if let Some(existing) = models::find_base(app.db.pool(), name).await? {
        let stored = models::files(app.db.pool(), existing.id).await?;
        return if is_same(&stored, own, &below).await? {
            Ok(Imported { model: existing, new: false, skipped: Vec::new() })
        } else {
            Err(taken_name(name))
        };
    }
    let id = ModelId::new();
    let files: Vec<ModelFile> = below.into_iter().chain(around).chain(put(app, id, own).await?).collect();
    let model = base_model(id, name, family, facts);
    let mut tx = app.db.begin().await?;
    models::insert(tx.connection(), &model, &files).await?;
    tx.commit().await?;
    audit_operator("import_model", None, name);
    Ok(Imported { model, new: true, skipped: Vec::new() })
}

/// Whether a model's files are these of an adapter, upon this base.
async fn is_same(stored: &[ModelFile], own: &[(String, PathBuf)], below: &[ModelFile]) -> Result<bool> {
    for (path, full) in own {
        let hash = store::hash_file(full).await?.sha256;
        if !stored.iter().any(|file| file.path == *path && file.sha256 == hash) {
            return Ok(false);
        }
    }
    let of_base = stored.iter().filter(|file| file.path.starts_with(BASE_FOLDER));
    Ok(of_base.count() == below.len() && below.iter().all(|file| stored.contains(file)))
}

#[cfg(test)]
mod tests {
    use super::Config;

    fn check(more: &str) -> Result<(), String> {
        serde_json::from_str::<Config>(&format!("{{\"peft_type\": \"LORA\", {more}}}")).unwrap().check()
    }

    #[test]
    fn what_is_more_than_low_rank_matrices_is_named() {
        let plain = r#""r": 8, "lora_alpha": 16, "bias": "none", "modules_to_save": null, "rank_pattern": {}, "use_dora": false"#;
        assert_eq!(check(plain), Ok(()));
        for (more, expected) in [
            (r#""use_dora": true"#, "DoRA (use_dora)"),
            (r#""modules_to_save": ["lm_head"]"#, "whole modules beside the adapter (modules_to_save)"),
            (r#""rank_pattern": {"q_proj": 4}"#, "ranks by module (rank_pattern)"),
            (r#""bias": "all""#, "biases (bias)"),
        ] {
            let why = check(more).unwrap_err();
            assert!(why.contains(expected) && why.contains("merge_and_unload"), "{why}");
        }
        let other: Config = serde_json::from_str(r#"{"peft_type": "IA3"}"#).unwrap();
        assert!(other.check().unwrap_err().contains("of the type \"IA3\""));
    }
}
