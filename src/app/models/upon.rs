//! The weights that a job's adapter lies upon, which are another model's.

use super::loaded_from;
use crate::app::App;
use crate::db::{jobs, models};
use crate::domain::error::Result;
use crate::domain::job::Job;
use crate::domain::model::{ADAPTER_FOLDER, Model, ModelFile, as_base, has_whole_weights};

/// The files of the weights upon which lies what a job trains, as files of a checkpoint whose base they are.
///
/// # Errors
/// The database is away.
pub async fn below(app: &App, job: &Job) -> Result<Vec<ModelFile>> {
    let base = models::files(app.db.pool(), job.spec.base_model).await?;
    Ok(if job.adapter().is_some_and(|lora| lora.continued) {
        // The adapter took the place of the one that its base model had.
        base.into_iter().filter(ModelFile::is_of_base).collect()
    } else {
        as_base(&base)
    })
}

/// The files that a model is served from. One that is kept both merged and as an adapter is served as the adapter, as long as
/// its base model is there: upon it are others, perhaps.
///
/// # Errors
/// The database is away.
pub async fn served_from(app: &App, model: &Model) -> Result<Vec<ModelFile>> {
    let mut files = loaded_from(app, model.id).await?;
    let is_both = has_whole_weights(&files) && files.iter().any(|file| file.path.starts_with(ADAPTER_FOLDER));
    let Some(id) = model.job.filter(|_| is_both) else { return Ok(files) };
    let Some(job) = jobs::find_any(&mut *app.db.connection().await?, id).await? else { return Ok(files) };
    let Some(base) = models::find_by_id(app.db.pool(), job.spec.base_model).await? else { return Ok(files) };
    let seen = models::find(app.db.pool(), job.project, &base.name).await?;
    if seen.is_some_and(|seen| seen.id == base.id) {
        files.retain(|file| !file.is_whole_weights());
        files.extend(below(app, &job).await?);
    }
    Ok(files)
}
