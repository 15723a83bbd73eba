//! Evaluations: any model on a file, through the same queue as trainings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::jobs::{self, RequestIdentity, check_metadata, data_file, find_repeated, insert, seed_or_random};
use super::objects::Object;
use super::{App, models};
use crate::db;
use crate::domain::error::{Error, Result};
use crate::domain::grading::{Grader, Grading, Ready};
use crate::domain::head::Head;
use crate::domain::hyperparameters::{DataFacts, Requested, Subject, resolve};
use crate::domain::id::ProjectId;
use crate::domain::job::{Baseline, DatasetOptions, Job, JobKind, JobSpec};
use crate::domain::method::{Method, ProblemType};
use crate::domain::model::Model;

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
    /// How what the model writes is graded.
    pub grading: Option<Grading>,
    /// The name of a model to compare with.
    pub baseline: Option<String>,
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
    let job = match find_repeated(app, project, JobKind::Evaluation, &identity).await? {
        Some(existing) => existing,
        None => insert(app, project, &check(app, project, request).await?, &identity).await?,
    };
    jobs::get(app, project, JobKind::Evaluation, &JobKind::Evaluation.public_id(job)).await
}

/// Turns a request into a spec, with everything checked that needs no reading of data.
async fn check(app: &App, project: ProjectId, request: CreateEvaluation) -> Result<JobSpec> {
    let seed = seed_or_random(request.seed)?;
    request.metadata.as_ref().map_or(Ok(()), check_metadata)?;
    let model = models::get(app, project, &request.model).await?;
    let (made_for, head) = models::purpose(app, &model).await?;
    let graded = request.grading.as_ref().and_then(|_| Method::graded());
    let method = request.method.or(graded).or(made_for).ok_or_else(|| no_method(&model))?;
    models::check_method(&model, method, "evaluated")?;
    request.grading.as_ref().map_or(Ok(()), |grading| check_grading(grading, method))?;
    let baseline = match &request.baseline {
        None => None,
        Some(name) => Some(
            baseline(app, project, name, (&model, head.as_ref().ok()), method)
                .await
                .map_err(|error| error.param("baseline"))?,
        ),
    };
    if method.is_classification()
        && let Err(why) = head
    {
        return Err(Error::invalid("model", format!("The model '{}' cannot classify: {why}.", model.name)));
    }
    let path = &request.hyperparameters_path;
    let hyperparameters = Requested::parse(method, request.hyperparameters, path)?;
    hyperparameters.check_evaluates(method, path)?;
    let subject = Subject { method, facts: &model.facts };
    let data = DataFacts { training_examples: 0, problem: ProblemType::default() };
    resolve(&hyperparameters, subject, data, path)?;
    let test_file = data_file(app, project, "test_file", &request.test_file).await?.id;
    Ok(JobSpec {
        kind: JobKind::Evaluation,
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
        grading: request.grading,
        baseline,
    })
}

/// A grader, which stands at `at` in a body, ready to work.
///
/// # Errors
/// A template of it cannot be used; the error names it.
pub fn ready<'a>(grader: &'a Grader, at: &str) -> Result<Ready<'a>> {
    Ready::new(grader).map_err(|(field, why)| {
        let at = format!("{at}.{field}");
        Error::invalid(at.clone(), format!("{at} {why}."))
    })
}

/// Refuses graders that cannot work, and those of what writes nothing.
fn check_grading(grading: &Grading, method: Method) -> Result<()> {
    if Some(method) != Method::graded() {
        let message = format!(
            "graders grade what a language model writes, by the method '{}'; the method '{method}' has it write nothing.",
            Method::graded().map_or("none", Method::as_str)
        );
        return Err(Error::invalid("graders", message));
    }
    for (index, grader) in grading.graders.iter().enumerate() {
        ready(grader, &format!("graders[{index}]"))?;
    }
    Ok(())
}

/// A model to compare `model`, which has this head, with: what it is evaluated by, this one can be evaluated by as well.
async fn baseline(
    app: &App,
    project: ProjectId,
    name: &str,
    (model, head): (&Model, Option<&Head>),
    method: Method,
) -> Result<Baseline> {
    let found = models::get(app, project, name).await?;
    if found.id == model.id {
        return Err(Error::invalid("baseline", "baseline is the model itself; give another one to compare it with."));
    }
    models::check_method(&found, method, "evaluated")?;
    if method.is_classification() && models::head(app, &found).await?.ok().as_ref() != head {
        let message = format!(
            "The model '{}' has other labels than '{}', or is no classifier; the two cannot be compared.",
            found.name, model.name
        );
        return Err(Error::invalid("baseline", message));
    }
    Ok(Baseline { name: found.name, model: found.id })
}

fn no_method(model: &Model) -> Error {
    let message = format!(
        "The model '{}' is an encoder without a head; 'method.type' must say what to evaluate it by: embedding.",
        model.name
    );
    Error::invalid("method.type", message).code("missing_required_parameter")
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
