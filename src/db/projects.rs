//! What projects may have, and what they have.

use sqlx::{PgConnection, PgExecutor};

use super::{signed, unsigned};
use crate::domain::error::Result;
use crate::domain::id::ProjectId;
use crate::domain::job::JobKind;
use crate::domain::quota::{Quota, Quotas};

/// A project as its operator sees it.
pub struct Account {
    pub name: String,
    /// Set for this project alone.
    pub own: Quotas<Option<u64>>,
    /// What it has; its dry runs are known to the processes that make them alone.
    pub used: Quotas,
}

/// What is set for a project alone. Until the transaction ends, nobody else can add anything to the project that is
/// limited.
pub async fn hold(db: &mut PgConnection, project: ProjectId) -> Result<Quotas<Option<u64>>> {
    sqlx::query!("select id from projects where id = $1 for no key update", project.0).fetch_one(&mut *db).await?;
    quotas(db, project).await
}

/// What is set for a project alone.
pub async fn quotas(db: impl PgExecutor<'_>, project: ProjectId) -> Result<Quotas<Option<u64>>> {
    let row = sqlx::query!(
        r#"
        select quota_stored_bytes, quota_files, quota_queued_jobs, quota_running_jobs, quota_evaluations, quota_dry_runs
        from projects where id = $1
        "#,
        project.0
    )
    .fetch_one(db)
    .await?;
    Ok(Quotas {
        stored_bytes: row.quota_stored_bytes.map(unsigned),
        files: row.quota_files.map(unsigned),
        queued_jobs: row.quota_queued_jobs.map(unsigned),
        running_jobs: row.quota_running_jobs.map(unsigned),
        evaluations: row.quota_evaluations.map(unsigned),
        dry_runs: row.quota_dry_runs.map(unsigned),
    })
}

/// What a project stores, added to `used`; an upload that is not complete counts as a file. Deleted files and models count until their bytes are gone; what several of its
/// models share counts once, and what a base model has is not the project's.
pub async fn stored(db: impl PgExecutor<'_>, project: ProjectId, used: Quotas) -> Result<Quotas> {
    let row = sqlx::query!(
        r#"
        select
            (select coalesce(sum(bytes), 0)::bigint from files where project_id = $1 and swept_at is null) as "files!",
            (
                select coalesce(sum(bytes), 0)::bigint
                from (
                    select distinct f.object_key, f.bytes
                    from models m join model_files f on f.model_id = m.id
                    where m.project_id = $1 and m.swept_at is null
                      and not exists (
                        select from model_files o join models base on base.id = o.model_id
                        where o.object_key = f.object_key and base.project_id is null
                      )
                ) own
            ) as "models!",
            (
                select coalesce(sum(p.bytes), 0)::bigint
                from uploads u join upload_parts p on p.upload_id = u.id
                where u.project_id = $1 and u.status = 'pending'
            ) as "parts!",
            (
                select count(*) from files
                where project_id = $1 and deleted_at is null and (expires_at is null or expires_at > now())
            ) + (
                select count(*) from uploads where project_id = $1 and status = 'pending' and expires_at > now()
            ) as "count!"
        "#,
        project.0
    )
    .fetch_one(db)
    .await?;
    let stored_bytes = [row.files, row.models, row.parts].into_iter().map(unsigned).fold(0, u64::saturating_add);
    Ok(Quotas { stored_bytes, files: unsigned(row.count), ..used })
}

/// The jobs of a project that have not ended, added to `used`.
pub async fn open_jobs(db: impl PgExecutor<'_>, project: ProjectId, used: Quotas) -> Result<Quotas> {
    let row = sqlx::query!(
        r#"
        select
            count(*) filter (where status <> 'running') as "queued!",
            count(*) filter (where status = 'running') as "running!",
            count(*) filter (where kind = any($2)) as "evaluations!"
        from jobs
        where project_id = $1 and status in ('validating_files', 'queued', 'running', 'paused')
        "#,
        project.0,
        &JobKind::ALL
            .into_iter()
            .filter(|kind| kind.quota() == Some(Quota::Evaluations))
            .map(|kind| kind.as_str().to_owned())
            .collect::<Vec<_>>()
    )
    .fetch_one(db)
    .await?;
    Ok(Quotas {
        queued_jobs: unsigned(row.queued),
        running_jobs: unsigned(row.running),
        evaluations: unsigned(row.evaluations),
        ..used
    })
}

/// All projects, by name.
pub async fn list(db: &mut PgConnection) -> Result<Vec<Account>> {
    let rows = sqlx::query!("select id, name from projects order by name").fetch_all(&mut *db).await?;
    let mut accounts = Vec::with_capacity(rows.len());
    for row in rows {
        let id = ProjectId(row.id);
        let own = quotas(&mut *db, id).await?;
        let used = stored(&mut *db, id, Quotas::default()).await?;
        let used = open_jobs(&mut *db, id, used).await?;
        accounts.push(Account { name: row.name, own, used });
    }
    Ok(accounts)
}

/// The project of that name.
pub async fn find(db: impl PgExecutor<'_>, name: &str) -> Result<Option<ProjectId>> {
    let row = sqlx::query!("select id from projects where name = $1", name).fetch_optional(db).await?;
    Ok(row.map(|row| ProjectId(row.id)))
}

/// Sets what a project alone may have.
pub async fn set_quotas(db: impl PgExecutor<'_>, project: ProjectId, own: &Quotas<Option<u64>>) -> Result<()> {
    sqlx::query!(
        r#"
        update projects
        set quota_stored_bytes = $2, quota_files = $3, quota_queued_jobs = $4, quota_running_jobs = $5,
            quota_evaluations = $6, quota_dry_runs = $7
        where id = $1
        "#,
        project.0,
        own.stored_bytes.map(signed),
        own.files.map(signed),
        own.queued_jobs.map(signed),
        own.running_jobs.map(signed),
        own.evaluations.map(signed),
        own.dry_runs.map(signed)
    )
    .execute(db)
    .await?;
    Ok(())
}
