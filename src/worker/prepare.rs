//! Everything a run needs, in its own folder: the spec, the base model, the data, and the checkpoint to go on from.

use std::path::{Path, PathBuf};

use super::Worker;
use super::publish::OUTPUT;
use super::reports::Reports;
use crate::app::App;
use crate::app::models::{fetch, loaded_from};
use crate::app::objects::Object;
use crate::db::queue::Claim;
use crate::db::{checkpoints, files, models};
use crate::domain::error::{Error, ErrorKind, Result, is_storage_full};
use crate::domain::event::NewEvent;
use crate::domain::hex::hex;
use crate::domain::id::{FileId, ModelId};
use crate::domain::job::{Baseline, DEFAULT_VALIDATION_SPLIT, Job, JobError, NotReady, OverlapPolicy};
use crate::domain::model::Model;
use crate::domain::report::DataFormat;
use crate::domain::run::{BaselineModel, DataFile, RunSpec, VERSION};
use crate::private;
use crate::store::out_of_storage;

/// Fills the run's folder with everything the trainer needs.
///
/// # Errors
/// The job cannot run, or the database, the store or the disk fails.
pub(super) async fn prepare(
    worker: &Worker,
    claim: &Claim,
    job: &Job,
    folder: &Path,
    reports: &mut Reports,
) -> std::result::Result<(), NotReady> {
    let app = &worker.app;
    let _ = tokio::fs::remove_dir_all(folder).await;
    // Nothing that others may have put there is taken for ours.
    tokio::fs::DirBuilder::new().mode(private::FOLDER).create(folder).await.map_err(io_error)?;
    for part in ["model", "data"] {
        tokio::fs::create_dir_all(folder.join(part)).await.map_err(io_error)?;
    }
    let prepared = job.prepared.as_ref().ok_or_else(|| Error::internal("a queued job was not validated"))?;
    let base = found(app, job.spec.base_model).await?;
    fetch(app, &base, &loaded_from(app, base.id).await?, &folder.join("model")).await?;
    let resume = resume_point(app, job, folder, reports).await?;
    let spec = &job.spec;
    let mut baseline = None;
    if let Some(Baseline { name, model }) = &spec.baseline {
        let path = PathBuf::from("baseline");
        fetch(app, &found(app, *model).await?, &loaded_from(app, *model).await?, &folder.join(&path)).await?;
        baseline = Some(BaselineModel { path, name: name.clone() });
    }
    let mut files = [const { None }; 3];
    for ((param, id), place) in spec.files().into_iter().zip(&mut files) {
        let Some(id) = id else { continue };
        *place = Some(data_file(app, job, param, id, folder).await?);
    }
    let [training, validation, test] = files;
    let run = RunSpec {
        version: VERSION,
        job: spec.kind.public_id(job.id),
        method: spec.method,
        model: PathBuf::from("model"),
        model_name: spec.model.clone(),
        training,
        validation,
        validation_split: spec.dataset.validation_split.unwrap_or(DEFAULT_VALIDATION_SPLIT),
        grouped: prepared.report.grouped,
        drops_overlap: spec.dataset.overlap == Some(OverlapPolicy::Drop),
        test,
        grading: spec.grading.clone(),
        baseline,
        labels: prepared.labels.clone(),
        hyperparameters: prepared.hyperparameters.clone(),
        seed: spec.seed,
        resume,
        checkpoints: PathBuf::from("checkpoints"),
        output: PathBuf::from(OUTPUT),
        threads: worker.threads,
        min_free_bytes: app.config.reserve.of_runs().0,
        failpoints: app.failpoints.for_trainer(claim.attempt),
    };
    let text = serde_json::to_vec_pretty(&run).map_err(Error::internal)?;
    Ok(tokio::fs::write(folder.join("spec.json"), text).await.map_err(io_error)?)
}

async fn found(app: &App, model: ModelId) -> Result<Model> {
    let found = models::find_by_id(app.db.pool(), model).await?;
    found.ok_or_else(|| Error::internal("a job's model has no row"))
}

fn io_error(error: std::io::Error) -> Error {
    if is_storage_full(&error) { out_of_storage(error) } else { Error::internal(error) }
}

/// Fetches the latest checkpoint that is whole. A damaged one is stepped over; if all are, the job fails rather than
/// starting over in silence.
async fn resume_point(
    app: &App,
    job: &Job,
    folder: &Path,
    reports: &mut Reports,
) -> std::result::Result<Option<PathBuf>, NotReady> {
    let candidates = checkpoints::resumable(app.db.pool(), job.id).await?;
    for (step, model) in &candidates {
        let model = found(app, *model).await?;
        let mut stored = models::files(app.db.pool(), model.id).await?;
        // The run has its base model anyway.
        stored.retain(|file| !file.is_of_base());
        let _ = tokio::fs::remove_dir_all(folder.join("resume")).await;
        match fetch(app, &model, &stored, &folder.join("resume")).await {
            Ok(()) => return Ok(Some(PathBuf::from("resume"))),
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::OutOfStorage) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::warn!(
                    job = job.spec.kind.public_id(job.id),
                    step,
                    error = error.chain(),
                    "a checkpoint cannot be used"
                );
                reports.event(NewEvent::warn(format!("The checkpoint at step {step} is damaged and is passed over")));
            }
        }
    }
    if candidates.is_empty() {
        return Ok(None);
    }
    let message = "None of the job's checkpoints can be read, so it cannot go on from where it was.";
    Err(JobError::new("invalid_checkpoint", message).into())
}

async fn data_file(
    app: &App,
    job: &Job,
    param: &str,
    id: FileId,
    folder: &Path,
) -> std::result::Result<DataFile, NotReady> {
    let Some(file) = files::find_for_job(app.db.pool(), job.project, id).await? else {
        let error = JobError::new(format!("invalid_{param}"), "The file was deleted before it was read.");
        return Err(error.param(param).into());
    };
    let path = Path::new("data").join(param);
    Object::of_file(&file).named_by(param).fetch(app, &folder.join(&path)).await?;
    Ok(DataFile {
        path,
        format: file.report.as_ref().map_or(DataFormat::Jsonl, |report| report.format),
        options: job.spec.dataset.read.clone(),
        sha256: hex(&file.sha256),
    })
}
