//! Preparing an evaluation: what the model predicts, and whether its test file has that.

use super::{Refusal, devices, open, placed, settle};
use crate::app::{App, models};
use crate::dataset::evaluation::check;
use crate::domain::error::{Error, Result};
use crate::domain::estimate;
use crate::domain::hyperparameters::{DataFacts, Subject};
use crate::domain::id::ProjectId;
use crate::domain::job::{JobError, JobSpec, Prepared};
use crate::domain::method::ProblemType;
use crate::domain::model::Model;
use crate::domain::report::DataReport;

/// As [`prepare`](super::prepare), for an evaluation of `model`.
///
/// # Errors
/// The database or the store is away, or a file cannot be read.
pub(super) async fn prepare(
    app: &App,
    project: ProjectId,
    spec: &JobSpec,
    model: &Model,
) -> Result<std::result::Result<Prepared, Refusal>> {
    let (problem, labels) = if spec.method.is_classification() {
        match models::purpose(app, model).await?.1 {
            Ok(head) => (head.problem, head.labels),
            Err(why) => {
                let message = format!("The model '{}' cannot classify: {why}.", model.name);
                return Ok(Err(Refusal::of(JobError::new("invalid_model", message).param("model"))));
            }
        }
    } else {
        (ProblemType::default(), Vec::new())
    };
    let id = spec.test_file.ok_or_else(|| Error::internal("an evaluation without test file"))?;
    let (bounds, _guard) = app.bounds(project);
    let Some((input, opened)) = open(app, project, "test_file", id, &bounds).await? else {
        let message = "The file was deleted before it was read.";
        return Ok(Err(Refusal::of(JobError::new("invalid_test_file", message).param("test_file"))));
    };
    let (kind, options, known) = (spec.method.data(problem), spec.dataset.clone(), labels.clone());
    let reading = move || {
        let _opened = opened;
        check(&input, kind, &options, &known)
    };
    let read = tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?.map_err(Error::internal)?;
    let (test, verdict) = read;
    let report = DataReport { test: Some(test), ..DataReport::default() };
    if let Err(error) = verdict {
        return Ok(Err(Refusal { error, report: Some(Box::new(report)), prepared: None }));
    }
    let mut hyperparameters = match settle(spec, model, DataFacts { training_examples: 0, problem }) {
        Ok(hyperparameters) => hyperparameters,
        Err(error) => return Ok(Err(Refusal { error, report: Some(Box::new(report)), prepared: None })),
    };
    if spec.hyperparameters.is_auto("max_sequence_length")
        && let Some(trained) = models::trained_length(app, model).await?
    {
        hyperparameters.course.max_sequence_length = trained;
    }
    let (machines, device) = devices(app).await?;
    let subject = Subject { method: spec.method, facts: &model.facts };
    let estimate = estimate::evaluation(subject, &hyperparameters, &report, labels.len() as u64, device);
    // Labels of a regression mean nothing, and the engine knows it by their absence.
    let labels = if problem == ProblemType::Regression { Vec::new() } else { labels };
    let prepared = Prepared { hyperparameters, labels, report, estimate: Some(estimate) };
    Ok(placed(prepared, &machines))
}
