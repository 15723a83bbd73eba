//! Creating jobs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::get;
use crate::app::preparation::{Refusal, prepare};
use crate::app::{App, models};
use crate::auth;
use crate::db::{events, files, jobs, queue};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::file::FilePurpose;
use crate::domain::hyperparameters::{DataFacts, Requested, Subject, resolve};
use crate::domain::id::{FileId, JobId, ProjectId};
use crate::domain::job::{
    DatasetOptions, Job, JobSpec, METADATA_KEY_CHARS, METADATA_PAIRS, METADATA_VALUE_CHARS, Prepared, SUFFIX_CHARS,
    is_suffix,
};
use crate::domain::method::Method;
use crate::domain::model::{Model, name_tag};

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

/// How to tell a repeated request from a new one.
#[derive(Clone, Debug)]
pub struct RequestIdentity {
    /// SHA-256 of the request's body.
    pub hash: [u8; 32],
    /// The client's `Idempotency-Key`.
    pub key: Option<String>,
    /// Whether the client says that it sends the request again. The official SDKs retry without a key, and say so.
    pub is_retry: bool,
}

/// Creates a job, or finds the one that the same request made before.
///
/// # Errors
/// Something in the request is not allowed or does not exist; the error names the field.
pub async fn create(app: &App, project: ProjectId, request: CreateJob, identity: RequestIdentity) -> Result<Job> {
    if let Some(existing) = find_repeated(app, project, &identity).await? {
        return get(app, project, &existing.to_string()).await;
    }
    let spec = check(app, project, request).await?;
    let id = JobId::new();
    let new = jobs::NewJob {
        id,
        project,
        spec: &spec,
        name_tag: &name_tag(auth::random()?),
        request_hash: identity.hash,
        idempotency_key: identity.key.as_deref(),
    };
    let mut tx = app.db.begin().await?;
    if !jobs::insert(tx.connection(), &new).await? {
        // Another request with this key was faster.
        drop(tx);
        let existing = find_repeated(app, project, &identity).await?.ok_or_else(|| Error::internal("job vanished"))?;
        return get(app, project, &existing.to_string()).await;
    }
    let created = [
        NewEvent::info(format!("Created fine-tuning job: {id}")),
        NewEvent::info(format!("Validating training file: {}", spec.training_file)),
    ];
    events::insert(&mut *tx.connection(), id, &created).await?;
    queue::hint(&mut *tx.connection()).await?;
    tx.commit().await?;
    get(app, project, &id.to_string()).await
}

/// What a job would be.
#[derive(Debug)]
pub struct DryRun {
    pub spec: JobSpec,
    pub outcome: std::result::Result<Prepared, Refusal>,
}

/// Does everything for a job that happens before it is queued, and creates nothing.
///
/// # Errors
/// Something in the request is not allowed or does not exist; the error names the field.
pub async fn dry_run(app: &App, project: ProjectId, request: CreateJob) -> Result<DryRun> {
    let spec = check(app, project, request).await?;
    let outcome = prepare(app, project, &spec).await?;
    Ok(DryRun { spec, outcome })
}

async fn find_repeated(app: &App, project: ProjectId, identity: &RequestIdentity) -> Result<Option<JobId>> {
    if let Some(key) = &identity.key {
        return match jobs::find_by_key(app.db.pool(), project, key).await? {
            Some((_, hash)) if hash != identity.hash => {
                Err(Error::new(ErrorKind::Conflict, "This Idempotency-Key was used for a request with another body.")
                    .code("idempotency_key_reused"))
            }
            found => Ok(found.map(|(id, _)| id)),
        };
    }
    if identity.is_retry { jobs::find_recent(app.db.pool(), project, identity.hash).await } else { Ok(None) }
}

