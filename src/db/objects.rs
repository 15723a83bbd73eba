//! Which objects of the store count.

use sqlx::PgExecutor;

use crate::domain::error::Result;

/// Those of `keys` that no row names.
pub async fn unnamed(db: impl PgExecutor<'_>, keys: &[String]) -> Result<Vec<String>> {
    let rows = sqlx::query!(
        r#"
        select key as "key!" from unnest($1::text[]) as listed (key)
        where not exists (select from files where object_key = key and swept_at is null)
          and not exists (select from model_files where object_key = key)
        "#,
        keys
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.key).collect())
}
