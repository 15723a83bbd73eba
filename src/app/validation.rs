//! Checking the files of new jobs, and moving the jobs into the queue.

use super::App;
use super::jobs::{Move, told};
use super::preparation::{Refusal, prepare};
use crate::db::{events, jobs, queue, validation};
use crate::domain::error::{ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::job::{Job, JobError, JobKind, Prepared};

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
    let mut connection = app.db.connection().await?;
    let Some(job) = jobs::find_any(&mut connection, id).await? else { return Ok(true) };
    drop(connection);
    if taken.tries > MOST_TRIES {
        let message = format!("The job's files could not be read in {MOST_TRIES} tries.");
        let refusal = Refusal { error: JobError::new("validation_failed", message), report: None, prepared: None };
        refuse(app, &job, &refusal).await?;
        return Ok(true);
    }
    match prepare(app, job.project, &job.spec).await {
        Ok(Ok(prepared)) => accept(app, &job, &prepared).await?,
        Ok(Err(refusal)) => refuse(app, &job, &refusal).await?,
        Err(error) => {
            if error.kind == ErrorKind::Unavailable {
                validation::forgive(app.db.pool(), id).await?;
            }
            return Err(error);
        }
    }
    Ok(true)
}

async fn accept(app: &App, job: &Job, prepared: &Prepared) -> Result<()> {
    let report = &prepared.report;
    let (name, examples) = match (job.spec.kind(), &report.test) {
        (JobKind::Evaluation, Some(test)) => ("Test", test.examples),
        _ => ("Training", report.training.examples),
    };
    let mut recorded = vec![NewEvent::info(match prepared.labels.len() {
        0 => format!("{name} file has {examples} examples"),
        labels => format!("{name} file has {examples} examples with {labels} labels"),
    })];
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
        told(app, job.spec.kind(), job.id, Move::Queued, Some("its files are validated")).await;
    }
    Ok(())
}

async fn refuse(app: &App, job: &Job, refusal: &Refusal) -> Result<()> {
    let mut tx = app.db.begin().await?;
    if validation::refuse(&mut *tx.connection(), job.id, &refusal.error, refusal.report.as_deref()).await? {
        let data = serde_json::json!({"error_code": refusal.error.code, "error_param": refusal.error.param});
        let event = NewEvent::error(refusal.error.message.clone()).data(data);
        events::insert(&mut *tx.connection(), job.id, &[event]).await?;
        tx.commit().await?;
        told(app, job.spec.kind(), job.id, Move::Failed, Some(&refusal.error.message)).await;
    }
    Ok(())
}
