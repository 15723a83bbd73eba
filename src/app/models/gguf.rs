//! Importing models from GGUF files: each becomes a folder in the Hugging Face layout first.

use std::fs;
use std::path::Path;

use uuid::Uuid;

use super::import::{Imported, Source, unusable};
use crate::app::App;
use crate::domain::error::{Error, Result};
use crate::gguf;

/// Imports the model in a GGUF file.
///
/// # Errors
/// The file holds what is not supported, or a model that the engine cannot train; or the name is taken by other files.
pub(super) async fn import(app: &App, file: &Path, name: &str) -> Result<Imported> {
    let work = app.runs().join(Uuid::new_v4().simple().to_string());
    let imported = converted(app, file, &work, name).await;
    if let Err(error) = fs::remove_dir_all(&work) {
        tracing::debug!(%error, "the folder of an import stays");
    }
    imported
}

async fn converted(app: &App, file: &Path, work: &Path, name: &str) -> Result<Imported> {
    let (from, to) = (file.to_owned(), work.to_owned());
    let converted = tokio::task::spawn_blocking(move || gguf::convert(&from, &to));
    let notes = converted.await.map_err(Error::internal)?.map_err(|why| unusable(file, why))?;
    super::import::import(app, &Source { directory: work, shown: file, notes }, name).await
}
