//! Preparing an evaluation: what the model predicts, and whether its test file has that.

use super::{Preparing, Refusal, devices, open, placed, settle};
use crate::app::{App, models};
use crate::dataset::evaluation::check;
use crate::domain::error::Error;
use crate::domain::estimate;
use crate::domain::hyperparameters::DataFacts;
use crate::domain::id::ProjectId;
use crate::domain::job::{JobError, JobSpec, Prepared};
use crate::domain::method::{DataKind, ProblemType};
use crate::domain::model::Model;
use crate::domain::report::DataReport;

/// As [`prepare`](super::prepare), for an evaluation of `model`.
pub(super) async fn prepare(app: &App, project: ProjectId, spec: &JobSpec, model: &Model) -> Preparing<Prepared> {
    let (problem, labels) = if spec.method.is_classification() {
        let head = models::purpose(app, model).await?.1.map_err(|why| {
            let message = format!("The model '{}' cannot classify: {why}.", model.name);
            JobError::new("invalid_model", message).param("model")
        })?;
        (head.problem, head.labels)
    } else {
        (ProblemType::default(), Vec::new())
    };
    let report = read(app, project, spec, problem, &labels).await?;
    let settled = settle(spec, model, DataFacts { training_examples: 0, problem });
    let mut hyperparameters = settled.map_err(|error| Refusal::of_files(error, &report))?;
    if spec.hyperparameters.is_auto("max_sequence_length")
        && let Some(trained) = models::trained_length(app, model).await?
    {
        hyperparameters.max_sequence_length = trained;
    }
    let (machines, device) = devices(app).await?;
    let estimate =
        estimate::evaluation(&model.facts, &hyperparameters, &report, spec.method, labels.len() as u64, device);
    // Labels of a regression mean nothing, and the engine knows it by their absence.
    let labels = if problem == ProblemType::Regression { Vec::new() } else { labels };
    Ok(placed(Prepared { hyperparameters, labels, report, estimate: Some(estimate) }, &machines)?)
}

/// Reads the test file; `labels` are those that the model knows.
async fn read(
    app: &App,
    project: ProjectId,
    spec: &JobSpec,
    problem: ProblemType,
    labels: &[String],
) -> Preparing<DataReport> {
    let id = spec.test_file.ok_or_else(|| Error::internal("an evaluation without test file"))?;
    let (bounds, _guard) = app.bounds(project);
    let (input, opened) = open(app, project, "test_file", id, &bounds).await?;
    let (kind, options, known) = (DataKind::of(spec.method, problem), spec.dataset.clone(), labels.to_vec());
    let reading = move || {
        let _opened = opened;
        check(&input, kind, &options, &known)
    };
    let read = tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?.map_err(Error::internal)?;
    let (test, verdict) = read;
    let report = DataReport { test: Some(test), ..DataReport::default() };
    verdict.map_err(|error| Refusal::of_files(error, &report))?;
    Ok(report)
}
