//! What a finished job's model was found to be worth.

use serde_json::Value;

use super::get;
use crate::app::objects::Object;
use crate::app::{App, models};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::id::ProjectId;
use crate::domain::job::{JobKind, JobStatus};

/// The folder of a model that holds its evaluations.
const FOLDER: &str = "evaluation/";

/// The largest report that is answered whole, in bytes: a confusion matrix of a thousand classes has ten million.
const MOST_BYTES: u64 = 32 << 20;

/// A job's evaluations.
#[derive(Debug)]
pub struct Evaluations {
    pub job: String,
    pub model: String,
    pub validation: Option<Report>,
    pub test: Option<Report>,
}

/// An evaluation on one file.
#[derive(Debug)]
pub struct Report {
    /// Scores, scores per class, the confusion matrix, intervals: as the task has them.
    pub report: Value,
    /// The path of the file of the model that has a line for each example.
    pub predictions: String,
}

/// The evaluations of a project's job.
///
/// # Errors
/// There is no such job, it has not succeeded, or its model was deleted.
pub async fn evaluation(app: &App, project: ProjectId, id: &str) -> Result<Evaluations> {
    let job = get(app, project, JobKind::Training, id).await?;
    let Some(model) = job.fine_tuned_model.filter(|_| job.status == JobStatus::Succeeded) else {
        let message = format!("The job has no evaluation: it is {}, and has no model.", job.status);
        return Err(Error::new(ErrorKind::NotFound, message).param("fine_tune_id").code("evaluation_not_found"));
    };
    let (found, files) = models::files(app, project, &model).await?;
    let part = async |prefix: &str| -> Result<Option<Report>> {
        let of = |name: &str| files.iter().find(|file| file.path == format!("{FOLDER}{prefix}{name}"));
        let Some(report) = of("report.json") else { return Ok(None) };
        let predictions = of("predictions.jsonl").map(|file| file.path.clone()).unwrap_or_default();
        let report = read_report(app, Object::of_model(&found, report)).await?.ok_or_else(|| {
            let message = format!("The report is too large to be answered; download the model's file {}.", report.path);
            Error::new(ErrorKind::NotFound, message).code("evaluation_too_large")
        })?;
        Ok(Some(Report { report, predictions }))
    };
    let (validation, test) = (part("validation_").await?, part("").await?);
    Ok(Evaluations { job: id.to_owned(), model, validation, test })
}

/// A stored report; None where it is too large to be answered whole.
///
/// # Errors
/// It is damaged, or the store is away.
pub(in crate::app) async fn read_report(app: &App, object: Object<'_>) -> Result<Option<Value>> {
    if object.stored().bytes > MOST_BYTES {
        return Ok(None);
    }
    serde_json::from_slice(&object.read_all(app).await?).map(Some).map_err(Error::internal)
}
