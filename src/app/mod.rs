//! Operations: what the API, the worker and the command line can do, each a function with its transaction in sight.

pub mod checkpoints;
pub mod evaluations;
pub mod files;
pub mod jobs;
pub mod keys;
pub mod models;
pub mod preparation;
pub mod serving;
pub mod validation;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::DropGuard;

use crate::config::Config;
use crate::dataset::{Bounds, Gate};
use crate::db::Db;
use crate::failpoint::Failpoints;
use crate::private;
use crate::store::Store;
use serving::Pool;

/// What operations work on.
#[derive(Clone)]
pub struct App {
    pub db: Db,
    pub store: Store,
    pub config: Arc<Config>,
    pub failpoints: Failpoints,
    /// The models that answer requests.
    pub serving: Pool,
    /// Room for the images that this process decodes.
    pub decoding: Gate,
}

impl App {
    /// Opens the store and makes the folders of the state directory.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn new(db: Db, config: Config) -> std::io::Result<Self> {
        let store = Store::open(&config.store).map_err(std::io::Error::other)?;
        let failpoints = config.failpoints.clone();
        let serving = Pool::new(config.serving_models as usize);
        let decoding = Gate::new(config.image_memory);
        let app = Self { db, store, config: Arc::new(config), failpoints, serving, decoding };
        private::make_folder(&app.scratch(), private::FOLDER)?;
        private::make_folder(&app.runs(), private::FOLDER)?;
        Ok(app)
    }

    /// Bounds for the reading of files. It stops when the guard is dropped: with the request that asked for it, or when
    /// this process ends.
    pub fn bounds(&self) -> (Bounds, DropGuard) {
        let bounds = Bounds { decoding: self.decoding.clone(), ..Bounds::default() };
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
