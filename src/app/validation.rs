//! Checking the files of new jobs, and moving the jobs into the queue.

use super::App;
use crate::dataset::prepare::{self, Input, Inputs};
use crate::db::{events, files, jobs, models, queue, validation};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::hyperparameters::{DataFacts, resolve};
use crate::domain::id::{FileId, JobId, ProjectId};
use crate::domain::job::{Job, JobError, Prepared};
use crate::domain::report::{DataFormat, DataReport};
use crate::store::Opened;

/// How often the files of a job are taken up before they are given up.
const MOST_TRIES: u32 = 5;

/// Checks the files of the next job that waits for it; false if none does. If this process dies on the way, another
/// one takes the job a minute later; whoever comes last changes nothing. Files that cannot be read time and again, or
/// that bring down who reads them, fail their job.
///
/// # Errors
/// The database or the store is away.
pub async fn run_once(app: &App) -> Result<bool> {
    let Some(taken) = validation::take(app.db.pool()).await? else { return Ok(false) };
    let id = taken.job;
    if taken.tries > MOST_TRIES {
        let message = format!("The job's files could not be read in {MOST_TRIES} tries.");
        let refusal = Refusal { error: JobError::new("validation_failed", message), report: None };
        refuse(app, id, &refusal).await?;
        return Ok(true);
    }
    let mut connection = app.db.connection().await?;
    let Some(job) = jobs::find_any(&mut connection, id).await? else { return Ok(true) };
    drop(connection);
    match check(app, &job).await {
        Ok(Ok(prepared)) => accept(app, &job, &prepared).await?,
        Ok(Err(refusal)) => refuse(app, id, &refusal).await?,
        Err(error) => {
            if error.kind == ErrorKind::Unavailable {
                validation::forgive(app.db.pool(), id).await?;
            }
            return Err(error);
        }
    }
    Ok(true)
}

/// Why a job cannot run.
struct Refusal {
    error: JobError,
    report: Option<DataReport>,
}

async fn check(app: &App, job: &Job) -> Result<std::result::Result<Prepared, Refusal>> {
    let spec = &job.spec;
    let files = [
        ("training_file", Some(spec.training_file)),
        ("validation_file", spec.validation_file),
        ("test_file", spec.test_file),
    ];
    let mut found = [const { None }; 3];
    for ((param, id), place) in files.into_iter().zip(&mut found) {
        let Some(id) = id else { continue };
        *place = input(app, job.project, id).await?;
        if place.is_none() {
            let message = "The file was deleted before it was read.";
            let error = JobError::new(format!("invalid_{param}"), message).param(param);
            return Ok(Err(Refusal { error, report: None }));
        }
    }
    let mut opened = Vec::new();
    let [training, validation, test] = found.map(|place: Option<(Input, Opened)>| {
        place.map(|(input, file)| {
            opened.push(file);
            input
        })
    });
    let training = training.ok_or_else(|| Error::internal("a job without training file"))?;
    let inputs = Inputs { training, validation, test };
    let options = spec.dataset.clone();
    let read = move || {
        let _opened = opened;
        prepare::text_classification(&inputs, &options)
    };
    let (report, labels) = tokio::task::spawn_blocking(read)
        .await
        .map_err(Error::internal)?
        .map_err(Error::internal)?;
    let labels = match labels {
        Ok(labels) => labels,
        Err(error) => return Ok(Err(Refusal { error, report: Some(report) })),
    };
    let model = models::find_by_id(app.db.pool(), job.spec.base_model)
        .await?
        .ok_or_else(|| Error::internal("a job's base model has no row"))?;
    let data = DataFacts { training_examples: report.training.examples - report.held_out };
    match resolve(&job.spec.hyperparameters, &model.facts, data, "hyperparameters") {
        Ok(hyperparameters) => Ok(Ok(Prepared { hyperparameters, labels, report })),
        Err(error) => {
            let mut job_error = JobError::new("invalid_hyperparameter", error.message);
            job_error.param = error.param;
            Ok(Err(Refusal { error: job_error, report: Some(report) }))
        }
    }
}

/// A data file, and what keeps it there while it is read.
async fn input(app: &App, project: ProjectId, id: FileId) -> Result<Option<(Input, Opened)>> {
    let Some(file) = files::find_for_job(app.db.pool(), project, id).await? else { return Ok(None) };
    let opened = app.store.open_file(&file.object_key, file.sha256, &app.runs()).await?;
    let format = file.report.map_or(DataFormat::Jsonl, |report| report.format);
    Ok(Some((Input { path: opened.path().to_owned(), format }, opened)))
}

async fn accept(app: &App, job: &Job, prepared: &Prepared) -> Result<()> {
    let report = &prepared.report;
    let mut recorded = vec![NewEvent::info(format!(
        "Training file has {} examples with {} labels",
        report.training.examples,
        prepared.labels.len()
    ))];
    if report.held_out > 0 {
        let message = format!("No validation file: {} training examples are held out for validation", report.held_out);
        recorded.push(NewEvent::info(message));
    }
    if report.validation_overlap > 0 {
        let lines: Vec<String> = report.validation_overlap_lines.iter().map(u64::to_string).collect();
        recorded.push(NewEvent::warn(format!(
            "{} validation texts are also training texts, so validation scores will look too good (lines {}{})",
            report.validation_overlap,
            lines.join(", "),
            if report.validation_overlap > lines.len() as u64 { ", …" } else { "" }
        )));
    }
    recorded.push(NewEvent::info("Files validated, moving job to queued state"));
    let mut tx = app.db.begin().await?;
    if validation::queue(&mut *tx.connection(), job.id, prepared).await? {
        events::insert(&mut *tx.connection(), job.id, &recorded).await?;
        queue::hint(&mut *tx.connection()).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn refuse(app: &App, id: JobId, refusal: &Refusal) -> Result<()> {
    let mut tx = app.db.begin().await?;
    if validation::refuse(&mut *tx.connection(), id, &refusal.error, refusal.report.as_ref()).await? {
        let data = serde_json::json!({"error_code": refusal.error.code, "error_param": refusal.error.param});
        let event = NewEvent::error(refusal.error.message.clone()).data(data);
        events::insert(&mut *tx.connection(), id, &[event]).await?;
        tx.commit().await?;
    }
    Ok(())
}