/// Turns a request into a spec, with everything checked that needs no reading of files.
async fn check(app: &App, project: ProjectId, request: CreateJob) -> Result<JobSpec> {
    check_words(&request)?;
    let model = models::get(app, project, &request.model).await?;
    let method = request.method.unwrap_or_else(|| Method::default_for(model.family));
    if !method.supports(model.family) {
        let message = format!("A {} model cannot be fine-tuned with the method '{method}'.", model.family);
        return Err(Error::invalid("method.type", message));
    }
    let path = &request.hyperparameters_path;
    let hyperparameters = Requested::parse(method, request.hyperparameters, path)?;
    let (training_file, examples) = data_file(app, project, "training_file", &request.training_file).await?;
    let optional = async |param, id: &Option<String>| match id {
        Some(id) => data_file(app, project, param, id).await.map(|(id, _)| Some(id)),
        None => Ok(None),
    };
    let validation_file = optional("validation_file", &request.validation_file).await?;
    let test_file = optional("test_file", &request.test_file).await?;
    check_against_model(&hyperparameters, method, &model, examples, path)?;
    let seed = match request.seed {
        Some(seed) => seed,
        None => i64::from(u32::from_le_bytes(auth::random()?) >> 1),
    };
    Ok(JobSpec {
        model: model.name,
        base_model: model.id,
        training_file,
        validation_file,
        test_file,
        method,
        hyperparameters,
        dataset: request.dataset,
        suffix: request.suffix,
        seed,
        metadata: request.metadata,
    })
}

/// Values that do not fit the model are refused now rather than when the files are read.
fn check_against_model(
    requested: &Requested,
    method: Method,
    model: &Model,
    training_examples: u64,
    path: &str,
) -> Result<()> {
    let subject = Subject { method, family: model.family, facts: &model.facts };
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
    if let Some(seed) = request.seed
        && !(0..=i64::from(i32::MAX)).contains(&seed)
    {
        let message = format!("Invalid value for 'seed': {seed}. Allowed: 0 to {}.", i32::MAX);
        return Err(Error::invalid("seed", message));
    }
    if let Some(fraction) = request.dataset.validation_split
        && !(0.0..=0.5).contains(&fraction)
    {
        let message = format!("Invalid value for 'validation_split': {fraction}. Allowed: 0 to 0.5.");
        return Err(Error::invalid("dataset.validation_split", message));
    }
    if let Some(metadata) = &request.metadata {
        if metadata.len() > METADATA_PAIRS {
            let message = format!("'metadata' has {} pairs; at most {METADATA_PAIRS} are allowed.", metadata.len());
            return Err(Error::invalid("metadata", message));
        }
        for (key, value) in metadata {
            if key.is_empty() || key.chars().count() > METADATA_KEY_CHARS {
                let message = format!("A key of 'metadata' must have 1 to {METADATA_KEY_CHARS} characters.");
                return Err(Error::invalid("metadata", message));
            }
            if key.contains('\0') || value.contains('\0') {
                return Err(Error::invalid(format!("metadata.{key}"), "'metadata' must not hold NUL characters."));
            }
            if value.chars().count() > METADATA_VALUE_CHARS {
                let message = format!("A value of 'metadata' may have at most {METADATA_VALUE_CHARS} characters.");
                return Err(Error::invalid(format!("metadata.{key}"), message));
            }
        }
    }
    Ok(())
}

/// A file that can be read as data, and its number of rows.
async fn data_file(app: &App, project: ProjectId, param: &'static str, id: &str) -> Result<(FileId, u64)> {
    let invalid = |message: String| Error::invalid(param, message).code("invalid_file");
    let found = match id.parse() {
        Ok(id) => files::find(app.db.pool(), project, id).await?,
        Err(_) => None,
    };
    let file = found.ok_or_else(|| invalid(format!("'{param}' names no file of this project: {id}")))?;
    if file.purpose != FilePurpose::FineTune {
        let message = format!("The file {id} has purpose '{}'; '{param}' needs purpose 'fine-tune'.", file.purpose);
        return Err(invalid(message));
    }
    match &file.report {
        Some(report) if !report.is_readable() => {
            Err(invalid(format!("The file {id} cannot be used: {}", report.faults.summary())))
        }
        report => Ok((file.id, report.as_ref().map_or(0, |report| report.rows))),
    }
}
