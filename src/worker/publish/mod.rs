//! Storing what a trainer made: files first, under keys that no other attempt uses, then the rows that make them
//! count, in one transaction under the lease.

mod evaluation;
mod metrics_file;

use std::path::{Path, PathBuf};

use super::reports::with_openai_names;
use crate::app::App;
use crate::app::models::below;
use crate::db::queue::{self, Claim};
use crate::db::{Connection, attempts, checkpoints, events, files, keys, metrics, models, moves};
use crate::domain::Timestamp;
use crate::domain::attempt::ProcessEnd;
use crate::domain::checkpoint::{Checkpoint, MetricRow, Metrics};
use crate::domain::error::{Error, Result};
use crate::domain::event::NewEvent;
use crate::domain::file::{File, FilePurpose};
use crate::domain::id::{CheckpointId, FileId, ModelId};
use crate::domain::job::{Job, JobKind, Move, Success};
use crate::domain::model::{Model, ModelFile, ModelKind, checkpoint_name, fine_tuned_name, has_whole_weights, root_of};
use crate::domain::run::Finished;
use crate::process::tree;

/// While a job runs its two latest checkpoints are kept, whatever it asked for: one may turn out damaged.
const KEPT_WHILE_RUNNING: u32 = 2;

/// Where a trainer leaves what it made, in the run's folder.
pub(super) const OUTPUT: &str = "output";

/// A checkpoint that lies complete in the run's folder.
pub(super) struct Made {
    pub(super) step: u64,
    pub(super) folder: PathBuf,
    /// Below that folder, as the trainer named it.
    pub(super) directory: PathBuf,
    pub(super) metrics: Metrics,
    /// Rows up to this step that may not be written yet: they must not be missing where the checkpoint is there.
    pub(super) rows: Vec<MetricRow>,
}

/// Stores a checkpoint. A worker that lost its lease stores nothing. May be tried again after any error: what is done
/// already is not done twice.
pub(super) async fn checkpoint(app: &App, claim: &Claim, job: &Job, made: &Made) -> Result<()> {
    let name = checkpoint_name(&model_name(app, job).await?, made.step);
    let stored = store_files(app, claim, &format!("step-{}", made.step), &made.folder, &made.directory).await?;
    let files = with_base(app, job, stored.clone()).await?;
    let model = made_model(app, job, name, ModelKind::Checkpoint, &stored).await?;
    let checkpoint = Checkpoint {
        id: CheckpointId::new(),
        job: job.id,
        step: made.step,
        model: model.name.clone(),
        metrics: with_openai_names(&made.metrics),
        created_at: Timestamp::now_utc(),
    };
    let mut tx = app.db.begin().await?;
    let connection = tx.connection();
    // The answer to an earlier commit may have been lost on the way.
    if checkpoints::is_recorded(&mut *connection, job.id, made.step, claim.attempt).await? {
        return Ok(());
    }
    if !queue::hold(connection, claim).await? {
        return discard(app, &stored).await;
    }
    metrics::upsert(&mut *connection, job.id, claim.attempt, &made.rows).await?;
    checkpoints::drop_from(&mut *connection, job.id, made.step).await?;
    models::insert(connection, &model, &files).await?;
    checkpoints::insert(&mut *connection, &checkpoint, model.id, claim.attempt).await?;
    retain(connection, job, KEPT_WHILE_RUNNING).await?;
    let event = NewEvent::checkpoint(format!("Checkpoint created at step {}", made.step));
    events::insert(&mut *connection, job.id, &[event]).await?;
    app.failpoints.hit("checkpoint.commit", made.step);
    tx.commit().await
}

/// What a run leaves behind in its folder when it is done.
pub(super) struct Done<'a> {
    pub(super) folder: &'a Path,
    pub(super) finished: &'a Finished,
    pub(super) process: ProcessEnd,
    /// Rows that may not be written yet.
    pub(super) rows: Vec<MetricRow>,
}

/// Stores what a run that is done leaves behind, and ends the job well, all at once; false if the lease is no longer the
/// claim's, so that nothing of it counts. May be tried again after any error.
pub(super) async fn results(app: &App, claim: &Claim, job: &Job, done: &Done<'_>) -> Result<bool> {
    match job.spec.kind {
        JobKind::Training => model(app, claim, job, done).await,
        JobKind::Evaluation => evaluation::publish(app, claim, job, done).await,
    }
}

