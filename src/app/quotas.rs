//! What a project may have at once: checked where something is added, in the transaction that adds it.

use super::App;
use super::tally::Share;
use crate::db::Connection;
use crate::db::projects::{self, Account};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::id::ProjectId;
use crate::domain::job::JobKind;
use crate::domain::quota::{Quota, Quotas};
use crate::telemetry::audit_operator;

/// What a project may still upload.
pub struct Headroom {
    limits: Quotas,
    stored: u64,
}

impl Headroom {
    /// For bytes that count already.
    pub(in crate::app) fn unlimited() -> Self {
        Self { limits: Quotas::default(), stored: 0 }
    }

    /// Lets an upload grow, given the bytes of the project's uploads that are on their way; [`admit_file`] decides.
    ///
    /// # Errors
    /// The project would exceed its quota of stored bytes.
    pub fn check(&self, under_way: u64, more: u64) -> Result<()> {
        self.limits.check(Quota::StoredBytes, self.stored.saturating_add(under_way), more)
    }
}

/// Whether an upload of so many bytes is worth starting.
///
/// # Errors
/// It would exceed a quota.
pub async fn check_upload(app: &App, project: ProjectId, bytes: u64) -> Result<Headroom> {
    let mut connection = app.db.connection().await?;
    let limits = projects::quotas(&mut *connection, project).await?.or(&app.config.quotas);
    let used = check_file(&mut connection, &limits, project, bytes).await?;
    let headroom = Headroom { limits, stored: used.stored_bytes };
    headroom.check(app.uploading.of(project), bytes)?;
    Ok(headroom)
}

/// Lets a file of so many bytes be recorded in this transaction.
///
/// # Errors
/// It would exceed a quota.
pub(in crate::app) async fn admit_file(app: &App, db: &mut Connection, project: ProjectId, bytes: u64) -> Result<()> {
    let limits = projects::hold(db, project).await?.or(&app.config.quotas);
    check_file(db, &limits, project, bytes).await.map(drop)
}

/// What the project has, with which it may have one file more.
async fn check_file(db: &mut Connection, limits: &Quotas, project: ProjectId, bytes: u64) -> Result<Quotas> {
    if (limits.files, limits.stored_bytes) == (0, 0) {
        return Ok(Quotas::default());
    }
    let used = projects::stored(db, project, Quotas::default()).await?;
    limits.check(Quota::Files, used.files, 1)?;
    limits.check(Quota::StoredBytes, used.stored_bytes, bytes)?;
    Ok(used)
}

/// Lets so many bytes be recorded in this transaction, of an upload that counts as a file already.
///
/// # Errors
/// It would exceed the quota of stored bytes.
pub(in crate::app) async fn admit_part(app: &App, db: &mut Connection, project: ProjectId, bytes: u64) -> Result<()> {
    let limits = projects::hold(&mut *db, project).await?.or(&app.config.quotas);
    if limits.stored_bytes == 0 {
        return Ok(());
    }
    let used = projects::stored(db, project, Quotas::default()).await?;
    limits.check(Quota::StoredBytes, used.stored_bytes, bytes)
}

/// Lets the job stay that this transaction has inserted, after it called [`projects::hold`].
///
/// # Errors
/// It exceeds a quota.
pub(in crate::app) async fn admit_job(
    db: &mut Connection,
    limits: &Quotas,
    project: ProjectId,
    kind: JobKind,
) -> Result<()> {
    let used = if kind.trains() && limits.stored_bytes > 0 {
        let used = projects::stored(&mut *db, project, Quotas::default()).await?;
        limits.check(Quota::StoredBytes, used.stored_bytes, 1)?;
        used
    } else {
        Quotas::default()
    };
    let used = projects::open_jobs(db, project, used).await?;
    if let Some(quota) = kind.quota() {
        limits.check(quota, used.get(quota).saturating_sub(1), 1)?;
    }
    limits.check(Quota::QueuedJobs, used.queued_jobs.saturating_sub(1), 1)
}

/// Lets a dry run begin; it counts until the share is dropped.
///
/// # Errors
/// The project has as many at once as it may.
pub(in crate::app) async fn admit_dry_run(app: &App, project: ProjectId) -> Result<Share> {
    let limits = projects::quotas(app.db.pool(), project).await?.or(&app.config.quotas);
    let mut share = app.dry_runs.share(project);
    share.grow(1, |under_way| limits.check(Quota::DryRuns, under_way, 1))?;
    Ok(share)
}

/// All projects, each with the limits in force.
pub async fn list(app: &App) -> Result<Vec<(Account, Quotas)>> {
    let mut connection = app.db.connection().await?;
    let accounts = projects::list(&mut connection).await?;
    let with_limits = |account: Account| {
        let limits = account.own.or(&app.config.quotas);
        (account, limits)
    };
    Ok(accounts.into_iter().map(with_limits).collect())
}

/// Changes the limits of a project: each of `changes` to a number, or back to what the settings say.
///
/// # Errors
/// There is no project of that name.
pub async fn set(app: &App, name: &str, changes: &[(Quota, Option<u64>)]) -> Result<()> {
    let mut tx = app.db.begin().await?;
    let found = projects::find(&mut *tx.connection(), name).await?;
    let project = found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no project {name}")))?;
    let own = projects::hold(tx.connection(), project).await?;
    let changed = own.map(|quota, own| {
        let change = changes.iter().rev().find(|(changed, _)| *changed == quota);
        change.map_or(own, |(_, limit)| *limit)
    });
    projects::set_quotas(&mut *tx.connection(), project, &changed).await?;
    tx.commit().await?;
    audit_operator("set_quota", Some(name), name);
    Ok(())
}
