//! Which objects of the store count, and which store they lie in.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::domain::error::Result;

/// Those of `keys` that no row names.
pub async fn unnamed(db: impl PgExecutor<'_>, keys: &[String]) -> Result<Vec<String>> {
    let rows = sqlx::query!(
        r#"
        select key as "key!" from unnest($1::text[]) as listed (key)
        where not exists (select from files where object_key = key and swept_at is null)
          and not exists (select from model_files where object_key = key)
          and not exists (select from upload_parts where object_key = key)
        "#,
        keys
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.key).collect())
}

/// Whether any row names an object.
pub async fn any_named(db: impl PgExecutor<'_>) -> Result<bool> {
    let row = sqlx::query!(
        r#"
        select exists (select from files where swept_at is null)
            or exists (select from model_files) or exists (select from upload_parts) as "is_any!"
        "#
    )
    .fetch_one(db)
    .await?;
    Ok(row.is_any)
}

/// The id of this database's store, once it has one.
pub async fn store_id(db: impl PgExecutor<'_>) -> Result<Option<Uuid>> {
    let row = sqlx::query!("select id from object_store").fetch_optional(db).await?;
    Ok(row.map(|row| row.id))
}

/// Gives the database's store this id unless it has one; the id that it has then.
pub async fn keep_store_id(db: impl PgExecutor<'_>, id: Uuid) -> Result<Uuid> {
    let row = sqlx::query!(
        r#"
        insert into object_store (id) values ($1)
        on conflict (is_only) do update set id = object_store.id
        returning id
        "#,
        id
    )
    .fetch_one(db)
    .await?;
    Ok(row.id)
}
