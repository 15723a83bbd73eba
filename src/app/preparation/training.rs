//! Preparing a training: its files against each other, and its hyperparameters.

use super::{Preparing, Refusal, devices, open, placed, settle};
use crate::app::App;
use crate::dataset::prepare::{self, Found, Inputs, Wanted};
use crate::domain::error::Error;
use crate::domain::estimate;
use crate::domain::hyperparameters::DataFacts;
use crate::domain::id::ProjectId;
use crate::domain::job::{JobSpec, Prepared};
use crate::domain::model::Model;

/// As [`prepare`](super::prepare), for a training of `model`.
pub(super) async fn prepare(app: &App, project: ProjectId, spec: &JobSpec, model: &Model) -> Preparing<Prepared> {
    let Found { report, problem, labels } = read(app, project, spec).await?;
    let labels = labels.map_err(|error| Refusal::of_files(error, &report))?;
    let data = DataFacts { training_examples: report.training.examples - report.held_out, problem };
    let hyperparameters = settle(spec, model, data).map_err(|error| Refusal::of_files(error, &report))?;
    let (machines, device) = devices(app).await?;
    let estimate = estimate::estimate(&model.facts, &hyperparameters, &report, labels.len() as u64, device);
    Ok(placed(Prepared { hyperparameters, labels, report, estimate: Some(estimate) }, &machines)?)
}

async fn read(app: &App, project: ProjectId, spec: &JobSpec) -> Preparing<Found> {
    let (bounds, _guard) = app.bounds(project);
    let mut found = [const { None }; 3];
    let mut opened = Vec::new();
    for ((param, id), place) in spec.files().into_iter().zip(&mut found) {
        let Some(id) = id else { continue };
        let (input, file) = open(app, project, param, id, &bounds).await?;
        *place = Some(input);
        opened.push(file);
    }
    let [Some(training), validation, test] = found else {
        return Err(Error::internal("a job without training file").into());
    };
    let inputs = Inputs { training, validation, test };
    let problem = spec.hyperparameters.problem_type();
    let wanted = Wanted { method: spec.method, problem, options: spec.dataset.clone() };
    let reading = move || {
        let _opened = opened;
        prepare::prepare(&inputs, &wanted)
    };
    Ok(tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?.map_err(Error::internal)?)
}
