//! Storing what an evaluation found: a report, and a line for each example.

use std::path::Path;

use super::{Done, OUTPUT, ended_already, result_file};
use crate::app::App;
use crate::db::queue::Claim;
use crate::db::{attempts, files, moves};
use crate::domain::error::Result;
use crate::domain::job::{Job, Move, Success};
use crate::process::tree;

/// As [`results`](super::results), for an evaluation.
pub(super) async fn publish(app: &App, claim: &Claim, job: &Job, done: &Done<'_>) -> Result<bool> {
    let stored = async |name: &str| {
        let file = tree::open_file(done.folder, &Path::new(OUTPUT).join(name)).await?;
        result_file(app, claim, job, file, name).await
    };
    let (predictions, report) = (stored("predictions.jsonl").await?, stored("report.json").await?);
    let success = Success {
        model: None,
        result_file: predictions.id,
        report_file: Some(report.id),
        trained_tokens: done.finished.trained_tokens,
        evaluation: &done.finished.evaluation,
    };
    let mut tx = app.db.begin().await?;
    let connection = tx.connection();
    let keys = [&*predictions.object_key, &*report.object_key];
    if let Some(ended) = ended_already(app, connection, claim, &keys).await? {
        return Ok(ended);
    }
    for file in [&predictions, &report] {
        files::insert(&mut *connection, file).await?;
    }
    let end = attempts::End { cause: None, detail: "the report was stored", process: done.process, stderr_tail: None };
    attempts::end(&mut *connection, job.id, claim.attempt, &end).await?;
    moves::make(connection, job.id, &Move::Succeed(success)).await?;
    tx.commit().await?;
    Ok(true)
}
