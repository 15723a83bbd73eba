//! Operations: what the API, the worker and the command line can do, each a function with its transaction in sight.

pub mod checkpoints;
pub mod evaluations;
pub mod files;
pub mod findings;
pub mod hints;
pub mod jobs;
pub mod keys;
mod lookups;
pub mod models;
pub mod objects;
pub mod ownership;
pub mod preparation;
pub mod quotas;
pub mod serving;
pub mod tally;
mod trainer;
pub mod uploads;
pub mod validation;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio_util::sync::DropGuard;

use crate::config::{Config, StoreLocation};
use crate::dataset::{Bounds, Gate};
use crate::db::Db;
use crate::domain::id::ProjectId;
use crate::failpoint::Failpoints;
use crate::private;
use crate::process::Premises;
use crate::store::Store;
use hints::Hints;
use lookups::Lookups;
pub use lookups::ROWS;
use serving::Pool;
use tally::{Places, Tally};

/// How many files of a project are read at once for clients that wait: one more gains nothing on a few cores, and
/// takes from the others.
const READINGS: usize = 2;

/// What operations work on.
#[derive(Clone)]
pub struct App {
    pub db: Db,
    pub store: Store,
    pub config: Arc<Config>,
    pub failpoints: Failpoints,
    /// What other processes say of jobs.
    pub hints: Hints,
    /// What requests that come together look up together.
    lookups: Lookups,
    /// The models that answer requests.
    pub serving: Pool,
    /// Dry runs that this process makes.
    pub dry_runs: Tally,
    /// Bytes of uploads that are not recorded yet.
    pub uploading: Tally,
    /// Whoever reads files while its client waits has one.
    pub reading: Places,
    premises: Arc<OnceCell<Arc<Premises>>>,
    /// Room for the images that this process decodes.
    pub decoding: Gate,
}

impl App {
    /// Opens the store and makes the folders of the state directory.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn new(db: Db, config: Config) -> std::io::Result<Self> {
        let store = Store::open(&config.store, config.reserve).map_err(std::io::Error::other)?;
        let failpoints = config.failpoints.clone();
        let serving = serving::pool(config.serving_models as usize);
        let decoding = Gate::new(config.image_memory);
        let lookups = Lookups::new(&db);
        let app = Self {
            db,
            store,
            config: Arc::new(config),
            failpoints,
            hints: Hints::default(),
            lookups,
            serving,
            dry_runs: Tally::default(),
            uploading: Tally::default(),
            reading: Places::new(READINGS),
            premises: Arc::default(),
            decoding,
        };
        for folder in [app.scratch(), app.runs()] {
            let named = |error: std::io::Error| {
                std::io::Error::new(error.kind(), format!("cannot make the folder {}: {error}", folder.display()))
            };
            private::make_folder(&folder, private::FOLDER).map_err(named)?;
        }
        Ok(app)
    }

    /// Whether all disks that a run writes to, if only in the end, have more room than is kept free.
    ///
    /// # Errors
    /// One has not; the kind is `StorageFull`.
    pub fn check_room_for_runs(&self) -> std::io::Result<()> {
        let store = match &self.config.store {
            StoreLocation::Folder(folder) => Some(folder),
            StoreLocation::S3 { .. } => None,
        };
        let folders = [&self.config.state_dir, &self.config.runs_dir];
        folders.into_iter().chain(store).try_for_each(|folder| self.config.reserve.check(folder, 0))
    }

    /// Where trainers run, found out on first use.
    ///
    /// # Errors
    /// The trainer does not run; the text says why.
    pub async fn premises(&self) -> Result<Arc<Premises>, String> {
        let find = async || Premises::find(&self.config).await.map(Arc::new);
        self.premises.get_or_try_init(find).await.cloned()
    }

    /// Bounds for the reading of a project's files. It stops when the guard is dropped: with the request that asked for it, or when
    /// this process ends.
    pub fn bounds(&self, project: ProjectId) -> (Bounds, DropGuard) {
        let (decoding, scratch) = (self.decoding.clone(), Some(self.scratch()));
        let bounds = Bounds { decoding, project: Some(project), scratch, ..Bounds::default() };
        let guard = bounds.stop.clone().drop_guard();
        (bounds, guard)
    }

    /// Where uploads are collected until they are whole.
    pub fn scratch(&self) -> PathBuf {
        self.config.state_dir.join("scratch")
    }

    /// Where training runs have their folders.
    pub fn runs(&self) -> PathBuf {
        self.config.runs_dir.clone()
    }

    /// Where models at work have theirs: apart from the runs, which are a worker's to clear.
    pub fn served(&self) -> PathBuf {
        self.config.runs_dir.join("serving")
    }
}
