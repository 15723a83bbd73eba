//! Bytes that nothing needs any more: of deleted and expired files, of deleted models, of checkpoints past their time, of
//! training states that no attempt will go on from, and of parts whose upload has ended. The object goes first and the row is
//! marked after, so nothing is forgotten.

use crate::app::App;
use crate::db::{checkpoints, files, models, readings, uploads};
use crate::domain::error::Result;

/// How many of each are swept at a time.
const BATCH: i64 = 100;

/// Sweeps some; true if there may be more.
///
/// # Errors
/// The database or the store is away.
pub async fn run_once(app: &App) -> Result<bool> {
    let mut more = false;
    if let Some(retention) = app.config.checkpoint_retention {
        let dropped = checkpoints::drop_older(app.db.pool(), retention).await?;
        if dropped > 0 {
            tracing::info!(dropped, "checkpoints of jobs that ended long ago are removed");
        }
    }
    let spent = checkpoints::states_to_sweep(app.db.pool(), BATCH).await?;
    more |= spent.len() as i64 == BATCH;
    for state in spent {
        app.store.delete(&state.object_key).await?;
        checkpoints::forget_state(app.db.pool(), &state).await?;
    }
    let deleted = files::to_sweep(app.db.pool(), BATCH).await?;
    more |= deleted.len() as i64 == BATCH;
    for (id, key) in deleted {
        app.store.delete(&key).await?;
        files::mark_swept(app.db.pool(), id).await?;
        readings::forget(app.db.pool(), id).await?;
    }
    let parts = uploads::parts_to_sweep(app.db.pool(), BATCH).await?;
    more |= parts.len() as i64 == BATCH;
    for (id, key) in parts {
        app.store.delete(&key).await?;
        uploads::forget_part(app.db.pool(), id).await?;
    }
    let deleted = models::to_sweep(app.db.pool(), BATCH).await?;
    more |= deleted.len() as i64 == BATCH;
    for id in deleted {
        let mut tx = app.db.begin().await?;
        let keys = models::leave_shared(tx.connection(), id).await?;
        tx.commit().await?;
        for key in keys {
            app.store.delete(&key).await?;
        }
        let mut tx = app.db.begin().await?;
        models::mark_swept(tx.connection(), id).await?;
        tx.commit().await?;
    }
    Ok(more)
}
