//! The first examples of a job's training file, with the hyperparameters that are in force for them.

use super::files::DataFile;
use super::{Preparing, settle};
use crate::app::App;
use crate::dataset::prepare::Source;
use crate::dataset::preview::{self, First};
use crate::domain::error::Error;
use crate::domain::hyperparameters::{DataFacts, Hyperparameters};
use crate::domain::id::ProjectId;
use crate::domain::job::JobSpec;
use crate::domain::model::Model;

/// The first `count` entries of the training file of a job of `model`; None where the method's data are of a kind of which
/// there is nothing to see.
///
/// # Errors
/// The file is away, or the hyperparameters do not fit.
pub async fn first(
    app: &App,
    project: ProjectId,
    spec: &JobSpec,
    model: &Model,
    count: usize,
) -> Preparing<Option<(Hyperparameters, First)>> {
    let [training, ..] = spec.files();
    let Some(file) = DataFile::find(app, project, spec, training).await? else {
        return Err(Error::internal("a job without training file").into());
    };
    let problem = spec.hyperparameters.problem_type().unwrap_or_default();
    let data = DataFacts { training_examples: file.rows(), problem };
    let hyperparameters = settle(spec, model, data)?;
    let (bounds, _guard) = app.bounds(project);
    let mut opened = Vec::new();
    let Source::File(input) = file.source(&bounds, &mut opened).await? else {
        return Err(Error::internal("what is in the file was not asked").into());
    };
    let kind = (spec.method.card().data)(problem);
    let reading = move || {
        let _opened = opened;
        preview::first(kind, &input, count)
    };
    let found = tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?.map_err(Error::internal)?;
    Ok(found.map(|first| (hyperparameters, first)))
}
