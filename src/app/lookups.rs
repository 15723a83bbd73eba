//! What nearly every request reads: whose key it has, and the file that its path names. Requests that come together share a
//! query; see [`Gather`]. Jobs are looked up likewise by who shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::db::files::FileKey;
use crate::db::keys::Opened;
use crate::db::{Db, files, keys};
use crate::domain::error::Result;
use crate::domain::file::File;
use crate::domain::id::KeyId;
use crate::gather::{Bounds, Found, Gather};

/// Short rows.
const KEYS: Bounds = Bounds { looks: 4, keys: 256 };
/// Rows with reports of a megabyte, which are all in memory at once.
pub const ROWS: Bounds = Bounds { looks: 4, keys: 32 };

/// Lookups of all kinds.
#[derive(Clone)]
pub(super) struct Lookups {
    pub(super) keys: Gather<[u8; 32], Opened>,
    pub(super) files: Gather<FileKey, Arc<File>>,
}

impl Lookups {
    /// In this database.
    pub(super) fn new(db: &Db) -> Self {
        let (of_keys, of_files) = (db.clone(), db.clone());
        let touching = Arc::<AtomicBool>::default();
        Self {
            keys: Gather::new(KEYS, move |hashes| open(of_keys.clone(), touching.clone(), hashes)),
            files: Gather::new(ROWS, move |asked| find_files(of_files.clone(), asked)),
        }
    }
}

async fn open(db: Db, touching: Arc<AtomicBool>, hashes: Vec<[u8; 32]>) -> Result<Found<[u8; 32], Opened>> {
    let opened = keys::open(db.pool(), &hashes).await?;
    let stale: Vec<KeyId> = opened.iter().filter(|opened| opened.is_stale).map(|opened| opened.key).collect();
    // A write takes longer than a read, and nobody waits for this one.
    if !stale.is_empty() && !touching.swap(true, Ordering::Relaxed) {
        tokio::spawn(async move {
            if let Err(error) = keys::touch(db.pool(), &stale).await {
                tracing::debug!(error = error.chain(), "it could not be noted that keys are used");
            }
            touching.store(false, Ordering::Relaxed);
        });
    }
    Ok(opened.into_iter().map(|opened| (opened.hash, opened)).collect())
}

async fn find_files(db: Db, asked: Vec<FileKey>) -> Result<Found<FileKey, Arc<File>>> {
    let found = files::find_all(db.pool(), &asked).await?;
    Ok(found.into_iter().map(|file| ((file.project, file.id), Arc::new(file))).collect())
}
