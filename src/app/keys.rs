//! API keys.

use super::App;
use crate::auth;
use crate::db::keys;
use crate::domain::error::{Error, Result};
use crate::domain::id::KeyId;
use crate::domain::project::{ApiKey, Secret, is_project_name};
use crate::telemetry::audit_operator;

/// The project of a service that nobody divided into projects.
pub const DEFAULT_PROJECT: &str = "default";

/// Makes a key for a project, and the project if it is new.
///
/// # Errors
/// The project's name is not allowed.
pub async fn create(app: &App, project: &str, name: &str) -> Result<(KeyId, Secret)> {
    if !is_project_name(project) {
        let message = "a project's name is 1 to 40 lower-case letters, digits and dashes";
        return Err(Error::invalid("project", message));
    }
    let secret = auth::new_secret()?;
    let mut tx = app.db.begin().await?;
    let project = keys::ensure_project(tx.connection(), project).await?;
    let id = keys::create(tx.connection(), project.id, name, &secret).await?;
    tx.commit().await?;
    audit_operator("create_key", Some(&project.name), &id.to_string());
    Ok((id, secret))
}

/// All keys.
pub async fn list(app: &App) -> Result<Vec<ApiKey>> {
    keys::list(app.db.pool()).await
}

/// Ends a key; false if there was none to end.
pub async fn revoke(app: &App, id: KeyId) -> Result<bool> {
    let revoked = keys::revoke(app.db.pool(), id).await?;
    if revoked {
        audit_operator("revoke_key", None, &id.to_string());
    }
    Ok(revoked)
}
