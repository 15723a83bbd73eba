//! Reading a job's files, settling its hyperparameters, and predicting what its run needs: for the validation of a job
//! that was created, and for the dry run of one that was not.

use super::App;
use crate::dataset::Input;
use crate::dataset::prepare::{self, Found, Inputs, Wanted};
use crate::db::{files, models, workers};
use crate::domain::error::{Error, Result};
use crate::domain::estimate::{self, Device};
use crate::domain::hyperparameters::{DataFacts, Subject, resolve};
use crate::domain::id::{FileId, ProjectId};
use crate::domain::job::{JobError, JobSpec, Prepared};
use crate::domain::report::{DataFormat, DataReport};
use crate::store::Opened;

/// Why a job cannot run, and what was found in its files.
#[derive(Debug)]
pub struct Refusal {
    pub error: JobError,
    pub report: Option<DataReport>,
    /// What the run would be, where that much is known.
    pub prepared: Option<Box<Prepared>>,
}

/// Prepares a job; the inner result says whether it can run.
///
/// # Errors
/// The database or the store is away, or a file cannot be read.
pub async fn prepare(app: &App, project: ProjectId, spec: &JobSpec) -> Result<std::result::Result<Prepared, Refusal>> {
    let Found { report, problem, labels } = match read(app, project, spec).await? {
        Ok(found) => found,
        Err(error) => return Ok(Err(Refusal { error, report: None, prepared: None })),
    };
    let labels = match labels {
        Ok(labels) => labels,
        Err(error) => return Ok(Err(Refusal { error, report: Some(report), prepared: None })),
    };
    let model = models::find_by_id(app.db.pool(), spec.base_model)
        .await?
        .ok_or_else(|| Error::internal("a job's base model has no row"))?;
    let data = DataFacts { training_examples: report.training.examples - report.held_out, problem };
    let subject = Subject { method: spec.method, family: model.family, facts: &model.facts };
    let hyperparameters = match resolve(&spec.hyperparameters, subject, data, "hyperparameters") {
        Ok(hyperparameters) => hyperparameters,
        Err(error) => {
            let mut job_error = JobError::new("invalid_hyperparameter", error.message);
            job_error.param = error.param;
            return Ok(Err(Refusal { error: job_error, report: Some(report), prepared: None }));
        }
    };
    let machines = workers::machines(app.db.pool()).await?;
    let device = estimate::likely_device(&machines).unwrap_or(Device { is_gpu: false, has_bf16: true });
    let estimate = estimate::estimate(&model.facts, &hyperparameters, &report, device);
    let shortage = estimate::shortage(&estimate, &machines);
    let prepared = Prepared { hyperparameters, labels, report, estimate: Some(estimate) };
    Ok(match shortage {
        None => Ok(prepared),
        Some(error) => {
            let report = Some(prepared.report.clone());
            Err(Refusal { error, report, prepared: Some(Box::new(prepared)) })
        }
    })
}

async fn read(app: &App, project: ProjectId, spec: &JobSpec) -> Result<std::result::Result<Found, JobError>> {
    let files = [
        ("training_file", Some(spec.training_file)),
        ("validation_file", spec.validation_file),
        ("test_file", spec.test_file),
    ];
    let mut found = [const { None }; 3];
    let mut opened = Vec::new();
    for ((param, id), place) in files.into_iter().zip(&mut found) {
        let Some(id) = id else { continue };
        let Some((input, file)) = open(app, project, id).await? else {
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

/// A data file, and what keeps it there while it is read.
async fn open(app: &App, project: ProjectId, id: FileId) -> Result<Option<(Input, Opened)>> {
    let Some(file) = files::find_for_job(app.db.pool(), project, id).await? else { return Ok(None) };
    let opened = app.store.open_file(&file.object_key, file.sha256, &app.runs()).await?;
    let format = file.report.map_or(DataFormat::Jsonl, |report| report.format);
    Ok(Some((Input { path: opened.path().to_owned(), format }, opened)))
}
