//! What a model was made for and how, as its files and its job say.

use crate::app::App;
use crate::app::objects::Object;
use crate::db::{self, models};
use crate::domain::error::Result;
use crate::domain::head::{Head, method_of};
use crate::domain::method::Method;
use crate::domain::model::{Model, ModelFile};

/// The largest `config.json`, in bytes.
pub(super) const MAX_CONFIG: u64 = 1 << 20;

/// What a model was made for, None for encoders without a head; and its head, or why it is no classifier.
///
/// # Errors
/// The database or the store is away, or the model is damaged.
pub async fn purpose(app: &App, model: &Model) -> Result<(Option<Method>, std::result::Result<Head, String>)> {
    let text = config(app, model, &models::files(app.db.pool(), model.id).await?).await?;
    Ok((text.as_deref().and_then(method_of), head_in(text.as_deref())))
}

/// The head of a model of these files; the inner error says why it is no classifier.
///
/// # Errors
/// The store is away, or the model is damaged.
pub async fn head_of(app: &App, model: &Model, files: &[ModelFile]) -> Result<std::result::Result<Head, String>> {
    Ok(head_in(config(app, model, files).await?.as_deref()))
}

/// The same for a model of which nothing was read yet.
///
/// # Errors
/// The database or the store is away, or the model is damaged.
pub async fn head(app: &App, model: &Model) -> Result<std::result::Result<Head, String>> {
    head_of(app, model, &models::files(app.db.pool(), model.id).await?).await
}

fn head_in(config_json: Option<&[u8]>) -> std::result::Result<Head, String> {
    Head::read(config_json.ok_or("it has no config.json of a usual size")?)
}

async fn config(app: &App, model: &Model, files: &[ModelFile]) -> Result<Option<Vec<u8>>> {
    let found = files.iter().find(|file| file.path == "config.json" && file.bytes <= MAX_CONFIG);
    let Some(config) = found else { return Ok(None) };
    Object::of_model(model, config).read_all(app).await.map(Some)
}

/// How many tokens the model's training kept of each text; None where it is not known, as of base models.
///
/// # Errors
/// The database is away.
pub async fn trained_length(app: &App, model: &Model) -> Result<Option<u32>> {
    let Some(job) = model.job else { return Ok(None) };
    let job = db::jobs::find_any(&mut *app.db.connection().await?, job).await?;
    Ok(job.and_then(|job| job.prepared).map(|prepared| prepared.hyperparameters.course.max_sequence_length))
}
