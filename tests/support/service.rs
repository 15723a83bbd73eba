//! A service over a fresh database, in the test's own process, and its parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use finetuned::api::{self, ApiState, ConnectionLimits};
use finetuned::app::App;
use finetuned::app::keys;
use finetuned::config::{self, Config};
use finetuned::db::Db;
use finetuned::worker::{self, Identity};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::{data, database};

/// A running service. Dropped, it ends.
pub struct Service {
    pub app: App,
    pub address: String,
    pub state: Arc<TempDir>,
    pub key: String,
    shutdown: CancellationToken,
    worker: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The configuration of a test's service.
pub fn configuration(state: &Path, database_url: &str) -> Config {
    let flags = [
        ("state-dir", state.to_string_lossy().into_owned()),
        ("database-url", database_url.to_owned()),
        ("trainer", trainer().to_string_lossy().into_owned()),
        ("trainer-threads", "1".to_owned()),
        // The tests of what waits ask for it; the programs that others start have it.
        ("spare-trainers", "off".to_owned()),
        // Long: a busy machine must not cost an attempt in a test about something else.
        ("lease-seconds", "60".to_owned()),
    ];
    config::load(&flags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()).unwrap()
}

/// The trainer, which cargo builds beside the service's own program.
pub fn trainer() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_finetuned")).with_file_name("finetuned-trainer");
    assert!(path.is_file(), "{} is not built: cargo build --workspace", path.display());
    path
}

impl Service {
    /// An API without a worker.
    pub async fn api() -> Self {
        Self::with(|_| {}).await
    }

    /// An API and a worker with one slot.
    pub async fn with_worker() -> Self {
        let mut service = Self::api().await;
        service.start_worker();
        service
    }

    /// An API without a worker, its configuration changed by `change`.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::over(&database::fresh().await, change).await
    }

    /// The same over a database that is there.
    pub async fn over(url: &str, change: impl FnOnce(&mut Config)) -> Self {
        let state = Arc::new(tempfile::tempdir().unwrap());
        let mut config = configuration(state.path(), url);
        change(&mut config);
        if let Ok(log) = std::env::var("FINETUNED_TEST_LOG") {
            config.log = log;
            finetuned::telemetry::init_logs(&config).unwrap();
        }
        let db = Db::connect(url, 8).await.unwrap();
        let app = App::new(db, config).unwrap();
        let (_, secret) = keys::create(&app, "acme", "test").await.unwrap();
        let router = api::router(ApiState::new(app.clone(), finetuned::telemetry::init_metrics()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let stopped = shutdown.clone().cancelled_owned();
        let limits = ConnectionLimits::new(&app.config);
        tokio::spawn(api::serve(listener, router, limits, stopped));
        Self { app, address, state, key: secret.expose().to_owned(), shutdown, worker: None }
    }

    /// Starts a worker in this process.
    pub fn start_worker(&mut self) {
        let (app, shutdown) = (self.app.clone(), self.shutdown.child_token());
        let identity = Identity::take(self.state.path()).unwrap();
        let stop = shutdown.clone();
        let work = async move { worker::run(app, identity, shutdown).await.map(|_| ()).unwrap() };
        self.worker = Some((stop, tokio::spawn(work)));
    }

    /// Stops the worker in an orderly way and waits for it; the API keeps answering.
    pub async fn stop_worker(&mut self) {
        if let Some((stop, worker)) = self.worker.take() {
            stop.cancel();
            worker.await.unwrap();
        }
    }

    /// The folder of its objects, where they are kept in one.
    pub fn objects(&self) -> PathBuf {
        self.state.path().join("objects")
    }

    /// A client with the service's first key.
    pub fn client(&self) -> Client {
        Client::new(&self.address, Some(&self.key))
    }

    /// A client of another project.
    pub async fn stranger(&self) -> Client {
        let (_, secret) = keys::create(&self.app, "strangers", "test").await.unwrap();
        Client::new(&self.address, Some(secret.expose()))
    }

    /// Imports the tiny base model under the name `tiny-bert`.
    pub async fn import_tiny_model(&self) {
        finetuned::app::models::import(&self.app, &data::tiny_model(), "tiny-bert").await.unwrap();
    }
}

/// How much longer than on a quiet machine anything may take.
const BUSY: u32 = 5;

/// Waits until `check` gives a value, which takes at most so long where the machine does nothing else.
pub async fn eventually<T>(what: &str, seconds: u64, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + BUSY * Duration::from_secs(seconds);
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "still waiting after {BUSY} times {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
