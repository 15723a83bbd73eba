//! Reading a job's files, settling its hyperparameters, and predicting what its run needs: for the validation of a job
//! that was created, and for the dry run of one that was not.

mod evaluation;
mod files;
pub mod preview;
mod training;

use super::{App, models};
use crate::db::{self, workers};
use crate::domain::error::{Error, Result};
use crate::domain::estimate::{self, Device, Machine};
use crate::domain::hyperparameters::{DataFacts, Hyperparameters, Subject, resolve};
use crate::domain::id::{ModelId, ProjectId};
use crate::domain::job::{JobError, JobKind, JobSpec, NotReady, Prepared};
use crate::domain::model::Model;
use crate::domain::report::DataReport;

/// Why a job cannot run, and what was found in its files.
#[derive(Debug)]
pub struct Refusal {
    pub error: JobError,
    pub report: Option<Box<DataReport>>,
    /// What the run would be, where that much is known.
    pub prepared: Option<Box<Prepared>>,
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Self {
        Self { error, report: None, prepared: None }
    }
}

impl From<Refusal> for NotReady<Refusal> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Refusal {
    /// One because of what was found in the files.
    fn of_files(error: JobError, report: &DataReport) -> Self {
        Self { error, report: Some(Box::new(report.clone())), prepared: None }
    }
}

/// Which files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// All of them: whoever only tries wants to know whether they are whole.
    All,
    /// Those in which it is not known what was found. What is damaged is found out when the run begins.
    Unknown,
}

/// What can be prepared of a job, or why it cannot.
type Preparing<T> = std::result::Result<T, NotReady<Refusal>>;

/// Prepares a job.
///
/// # Errors
/// It cannot run; or the database or the store is away, or a file cannot be read.
pub async fn prepare(app: &App, project: ProjectId, spec: &JobSpec, reads: Reads) -> Preparing<Prepared> {
    let model = model_there(app, spec.base_model, "model").await?;
    match spec.kind {
        JobKind::Training => training::prepare(app, project, spec, &model, reads).await,
        JobKind::Evaluation => evaluation::prepare(app, project, spec, &model, reads).await,
    }
}

/// The model that the request's field `param` names, whose files are all there.
async fn model_there(app: &App, id: ModelId, param: &str) -> Preparing<Model> {
    let model = db::models::find_by_id(app.db.pool(), id).await?;
    let model = model.ok_or_else(|| Error::internal("a job's model has no row"))?;
    let files = db::models::files(app.db.pool(), id).await?;
    if files.is_empty() {
        let message = format!("The model '{}' was deleted before it was read.", model.name);
        return Err(JobError::new("invalid_model", message).param(param).into());
    }
    models::check_sizes(app, &model, &files).await?;
    Ok(model)
}

/// The hyperparameters in force, or what of them does not fit.
fn settle(spec: &JobSpec, model: &Model, data: DataFacts) -> std::result::Result<Hyperparameters, JobError> {
    let subject = Subject { method: spec.method, facts: &model.facts };
    resolve(&spec.hyperparameters, subject, data, "hyperparameters").map_err(|error| {
        let refused = JobError::new("invalid_hyperparameter", error.message);
        JobError { param: error.param, ..refused }
    })
}

/// What the workers' machines offer, and the device that a run would get.
async fn devices(app: &App) -> Result<(Vec<Machine>, Device)> {
    let machines = workers::machines(app.db.pool()).await?;
    let device = estimate::likely_device(&machines).unwrap_or(Device { is_gpu: false, has_bf16: true });
    Ok((machines, device))
}

/// The job, unless none of the machines has room for it.
fn placed(prepared: Prepared, machines: &[Machine]) -> std::result::Result<Prepared, Refusal> {
    match prepared.estimate.as_ref().and_then(|estimate| estimate::shortage(estimate, machines)) {
        None => Ok(prepared),
        Some(error) => {
            let refusal = Refusal::of_files(error, &prepared.report);
            Err(Refusal { prepared: Some(Box::new(prepared)), ..refusal })
        }
    }
}