/// The finished model and the metrics by step.
async fn model(app: &App, claim: &Claim, job: &Job, done: &Done<'_>) -> Result<bool> {
    let stored = store_files(app, claim, "model", done.folder, Path::new(OUTPUT)).await?;
    app.failpoints.hit("model.stored", claim.attempt.into());
    let model = made_model(app, job, model_name(app, job).await?, ModelKind::FineTuned, &stored).await?;
    let results = metrics_file::store(app, claim, job, done).await?;
    let files = with_base(app, job, stored.clone()).await?;
    let success = Success {
        model: Some(model.id),
        result_file: results.id,
        report_file: None,
        trained_tokens: done.finished.trained_tokens,
        evaluation: &done.finished.evaluation,
    };
    let mut tx = app.db.begin().await?;
    let connection = tx.connection();
    let keys: Vec<&str> = stored.iter().map(|file| &*file.object_key).chain([&*results.object_key]).collect();
    if let Some(ended) = ended_already(app, connection, claim, &keys).await? {
        return Ok(ended);
    }
    metrics::upsert(&mut *connection, job.id, claim.attempt, &done.rows).await?;
    models::insert(connection, &model, &files).await?;
    files::insert(&mut *connection, &results).await?;
    retain(connection, job, 0).await?;
    let end = attempts::End { cause: None, detail: "the model was stored", process: done.process, stderr_tail: None };
    attempts::end(&mut *connection, job.id, claim.attempt, &end).await?;
    let made = NewEvent::info(format!("New fine-tuned model created: {}", model.name));
    events::insert(&mut *connection, job.id, &[made]).await?;
    moves::make(connection, job.id, &Move::Succeed(success)).await?;
    app.failpoints.hit("model.commit", claim.attempt.into());
    tx.commit().await?;
    Ok(true)
}

/// Locks the claim's job for its end, and says None. Where the lease is gone, says whether an earlier commit whose answer
/// was lost on the way has ended the job well; if not, the objects under `keys` are discarded.
async fn ended_already(app: &App, db: &mut Connection, claim: &Claim, keys: &[&str]) -> Result<Option<bool>> {
    if queue::hold(db, claim).await? {
        return Ok(None);
    }
    if attempts::succeeded(db, claim.job, claim.attempt).await? {
        return Ok(Some(true));
    }
    for key in keys {
        app.store.delete(key).await?;
    }
    Ok(Some(false))
}

/// Drops what the job does not keep of its checkpoints, but never one of the latest `least`.
async fn retain(db: &mut Connection, job: &Job, least: u32) -> Result<()> {
    let Some(prepared) = &job.prepared else { return Ok(()) };
    let hyperparameters = &prepared.hyperparameters;
    let objective = job.spec.method.watched(hyperparameters);
    checkpoints::retain(db, job.id, hyperparameters.course.keep_checkpoints.max(least), objective).await
}

async fn model_name(app: &App, job: &Job) -> Result<String> {
    let project = keys::project(app.db.pool(), job.project).await?;
    Ok(fine_tuned_name(root_of(&job.spec.model), &project.name, job.spec.suffix.as_deref(), &job.name_tag))
}

/// What a job made, whose run left these files.
async fn made_model(app: &App, job: &Job, name: String, kind: ModelKind, stored: &[ModelFile]) -> Result<Model> {
    let base = models::find_by_id(app.db.pool(), job.spec.base_model)
        .await?
        .ok_or_else(|| Error::internal("a job's base model has no row"))?;
    let mut facts = base.facts;
    // They told of the base model's files.
    facts.notes.clear();
    facts.adapter = job.adapter().filter(|_| !has_whole_weights(stored)).cloned();
    if let Some(prepared) = job.prepared.as_ref().filter(|_| job.spec.method.card().has_length) {
        facts.max_seq_length = prepared.hyperparameters.course.max_sequence_length;
    }
    Ok(Model {
        id: ModelId::new(),
        project: Some(job.project),
        name,
        kind,
        family: base.family,
        facts,
        job: Some(job.id),
        created_at: Timestamp::now_utc(),
    })
}

/// The files of a checkpoint or a model with those of the job's base model that it has no weights without. Nothing sweeps these while
/// the job is active, nor afterwards while a row names them.
async fn with_base(app: &App, job: &Job, mut files: Vec<ModelFile>) -> Result<Vec<ModelFile>> {
    if !has_whole_weights(&files) {
        files.extend(below(app, job).await?);
    }
    Ok(files)
}

/// Stores every file below `directory` in the run's folder.
async fn store_files(app: &App, claim: &Claim, part: &str, run: &Path, directory: &Path) -> Result<Vec<ModelFile>> {
    let mut stored = Vec::new();
    for tree::OpenFile { path, file } in tree::open_all(run, directory).await? {
        let object_key = format!("jobs/{}/{}/{part}/{path}", claim.job.0.simple(), claim.token.0.simple());
        let object = app.store.put_open(&object_key, file).await?;
        stored.push(ModelFile { path, bytes: object.bytes, sha256: object.sha256, object_key });
    }
    Ok(stored)
}

async fn discard(app: &App, files: &[ModelFile]) -> Result<()> {
    for file in files {
        app.store.delete(&file.object_key).await?;
    }
    Ok(())
}

/// Stores what an open file holds as one of the project's files, for results.
async fn result_file(app: &App, claim: &Claim, job: &Job, file: std::fs::File, filename: &str) -> Result<File> {
    let id = FileId::new();
    let extension = Path::new(filename).extension().unwrap_or_default().to_string_lossy();
    let object_key = format!("jobs/{}/{}/{}.{extension}", claim.job.0.simple(), claim.token.0.simple(), id.0.simple());
    let stored = app.store.put_open(&object_key, file).await?;
    Ok(File {
        id,
        project: job.project,
        purpose: FilePurpose::FineTuneResults,
        filename: filename.to_owned(),
        bytes: stored.bytes,
        sha256: stored.sha256,
        object_key,
        report: None,
        created_at: Timestamp::now_utc(),
        expires_at: None,
    })
}
