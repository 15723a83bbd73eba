//! What requests for jobs of any kind have in common: how a repeated one is found, and the fields that they share.

use std::collections::BTreeMap;

use super::moved::told;
use crate::app::{App, quotas};
use crate::auth;
use crate::dataset::inspect::meant_for;
use crate::db::{files, jobs, moves, projects, requests};
use crate::domain::clip::clipped;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::file::FilePurpose;
use crate::domain::id::{FileId, JobId, ProjectId};
use crate::domain::job::{JobKind, JobSpec, METADATA_KEY_CHARS, METADATA_PAIRS, METADATA_VALUE_CHARS};
use crate::domain::method::Method;
use crate::domain::model::name_tag;

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

/// The job that the same request made before.
///
/// # Errors
/// Its `Idempotency-Key` was used for another request.
pub(in crate::app) async fn find_repeated(
    app: &App,
    project: ProjectId,
    kind: JobKind,
    identity: &RequestIdentity,
) -> Result<Option<JobId>> {
    if let Some(key) = &identity.key {
        return match requests::find_by_key(app.db.pool(), project, key).await? {
            Some(found) if (found.kind, found.hash) != (kind, identity.hash) => {
                Err(Error::new(ErrorKind::Conflict, "This Idempotency-Key was used for another request.")
                    .code("idempotency_key_reused"))
            }
            found => Ok(found.map(|found| found.job)),
        };
    }
    if identity.is_retry { requests::find_recent(app.db.pool(), project, kind, identity.hash).await } else { Ok(None) }
}

/// Inserts a job with its first events, or finds the one that the same request made in the meantime.
///
/// # Errors
/// The project has as many as it may.
pub(in crate::app) async fn insert(
    app: &App,
    project: ProjectId,
    spec: &JobSpec,
    identity: &RequestIdentity,
) -> Result<JobId> {
    let (id, kind) = (JobId::new(), spec.kind);
    let new = jobs::NewJob {
        id,
        project,
        spec,
        name_tag: &name_tag(auth::random()?),
        request_hash: identity.hash,
        idempotency_key: identity.key.as_deref(),
    };
    let mut tx = app.db.begin().await?;
    let limits = projects::hold(tx.connection(), project).await?.or(&app.config.quotas);
    if !jobs::insert(tx.connection(), &new).await? {
        // Another request with this key was faster.
        drop(tx);
        return find_repeated(app, project, kind, identity).await?.ok_or_else(|| Error::internal("job vanished"));
    }
    quotas::admit_job(tx.connection(), &limits, project, kind).await?;
    let mut created = vec![NewEvent::info(format!("{}: {}", kind.created(), kind.public_id(id)))];
    if let Some((field, file)) = spec.files().into_iter().find_map(|(field, file)| Some((field, file?))) {
        created.push(NewEvent::info(format!("Validating {}: {file}", field.replace('_', " "))));
    }
    let moved = moves::created(tx.connection(), id, kind, created).await?;
    tx.commit().await?;
    told(app, &moved, None).await;
    Ok(id)
}

/// A file that can be read as data.
pub(in crate::app) struct DataFile {
    pub(in crate::app) id: FileId,
    pub(in crate::app) rows: u64,
    /// The methods that its rows are for, as far as their fields tell: those that know their data by them, and others.
    pub(in crate::app) told: Vec<Method>,
    pub(in crate::app) others: Vec<Method>,
}

/// The file with this id, if it can be read as data.
///
/// # Errors
/// There is no such file of the project, or it cannot be read.
pub(in crate::app) async fn data_file(
    app: &App,
    project: ProjectId,
    param: &'static str,
    id: &str,
) -> Result<DataFile> {
    let invalid = |message: String| Error::invalid(param, message).code("invalid_file");
    let found = match id.parse() {
        Ok(id) => files::find(app.db.pool(), project, id).await?,
        Err(_) => None,
    };
    let file = found.ok_or_else(|| invalid(format!("'{param}' names no file of this project: {}", clipped(id))))?;
    if file.purpose != FilePurpose::FineTune {
        let message = format!("The file {id} has purpose '{}'; '{param}' needs purpose 'fine-tune'.", file.purpose);
        return Err(invalid(message));
    }
    match &file.report {
        Some(report) if !report.is_readable() => {
            Err(invalid(format!("The file {id} cannot be used: {}", report.faults.summary())))
        }
        report => {
            let (told, others) = report.as_ref().map(meant_for).unwrap_or_default();
            Ok(DataFile { id: file.id, rows: report.as_ref().map_or(0, |report| report.rows), told, others })
        }
    }
}

/// The seed that was asked for, or a random one.
///
/// # Errors
/// It is out of bounds.
pub(in crate::app) fn seed_or_random(seed: Option<i64>) -> Result<i64> {
    match seed {
        None => Ok(i64::from(u32::from_le_bytes(auth::random()?) >> 1)),
        Some(seed) if (0..=i64::from(i32::MAX)).contains(&seed) => Ok(seed),
        Some(seed) => {
            let message = format!("Invalid value for 'seed': {seed}. Allowed: 0 to {}.", i32::MAX);
            Err(Error::invalid("seed", message))
        }
    }
}

/// Checks metadata against OpenAI's bounds.
///
/// # Errors
/// There are too many pairs, or one is too long.
pub(in crate::app) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<()> {
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
    Ok(())
}
