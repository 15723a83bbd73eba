//! Evaluations: any model on a file, through the same queue as trainings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::jobs::{self, RequestIdentity, check_metadata, data_file, find_repeated, insert, seed_or_random};
use super::objects::Object;
use super::{App, models};
use crate::db;
use crate::db::jobs::Filter;
use crate::domain::clip::clipped;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Event;
use crate::domain::hyperparameters::{DataFacts, Requested, Subject, resolve};
use crate::domain::id::{EvaluationId, EventId, JobId, ProjectId};
use crate::domain::job::{DatasetOptions, Job, JobKind, JobSpec};
use crate::domain::method::{Method, ProblemType};
use crate::domain::model::Model;
use crate::domain::page::{Page, PageRequest};

/// A request for an evaluation, as far as its JSON types go.
#[derive(Clone, Debug, Default)]
pub struct CreateEvaluation {
    pub model: String,
    pub test_file: String,
    /// None for what the model was made for.
    pub method: Option<Method>,
    pub hyperparameters: Map<String, Value>,
    /// Where the hyperparameters stand in the request, for errors.
    pub hyperparameters_path: String,
    pub dataset: DatasetOptions,
    pub seed: Option<i64>,
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Creates an evaluation, or finds the one that the same request made before.
///
/// # Errors
/// Something in the request is not allowed or does not exist; the error names the field.
pub async fn create(
    app: &App,
    project: ProjectId,
    request: CreateEvaluation,
    identity: RequestIdentity,
) -> Result<Job> {
    let job = match find_repeated(app, project, &identity).await? {
        Some(existing) => existing,
        None => insert(app, project, &check(app, project, request).await?, &identity).await?,
    };
    find(app, project, job).await
}

/// Turns a request into a spec, with everything checked that needs no reading of data.
async fn check(app: &App, project: ProjectId, request: CreateEvaluation) -> Result<JobSpec> {
    let seed = seed_or_random(request.seed)?;
    request.metadata.as_ref().map_or(Ok(()), check_metadata)?;
    let model = models::get(app, project, &request.model).await?;
    let (made_for, head) = models::purpose(app, &model).await?;
    let method = request.method.or(made_for).ok_or_else(|| no_method(&model))?;
    if !method.supports(model.family) {
        let message = format!("A {} model cannot be evaluated with the method '{method}'.", model.family);
        return Err(Error::invalid("method.type", message));
    }
    if method.is_classification()
        && let Err(why) = head
    {
        return Err(Error::invalid("model", format!("The model '{}' cannot classify: {why}.", model.name)));
    }
    let path = &request.hyperparameters_path;
    let hyperparameters = Requested::parse(method, request.hyperparameters, path)?;
    hyperparameters.check_evaluates(path)?;
    let subject = Subject { method, family: model.family, facts: &model.facts };
    let data = DataFacts { training_examples: 0, problem: ProblemType::default() };
    resolve(&hyperparameters, subject, data, path)?;
    let (test_file, _) = data_file(app, project, "test_file", &request.test_file).await?;
    Ok(JobSpec {
        model: model.name,
        base_model: model.id,
        training_file: None,
        validation_file: None,
        test_file: Some(test_file),
        method,
        hyperparameters,
        dataset: request.dataset,
        suffix: None,
        seed,
        metadata: request.metadata,
    })
}

fn no_method(model: &Model) -> Error {
    let message = format!(
        "The model '{}' is an encoder without a head; 'method.type' must say what to evaluate it by: embedding.",
        model.name
    );
    Error::invalid("method.type", message).code("missing_required_parameter")
}

/// An evaluation of a project.
///
/// # Errors
/// There is none of that id.
pub async fn get(app: &App, project: ProjectId, id: &str) -> Result<Job> {
    find(app, project, parse(id)?).await
}

async fn find(app: &App, project: ProjectId, job: JobId) -> Result<Job> {
    let mut connection = app.db.connection().await?;
    let found = db::jobs::find(&mut connection, project, JobKind::Evaluation, job).await?;
    found.ok_or_else(|| not_found(&JobKind::Evaluation.public_id(job)))
}

fn parse(id: &str) -> Result<JobId> {
    id.parse::<EvaluationId>().map(|id| JobId(id.0)).map_err(|_| not_found(id))
}

fn not_found(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("Could not find evaluation: {}", clipped(id)))
        .param("evaluation_id")
        .code("evaluation_not_found")
}

/// The id of an evaluation that a project has.
async fn require(app: &App, project: ProjectId, id: &str) -> Result<JobId> {
    let job = parse(id)?;
    let exists = db::jobs::exists(app.db.pool(), project, JobKind::Evaluation, job).await?;
    if exists { Ok(job) } else { Err(not_found(id)) }
}

/// One page of a project's evaluations, without the reports on their files.
///
/// # Errors
/// The database is away.
pub async fn list(
    app: &App,
    project: ProjectId,
    filter: &Filter,
    page: PageRequest<EvaluationId>,
) -> Result<Page<Job>> {
    let page = PageRequest { after: page.after.map(|id| JobId(id.0)), limit: page.limit, order: page.order };
    let mut connection = app.db.connection().await?;
    db::jobs::list(&mut connection, project, JobKind::Evaluation, filter, page).await
}

/// Ends an evaluation at once.
///
/// # Errors
/// There is none of that id, or it has ended otherwise.
pub async fn cancel(app: &App, project: ProjectId, id: &str) -> Result<Job> {
    let job = require(app, project, id).await?;
    jobs::cancel_any(app, project, JobKind::Evaluation, job).await
}

/// One page of an evaluation's events.
///
/// # Errors
/// The project has no such evaluation.
pub async fn list_events(app: &App, project: ProjectId, id: &str, page: PageRequest<EventId>) -> Result<Page<Event>> {
    let job = require(app, project, id).await?;
    db::events::list(app.db.pool(), job, page).await
}

/// The whole report of an evaluation that has succeeded; None where there is none, where its file was deleted, or where
/// it is too large to be answered.
///
/// # Errors
/// The database or the store is away.
pub async fn report(app: &App, job: &Job) -> Result<Option<Value>> {
    let Some(id) = job.report_file else { return Ok(None) };
    match db::files::find(app.db.pool(), job.project, id).await? {
        Some(file) => jobs::read_report(app, Object::of_file(&file)).await,
        None => Ok(None),
    }
}
