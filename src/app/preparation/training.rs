//! Preparing a training: its files against each other, and its hyperparameters.

use super::{Refusal, devices, open, placed, settle};
use crate::app::App;
use crate::dataset::prepare::{self, Found, Inputs, Wanted};
use crate::domain::error::{Error, Result};
use crate::domain::estimate;
use crate::domain::hyperparameters::{DataFacts, Subject};
use crate::domain::id::ProjectId;
use crate::domain::job::{JobError, JobSpec, Prepared};
use crate::domain::model::Model;

/// As [`prepare`](super::prepare), for a training of `model`.
///
/// # Errors
/// The database or the store is away, or a file cannot be read.
pub(super) async fn prepare(
    app: &App,
    project: ProjectId,
    spec: &JobSpec,
    model: &Model,
) -> Result<std::result::Result<Prepared, Refusal>> {
    let Found { report, problem, labels } = match read(app, project, spec).await? {
        Ok(found) => found,
        Err(error) => return Ok(Err(Refusal::of(error))),
    };
    let labels = match labels {
        Ok(labels) => labels,
        Err(error) => return Ok(Err(Refusal { error, report: Some(Box::new(report)), prepared: None })),
    };
    let data = DataFacts { training_examples: report.training.examples - report.held_out, problem };
    let hyperparameters = match settle(spec, model, data) {
        Ok(hyperparameters) => hyperparameters,
        Err(error) => return Ok(Err(Refusal { error, report: Some(Box::new(report)), prepared: None })),
    };
    let (machines, device) = devices(app).await?;
    let estimate = estimate::estimate(
        Subject { method: spec.method, facts: &model.facts },
        &hyperparameters,
        &report,
        labels.len() as u64,
        device,
    );
    let prepared = Prepared { hyperparameters, labels, report, estimate: Some(estimate) };
    Ok(placed(prepared, &machines))
}

async fn read(app: &App, project: ProjectId, spec: &JobSpec) -> Result<std::result::Result<Found, JobError>> {
    let (bounds, _guard) = app.bounds(project);
    let mut found = [const { None }; 3];
    let mut opened = Vec::new();
    for ((param, id), place) in spec.files().into_iter().zip(&mut found) {
        let Some(id) = id else { continue };
        let Some((input, file)) = open(app, project, param, id, &bounds).await? else {
            let message = "The file was deleted before it was read.";
            return Ok(Err(JobError::new(format!("invalid_{param}"), message).param(param)));
        };
        *place = Some(input);
        opened.push(file);
    }
    let [Some(training), validation, test] = found else {
        return Err(Error::internal("a job without training file"));
    };
    let inputs = Inputs { training, validation, test };
    let problem = spec.hyperparameters.problem_type();
    let wanted = Wanted { method: spec.method, problem, options: spec.dataset.clone() };
    let reading = move || {
        let _opened = opened;
        prepare::prepare(&inputs, &wanted)
    };
    let read = tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?.map_err(Error::internal)?;
    Ok(Ok(read))
}
