//! Models and their files.

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{hash32, known, signed, to_json, unsigned};
use crate::domain::error::{Error, Result};
use crate::domain::id::{JobId, ModelId, ProjectId};
use crate::domain::model::{Model, ModelFacts, ModelFile};

struct Row {
    id: Uuid,
    project_id: Option<Uuid>,
    name: String,
    kind: String,
    family: String,
    facts: Json<ModelFacts>,
    job_id: Option<Uuid>,
    created_at: OffsetDateTime,
}

impl TryFrom<Row> for Model {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: ModelId(row.id),
            project: row.project_id.map(ProjectId),
            kind: known("model kind", &row.kind)?,
            family: row.family,
            name: row.name,
            facts: row.facts.0,
            job: row.job_id.map(JobId),
            created_at: row.created_at,
        })
    }
}

/// Records a model whose files are stored.
pub async fn insert(db: &mut PgConnection, model: &Model, files: &[ModelFile]) -> Result<()> {
    sqlx::query!(
        r#"
        insert into models (id, project_id, name, kind, family, facts, job_id, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        "#,
        model.id.0,
        model.project.map(|id| id.0),
        model.name,
        model.kind.as_str(),
        model.family,
        to_json(&model.facts)?,
        model.job.map(|id| id.0),
        model.created_at
    )
    .execute(&mut *db)
    .await?;
    for file in files {
        sqlx::query!(
            "insert into model_files (model_id, path, bytes, sha256, object_key) values ($1, $2, $3, $4, $5)",
            model.id.0,
            file.path,
            signed(file.bytes),
            &file.sha256[..],
            file.object_key
        )
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// The model of that name that a project can see: its own, or a base model.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId, name: &str) -> Result<Option<Model>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id, project_id, name, kind, family, facts as "facts: Json<ModelFacts>", job_id, created_at
        from models
        where name = $1 and deleted_at is null and (project_id is null or project_id = $2)
        "#,
        name,
        project.0
    )
    .fetch_optional(db)
    .await?;
    row.map(Model::try_from).transpose()
}

/// The base model of that name.
pub async fn find_base(db: impl PgExecutor<'_>, name: &str) -> Result<Option<Model>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id, project_id, name, kind, family, facts as "facts: Json<ModelFacts>", job_id, created_at
        from models where name = $1 and deleted_at is null and kind = 'base'
        "#,
        name
    )
    .fetch_optional(db)
    .await?;
    row.map(Model::try_from).transpose()
}

/// A model by id, deleted or not.
pub async fn find_by_id(db: impl PgExecutor<'_>, id: ModelId) -> Result<Option<Model>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id, project_id, name, kind, family, facts as "facts: Json<ModelFacts>", job_id, created_at
        from models where id = $1
        "#,
        id.0
    )
    .fetch_optional(db)
    .await?;
    row.map(Model::try_from).transpose()
}

/// All models a project can see but checkpoints, base models first; for None, the base models alone.
pub async fn list(db: impl PgExecutor<'_>, project: Option<ProjectId>) -> Result<Vec<Model>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select id as "id!", project_id, name as "name!", kind as "kind!", family as "family!",
               facts as "facts!: Json<ModelFacts>", job_id, created_at as "created_at!"
        from (
            select * from models where deleted_at is null and kind <> 'checkpoint' and project_id is null
            union all
            select * from models where deleted_at is null and kind <> 'checkpoint' and project_id = $1
        ) seen
        order by project_id nulls first, id
        "#,
        project.map(|id| id.0)
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Model::try_from).collect()
}

/// A model's files, training state included, by path.
pub async fn files(db: impl PgExecutor<'_>, id: ModelId) -> Result<Vec<ModelFile>> {
    let rows = sqlx::query!(
        "select path, bytes, sha256, object_key from model_files where model_id = $1 order by path collate \"C\"",
        id.0
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let sha256 = hash32(&row.sha256)?;
            Ok(ModelFile { path: row.path, bytes: unsigned(row.bytes), sha256, object_key: row.object_key })
        })
        .collect()
}

/// Makes a model invisible.
pub async fn delete(db: impl PgExecutor<'_>, id: ModelId) -> Result<()> {
    sqlx::query!("update models set deleted_at = now() where id = $1 and deleted_at is null", id.0).execute(db).await?;
    Ok(())
}

/// Deleted models whose files no active job needs.
pub async fn to_sweep(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<ModelId>> {
    let ids = sqlx::query_scalar!(
        r#"
        select m.id
        from models m
        where m.deleted_at is not null and m.swept_at is null
          and not exists (
            select from jobs j
            where m.id in (j.base_model_id, j.baseline_model_id) and j.status in ('validating_files', 'queued', 'running', 'paused')
          )
        order by m.id limit $1
        "#,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(ModelId).collect())
}

/// Leaves what files of other models are stored in, too, to those: a checkpoint has its base model's weights. The objects
/// that this model alone has.
pub async fn leave_shared(db: &mut PgConnection, id: ModelId) -> Result<Vec<String>> {
    // Of two that leave the same object at once the latter must see that it is the last.
    sqlx::query!(
        r#"
        select 1 as one from model_files
        where object_key in (select object_key from model_files where model_id = $1)
        order by object_key, model_id for update
        "#,
        id.0
    )
    .fetch_all(&mut *db)
    .await?;
    sqlx::query!(
        r#"
        delete from model_files f
        where f.model_id = $1
          and exists (select from model_files o where o.object_key = f.object_key and o.model_id <> f.model_id)
        "#,
        id.0
    )
    .execute(&mut *db)
    .await?;
    let keys = sqlx::query_scalar!("select object_key from model_files where model_id = $1", id.0);
    Ok(keys.fetch_all(db).await?)
}

/// How many jobs that have not ended go on from this model.
pub async fn count_active_jobs(db: impl PgExecutor<'_>, id: ModelId) -> Result<i64> {
    let query = sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from jobs
        where $1 in (base_model_id, baseline_model_id) and status in ('validating_files', 'queued', 'running', 'paused')
        "#,
        id.0
    );
    Ok(query.fetch_one(db).await?)
}

/// Records that a model's files are gone from the store.
pub async fn mark_swept(db: &mut PgConnection, id: ModelId) -> Result<()> {
    sqlx::query!("delete from model_files where model_id = $1", id.0).execute(&mut *db).await?;
    sqlx::query!("update models set swept_at = now() where id = $1", id.0).execute(&mut *db).await?;
    Ok(())
}
