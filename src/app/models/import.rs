//! Importing base models.

use std::collections::HashMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::config::{self, unusable};
use super::folder::{Folder, open};
use crate::app::App;
use crate::db::models;
use crate::domain::Timestamp;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::id::ModelId;
use crate::domain::model::{Model, ModelFile, ModelKind, is_base_model_name};
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

/// Imports a base model from a directory in the Hugging Face layout.
///
/// # Errors
/// The directory is not a model that the engine can train, or the name is taken by other files.
pub async fn import(app: &App, directory: &Path, name: &str) -> Result<Imported> {
    if !is_base_model_name(name) {
        let message = "a model's name is one or two segments (a/b) of letters, digits, dots, dashes and underscores";
        return Err(Error::invalid("name", message));
    }
    let folder = Folder::read(directory).map_err(|error| unusable(directory, error))?;
    let needed = |file: &str| folder.needed(file).map_err(|why| unusable(directory, why));
    let (family, mut facts) = config::read(directory, needed("config.json")?)?;
    if !family.is_vision() {
        check_tokenizer(needed("tokenizer.json")?).map_err(|why| unusable(directory, why))?;
    }
    for path in folder.weights().map_err(|why| unusable(directory, why))? {
        facts.parameters += check_safetensors(path).map_err(|why| unusable(directory, why))?;
    }
    if facts.parameters == 0 {
        return Err(unusable(directory, "its .safetensors files hold no values"));
    }
    let (skipped, taken) = (folder.skipped(), folder.taken);
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
    audit_operator("import_model", None, name);
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

/// Checks that a tokenizer is one, as far as that can be seen without the library that reads it.
///
/// # Errors
/// What is wrong with it.
fn check_tokenizer(path: &Path) -> std::result::Result<(), String> {
    let bad = |why: &dyn std::fmt::Display| format!("tokenizer.json is no tokenizer: {why}");
    let file = open(path).map_err(|error| bad(&error))?;
    #[expect(clippy::zero_sized_map_values, reason = "serde reads no set from an object")]
    let fields: HashMap<String, IgnoredAny> =
        serde_json::from_reader(BufReader::new(file)).map_err(|error| bad(&error))?;
    if fields.contains_key("model") { Ok(()) } else { Err(bad(&"it has no model")) }
}

/// Checks a safetensors file without reading the tensors: its header must describe exactly the bytes that follow.
/// Returns the number of values in it.
///
/// # Errors
/// What is wrong with it.
pub fn check_safetensors(path: &Path) -> std::result::Result<u64, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bad = |why: &dyn std::fmt::Display| format!("{name} is no safetensors file: {why}");
    let file = std::fs::File::open(path).map_err(|error| bad(&error))?;
    // SAFETY: only a command of the operator's comes here, on files of theirs; one that shrinks meanwhile ends it.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|error| bad(&error))?;
    let tensors = safetensors::SafeTensors::deserialize(&map).map_err(|error| bad(&error))?;
    let values =
        |tensor: safetensors::tensor::TensorView<'_>| tensor.shape().iter().map(|&size| size as u64).product::<u64>();
    Ok(tensors.iter().map(|(_, tensor)| values(tensor)).sum())
}

#[cfg(test)]
mod tests {
    use super::{check_safetensors, check_tokenizer};

    fn check(bytes: &[u8]) -> Result<u64, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        check_safetensors(file.path())
    }

    fn with_header(header: &str, data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let good = r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
        assert_eq!(check(&with_header(good, 24)), Ok(6));
        for (what, bytes) in [
            ("nothing", Vec::new()),
            ("a pickle", b"\x80\x02}q\x00(X\x03\x00\x00\x00abcq\x01K\x01u.".to_vec()),
            ("a header longer than the file", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
            ("cut off", with_header(good, 23)),
            ("bytes left over", with_header(good, 25)),
            ("no JSON", with_header("[1]", 0)),
            ("another size than its shape", with_header(&good.replace("[2,3]", "[2,4]"), 24)),
            ("offsets beyond the end", with_header(&good.replace("[0,24]", "[8,32]"), 24)),
            ("a shape that overflows", with_header(&good.replace("[2,3]", "[4294967296,4294967296,16]"), 24)),
            ("an unknown type", with_header(&good.replace("F32", "F3"), 24)),
        ] {
            assert!(check(&bytes).unwrap_err().contains("is no safetensors file"), "{what}");
        }
    }

    #[test]
    fn a_tokenizer_is_an_object_with_a_model() {
        let check = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            check_tokenizer(file.path())
        };
        assert_eq!(check(r#"{"version": "1.0", "model": {"type": "WordPiece"}}"#), Ok(()));
        for text in ["", "{", "[]", "null", "\"model\"", "{}", r#"{"model": {}} {}"#] {
            assert!(check(text).unwrap_err().contains("tokenizer.json is no tokenizer: "), "{text}");
        }
    }
}
