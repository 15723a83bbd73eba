//! API keys.

use std::path::PathBuf;

use subtle::ConstantTimeEq;

use super::App;
use crate::auth;
use crate::db::keys::{self, Opened};
use crate::domain::error::{Error, Result};
use crate::domain::id::KeyId;
use crate::domain::project::{ApiKey, Role, Secret, is_project_name};
use crate::telemetry::audit_operator;

/// The project of a service that nobody divided into projects.
pub const DEFAULT_PROJECT: &str = "default";

/// The longest name of a key, in characters.
const KEY_NAME_CHARS: usize = 64;

/// Makes a key for a project, and the project if it is new.
///
/// # Errors
/// The name of the project or of the key is not allowed.
pub async fn create(app: &App, project: &str, name: &str) -> Result<(KeyId, Secret)> {
    create_as(app, project, name, Role::Member).await
}

/// The same for a key that may do more. The file of the first key stays until the new one has reached its owner: see
/// [`forget_bootstrap`].
///
/// # Errors
/// The name of the project or of the key is not allowed.
pub async fn create_as(app: &App, project: &str, name: &str, role: Role) -> Result<(KeyId, Secret)> {
    if !is_project_name(project) {
        let message = "a project's name is 1 to 40 lower-case letters, digits and dashes";
        return Err(Error::invalid("project", message));
    }
    if !is_key_name(name) {
        let message = format!("a key's name is 1 to {KEY_NAME_CHARS} printable characters");
        return Err(Error::invalid("name", message));
    }
    let secret = auth::new_secret()?;
    let mut tx = app.db.begin().await?;
    let project = keys::ensure_project(tx.connection(), project).await?;
    let id = keys::create(tx.connection(), project.id, name, role, &secret).await?;
    tx.commit().await?;
    audit_operator("create_key", Some(&project.name), &id.to_string());
    Ok((id, secret))
}

/// Whether a key may have this name: lists show it on a terminal.
fn is_key_name(name: &str) -> bool {
    let is_printable = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    (1..=KEY_NAME_CHARS).contains(&name.chars().count()) && !name.trim().is_empty() && name.chars().all(is_printable)
}

/// What a secret opens, unless it is unknown or revoked; and notes now and then that its key is used.
pub async fn open(app: &App, hash: [u8; 32]) -> Result<Option<Opened>> {
    let opened = app.lookups.keys.find(hash).await?;
    Ok(opened.filter(|opened| bool::from(opened.hash[..].ct_eq(&hash[..]))))
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
    forget_bootstrap(app).await;
    Ok(revoked)
}

/// The file that tells the first key of a service with a private database, in clear text, to its owner alone.
pub fn bootstrap_file(app: &App) -> PathBuf {
    app.config.state_dir.join("bootstrap-key")
}

/// Removes the file of the first key once another key can be used or the first one cannot: it has served its purpose.
/// The key itself stays what it is. What goes wrong is logged, since the keys are in order all the same.
pub async fn forget_bootstrap(app: &App) {
    let path = bootstrap_file(app);
    let removed = async {
        let Ok(secret) = tokio::fs::read_to_string(&path).await else { return Ok(()) };
        let first = keys::find(app.db.pool(), &Secret::presented(secret.trim())).await?;
        let others = list(app).await?.into_iter().any(|key| key.revoked_at.is_none() && Some(key.id) != first);
        if first.is_none() || others {
            tokio::fs::remove_file(&path).await.map_err(Error::internal)?;
            tracing::info!(path = %path.display(), "the file of the first key is removed");
        }
        Ok::<(), Error>(())
    };
    if let Err(error) = removed.await {
        tracing::warn!(path = %path.display(), error = error.chain(), "the file of the first key stays");
    }
}

#[cfg(test)]
mod tests {
    use super::{KEY_NAME_CHARS, is_key_name};

    #[test]
    fn a_key_s_name_can_be_shown() {
        let longest = "ü".repeat(KEY_NAME_CHARS);
        for name in ["key", "Ada's laptop", "schlüssel 1", &longest] {
            assert!(is_key_name(name), "{name:?}");
        }
        for name in ["", " ", "a\nb", "a\u{1b}[2J", "a\tb", "a\0", "a\u{2028}b", &format!("{longest}x")] {
            assert!(!is_key_name(name), "{name:?}");
        }
    }
}
