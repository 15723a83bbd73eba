//! Creating jobs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::get;
use super::request::{DataFile, RequestIdentity, check_metadata, data_file, find_repeated, insert, seed_or_random};
use crate::app::preparation::{Reads, Refusal, prepare};
use crate::app::tally::Share;
use crate::app::{App, models, quotas};
use crate::domain::backbone::Backbone;
use crate::domain::error::{Error, Result};
use crate::domain::hyperparameters::{DataFacts, Requested, Subject, resolve};
use crate::domain::id::ProjectId;
use crate::domain::job::{DatasetOptions, Job, JobKind, JobSpec, Prepared, SUFFIX_CHARS, is_suffix};
use crate::domain::method::Method;
use crate::domain::model::Model;

/// A request for a job, as far as its JSON types go.
#[derive(Clone, Debug, Default)]
pub struct CreateJob {
    pub model: String,
    pub training_file: String,
    pub validation_file: Option<String>,
    pub test_file: Option<String>,
    pub method: Option<Method>,
    pub hyperparameters: Map<String, Value>,
    /// Where the hyperparameters stand in the request, for errors.
    pub hyperparameters_path: String,
    pub dataset: DatasetOptions,
    pub suffix: Option<String>,
    pub seed: Option<i64>,
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Creates a job, or finds the one that the same request made before.
///
/// # Errors
/// Something in the request is not allowed or does not exist; the error names the field.
pub async fn create(app: &App, project: ProjectId, request: CreateJob, identity: RequestIdentity) -> Result<Job> {
    if let Some(existing) = find_repeated(app, project, JobKind::Training, &identity).await? {
        return get(app, project, JobKind::Training, &existing.to_string()).await;
    }
    let spec = check(app, project, request).await?;
    let id = insert(app, project, &spec, &identity).await?;
    get(app, project, JobKind::Training, &id.to_string()).await
}

/// What a job would be.
#[derive(Debug)]
pub struct DryRun {
    pub spec: JobSpec,
    pub outcome: std::result::Result<Prepared, Refusal>,
    /// It counts as under way while this is held.
    pub counted: Share,
}

/// Does everything for a job that happens before it is queued, and creates nothing.
///
/// # Errors
/// Something in the request is not allowed or does not exist; the error names the field. Or the project has as many dry
/// runs at once as it may.
pub async fn dry_run(app: &App, project: ProjectId, request: CreateJob) -> Result<DryRun> {
    let spec = check(app, project, request).await?;
    let counted = quotas::admit_dry_run(app, project).await?;
    let _place = app.reading.enter(project).await?;
    let outcome = match prepare(app, project, &spec, Reads::All).await {
        Ok(prepared) => Ok(prepared),
        Err(not_ready) => Err(not_ready.refused()?),
    };
    Ok(DryRun { spec, outcome, counted })
}

/// Turns a request into a spec, with everything checked that needs no reading of files.
pub(super) async fn check(app: &App, project: ProjectId, request: CreateJob) -> Result<JobSpec> {
    check_words(&request)?;
    let seed = seed_or_random(request.seed)?;
    let model = models::get(app, project, &request.model).await?;
    let training = data_file(app, project, "training_file", &request.training_file).await?;
    let method = request.method.map_or_else(|| usual_method(model.facts.backbone, &training), Ok)?;
    models::check_method(&model, method, "fine-tuned")?;
    let path = &request.hyperparameters_path;
    let hyperparameters = Requested::parse(method, request.hyperparameters, path)?;
    let optional = async |param, id: &Option<String>| match id {
        Some(id) => data_file(app, project, param, id).await.map(|file| Some(file.id)),
        None => Ok(None),
    };
    let validation_file = optional("validation_file", &request.validation_file).await?;
    let test_file = optional("test_file", &request.test_file).await?;
    check_against_model(&hyperparameters, method, &model, training.rows, path)?;
    Ok(JobSpec {
        kind: JobKind::Training,
        model: model.name,
        base_model: model.id,
        training_file: Some(training.id),
        validation_file,
        test_file,
        method,
        hyperparameters,
        dataset: request.dataset,
        suffix: request.suffix,
        seed,
        metadata: request.metadata,
        grading: None,
        baseline: None,
    })
}

/// The method of a job that names none.
///
/// # Errors
/// The file can be read for several of those that know their data.
fn usual_method(backbone: Backbone, training: &DataFile) -> Result<Method> {
    let told: Vec<Method> = training.told.iter().copied().filter(|method| method.supports(backbone)).collect();
    if backbone.is_language_model() && told.len() > 1 {
        let methods = told.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(" and for ");
        let message = format!("The training file can be read for {methods}: say which in 'method.type'.");
        return Err(Error::invalid("method", message));
    }
    Ok(Method::default_for(backbone, &[told, training.others.clone()].concat()))
}

/// Values that do not fit the model are refused now rather than when the files are read.
fn check_against_model(
    requested: &Requested,
    method: Method,
    model: &Model,
    training_examples: u64,
    path: &str,
) -> Result<()> {
    let subject = Subject { method, facts: &model.facts };
    let problem = requested.problem_type().unwrap_or_default();
    resolve(requested, subject, DataFacts { training_examples, problem }, path).map(drop)
}

fn check_words(request: &CreateJob) -> Result<()> {
    if let Some(suffix) = &request.suffix
        && !is_suffix(suffix)
    {
        let message = format!(
            "Invalid value for 'suffix'. Allowed: 1 to {SUFFIX_CHARS} letters, digits, dots, dashes and underscores."
        );
        return Err(Error::invalid("suffix", message));
    }
    if let Some(fraction) = request.dataset.validation_split
        && !(0.0..=0.5).contains(&fraction)
    {
        let message = format!("Invalid value for 'validation_split': {fraction}. Allowed: 0 to 0.5.");
        return Err(Error::invalid("dataset.validation_split", message));
    }
    request.metadata.as_ref().map_or(Ok(()), check_metadata)
}
