//! Objects that no row names: left by an upload or an attempt that died between its bytes and its row. Only old ones
//! go, since the row of a young one may be on its way; none goes where the store is not this database's, or where so
//! many have no row that it is rows that are missing, as after an old backup was restored.

use std::time::{Duration, SystemTime};

use crate::app::App;
use crate::app::ownership::{self, PREFIXES};
use crate::db::objects;
use crate::domain::error::{ErrorKind, Result};
use crate::telemetry;

/// How old an object without a row must be.
pub const AGE: Duration = Duration::from_hours(24);
/// How many keys are looked up at a time.
const BATCH: usize = 1000;
/// So many may go whatever share of all they are.
const FEW: usize = 20;

/// Removes the objects without a row that are older than `age`; false, for there is never more to do.
///
/// # Errors
/// The database or the store is away.
pub async fn run_once(app: &App, age: Duration) -> Result<bool> {
    let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let (mut old, mut unnamed) = (0, Vec::new());
    for prefix in PREFIXES {
        let listed = app.store.list(prefix).await?;
        let keys: Vec<String> =
            listed.into_iter().filter(|object| object.modified < before).map(|object| object.key).collect();
        old += keys.len();
        for keys in keys.chunks(BATCH) {
            unnamed.extend(objects::unnamed(app.db.pool(), keys).await?);
        }
    }
    if unnamed.is_empty() {
        return Ok(false);
    }
    if !may_remove(app, old, &unnamed).await? {
        metrics::counter!(telemetry::ORPHAN_PASSES_STOPPED).increment(1);
        return Ok(false);
    }
    for key in unnamed {
        tracing::info!(key, "an object without a row is removed");
        app.store.delete(&key).await?;
        metrics::counter!(telemetry::ORPHANS).increment(1);
    }
    Ok(false)
}

/// Whether the database can be believed about these, of `old` objects in all. What cannot be is said.
async fn may_remove(app: &App, old: usize, unnamed: &[String]) -> Result<bool> {
    match ownership::claim(app).await {
        Err(error) if error.kind == ErrorKind::Conflict => {
            tracing::error!(error = error.chain(), "no object is removed");
            return Ok(false);
        }
        claimed => claimed?,
    }
    let (count, example) = (unnamed.len(), unnamed.first());
    if count > FEW && count * 2 > old {
        tracing::error!(
            objects = old,
            unnamed = count,
            example,
            "no object is removed: more than half of the old ones have no row. Was an old backup of the database \
             restored? Those that are of no use can be removed by hand"
        );
        return Ok(false);
    }
    Ok(true)
}
