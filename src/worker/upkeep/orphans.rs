//! Objects that no row names: left by an upload or an attempt that died between its bytes and its row. Only old ones
//! go, since the row of a young one may be on its way.

use std::time::{Duration, SystemTime};

use crate::app::App;
use crate::db::objects;
use crate::domain::error::Result;
use crate::telemetry;

/// How old an object without a row must be.
pub const AGE: Duration = Duration::from_hours(24);
/// Where objects are.
const PREFIXES: [&str; 3] = ["files/", "jobs/", "models/"];
/// How many keys are looked up at a time.
const BATCH: usize = 1000;

/// Removes the objects without a row that are older than `age`; false, for there is never more to do.
///
/// # Errors
/// The database or the store is away.
pub async fn run_once(app: &App, age: Duration) -> Result<bool> {
    let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    for prefix in PREFIXES {
        let listed = app.store.list(prefix).await?;
        let old: Vec<String> =
            listed.into_iter().filter(|object| object.modified < before).map(|object| object.key).collect();
        for keys in old.chunks(BATCH) {
            for key in objects::unnamed(app.db.pool(), keys).await? {
                tracing::info!(key, "an object without a row is removed");
                app.store.delete(&key).await?;
                metrics::counter!(telemetry::ORPHANS).increment(1);
            }
        }
    }
    Ok(false)
}
