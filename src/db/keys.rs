//! Projects and API keys.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::hash32;
use crate::domain::error::Result;
use crate::domain::id::{KeyId, ProjectId};
use crate::domain::project::{ApiKey, Project, Role, Secret};

/// What a secret opens.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The hash of the secret, as it is stored.
    pub hash: [u8; 32],
    pub key: KeyId,
    pub project: Project,
    pub role: Role,
    /// Whether it was not noted within the last minute that the key is used.
    pub is_stale: bool,
}

/// What the secrets with these hashes open, but for those that are unknown or revoked.
pub async fn open(db: impl PgExecutor<'_>, hashes: &[[u8; 32]]) -> Result<Vec<Opened>> {
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| &hash[..]).collect();
    let rows = sqlx::query!(
        r#"
        select k.id, k.hash, k.is_admin, p.id as project_id, p.name,
               coalesce(k.last_used_at < now() - interval '1 minute', true) as "is_stale!"
        from api_keys k join projects p on p.id = k.project_id
        where k.hash = any($1) and k.revoked_at is null
        "#,
        &hashes as &[&[u8]]
    )
    .fetch_all(db)
    .await?;
    let opened = rows.into_iter().map(|row| {
        Ok(Opened {
            hash: hash32(&row.hash)?,
            key: KeyId(row.id),
            project: Project { id: ProjectId(row.project_id), name: row.name },
            role: Role::of(row.is_admin),
            is_stale: row.is_stale,
        })
    });
    opened.collect()
}

/// Notes that these keys are used now, unless that was noted within the last minute.
pub async fn touch(db: impl PgExecutor<'_>, keys: &[KeyId]) -> Result<()> {
    let ids: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    sqlx::query!(
        r#"
        update api_keys set last_used_at = now()
        where id = any($1) and (last_used_at is null or last_used_at < now() - interval '1 minute')
        "#,
        &ids
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A project by id.
pub async fn project(db: impl PgExecutor<'_>, id: ProjectId) -> Result<Project> {
    let row = sqlx::query!("select name from projects where id = $1", id.0).fetch_one(db).await?;
    Ok(Project { id, name: row.name })
}

/// Makes a project, or finds the one of that name.
pub async fn ensure_project(db: impl PgExecutor<'_>, name: &str) -> Result<Project> {
    let id = ProjectId::new();
    let row = sqlx::query!(
        r#"
        insert into projects (id, name) values ($1, $2)
        on conflict (name) do update set name = excluded.name
        returning id
        "#,
        id.0,
        name
    )
    .fetch_one(db)
    .await?;
    Ok(Project { id: ProjectId(row.id), name: name.to_owned() })
}

/// Stores a key for a project.
pub async fn create(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    name: &str,
    role: Role,
    secret: &Secret,
) -> Result<KeyId> {
    let id = KeyId::new();
    sqlx::query!(
        "insert into api_keys (id, project_id, name, hash, hint, is_admin) values ($1, $2, $3, $4, $5, $6)",
        id.0,
        project.0,
        name,
        &secret.hash()[..],
        secret.hint(),
        role == Role::Admin
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// All keys, oldest first.
pub async fn list(db: impl PgExecutor<'_>) -> Result<Vec<ApiKey>> {
    let rows = sqlx::query!(
        r#"
        select k.id, p.name as project, k.name, k.is_admin, k.hint, k.created_at, k.revoked_at, k.last_used_at
        from api_keys k join projects p on p.id = k.project_id
        order by k.id
        "#
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ApiKey {
            id: KeyId(row.id),
            project: row.project,
            name: row.name,
            role: Role::of(row.is_admin),
            hint: row.hint,
            created_at: row.created_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
        })
        .collect())
}

/// The active key of a secret.
pub async fn find(db: impl PgExecutor<'_>, secret: &Secret) -> Result<Option<KeyId>> {
    let query = sqlx::query!("select id from api_keys where hash = $1 and revoked_at is null", &secret.hash()[..]);
    Ok(query.fetch_optional(db).await?.map(|row| KeyId(row.id)))
}

/// Ends a key; false if there is none of that id, or it is revoked already.
pub async fn revoke(db: impl PgExecutor<'_>, id: KeyId) -> Result<bool> {
    let done = sqlx::query!("update api_keys set revoked_at = now() where id = $1 and revoked_at is null", id.0)
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}
