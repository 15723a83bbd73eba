//! Preparing an evaluation: what the model predicts, and whether its test file has that.

use super::files::DataFile;
use super::{Preparing, Reads, Refusal, devices, model_there, placed, settle};
use crate::app::{App, models};
use crate::dataset::evaluation::check;
use crate::dataset::prepare::Wanted;
use crate::domain::error::Error;
use crate::domain::estimate;
use crate::domain::hyperparameters::{DataFacts, Subject};
use crate::domain::id::ProjectId;
use crate::domain::job::{JobError, JobSpec, Prepared};
use crate::domain::method::ProblemType;
use crate::domain::model::Model;
use crate::domain::reading::Question;
use crate::domain::report::DataReport;

/// As [`prepare`](super::prepare), for an evaluation of `model`.
pub(super) async fn prepare(
    app: &App,
    project: ProjectId,
    spec: &JobSpec,
    model: &Model,
    reads: Reads,
) -> Preparing<Prepared> {
    let (problem, labels) = if spec.method.is_classification() {
        let head = models::purpose(app, model).await?.1.map_err(|why| {
            let message = format!("The model '{}' cannot classify: {why}.", model.name);
            JobError::new("invalid_model", message).param("model")
        })?;
        (head.problem, head.labels)
    } else {
        (ProblemType::default(), Vec::new())
    };
    let report = read(app, project, spec, reads, (problem, &labels)).await?;
    let settled = settle(spec, model, DataFacts { training_examples: 0, problem });
    let mut hyperparameters = settled.map_err(|error| Refusal::of_files(error, &report))?;
    if spec.hyperparameters.is_auto("max_sequence_length")
        && let Some(trained) = models::trained_length(app, model).await?
    {
        hyperparameters.course.max_sequence_length = trained;
    }
    let (machines, device) = devices(app).await?;
    let subject = Subject { method: spec.method, facts: &model.facts };
    let needs = |subject| estimate::evaluation(subject, &hyperparameters, &report, labels.len() as u64, device);
    let mut estimate = needs(subject);
    if let Some(baseline) = &spec.baseline {
        let other = model_there(app, baseline.model, "baseline").await?;
        estimate = estimate.then(&needs(Subject { facts: &other.facts, ..subject }));
    }
    // Labels of a regression mean nothing, and the engine knows it by their absence.
    let labels = if problem == ProblemType::Regression { Vec::new() } else { labels };
    Ok(placed(Prepared { hyperparameters, labels, report, estimate: Some(estimate) }, &machines)?)
}

/// Reads the test file, or takes what was found in it; of the model it is known what it predicts, and which labels.
async fn read(
    app: &App,
    project: ProjectId,
    spec: &JobSpec,
    reads: Reads,
    (problem, labels): (ProblemType, &[String]),
) -> Preparing<DataReport> {
    let file = DataFile::find(app, project, spec, ("test_file", spec.test_file)).await?;
    let mut file = file.ok_or_else(|| Error::internal("an evaluation without test file"))?;
    let asked = Question::new(file.format(), spec.method, Some(problem), &spec.dataset, 0).among(problem, labels);
    if reads == Reads::Unknown {
        file.look_up(&asked).await?;
    }
    let (bounds, _guard) = app.bounds(project);
    let mut opened = Vec::new();
    let source = file.source(&bounds, &mut opened).await?;
    let wanted = Wanted { method: spec.method, problem: Some(problem), options: spec.dataset.clone(), near: 0 };
    let known = labels.to_vec();
    let reading = move || {
        let _opened = opened;
        check(source, &wanted, &known)
    };
    let reading = tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?;
    let (reading, verdict) = reading.map_err(Error::internal)?;
    file.keep(&asked, &reading).await;
    let report = DataReport { test: Some(reading.report.capped()), ..DataReport::default() };
    verdict.map_err(|error| Refusal::of_files(error, &report))?;
    Ok(report)
}
