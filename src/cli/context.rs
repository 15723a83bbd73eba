//! What every command that touches the service's data needs: the database, private or not, and the store.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::fcntl::Flock;

use crate::app::{App, ownership};
use crate::config::Config;
use crate::db::Db;
use crate::db::embedded::PrivatePostgres;
use crate::domain::error::ErrorKind;
use crate::private;

/// Connections of a command that is no service.
const ADMIN_CONNECTIONS: u32 = 2;
/// How long a service that is just starting may take until its database answers.
const ANSWER: Duration = Duration::from_secs(10);
/// How long connections may take to close: they would wait for the answers of a database that hangs.
const CLOSE: Duration = Duration::from_secs(5);

/// What a command works on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Database,
    /// The database and the store, which must belong together.
    Store,
}

/// An open service: its database is migrated and its folders are there.
pub(super) struct Context {
    pub(super) app: App,
    postgres: Option<PrivatePostgres>,
    _lock: Option<Flock<File>>,
}

impl Context {
    /// For a service: holds the state directory against every other service.
    pub(super) async fn open_service(config: Config) -> anyhow::Result<Self> {
        make_state_dir(&config)?;
        let Some(lock) = lock(&config.state_dir)? else {
            bail!("another service runs with the state directory {}", config.state_dir.display());
        };
        let connections = config.database_connections;
        let (url, postgres) = if let Some(url) = &config.database_url {
            (url.0.clone(), None)
        } else {
            let postgres = start_postgres(&config).await?;
            (postgres.url().to_owned(), Some(postgres))
        };
        Self::finish(config, &url, connections, Scope::Store, postgres, Some(lock)).await
    }

    /// For an administrator's command: joins the running service's database, or starts the private one for a moment.
    pub(super) async fn open(config: Config) -> anyhow::Result<Self> {
        Self::join(config, ADMIN_CONNECTIONS, Scope::Database).await
    }

    /// The same for a command that puts something into the store.
    pub(super) async fn open_with_store(config: Config) -> anyhow::Result<Self> {
        Self::join(config, ADMIN_CONNECTIONS, Scope::Store).await
    }

    /// For a worker beside the service.
    pub(super) async fn open_worker(config: Config) -> anyhow::Result<Self> {
        let connections = config.database_connections;
        Self::join(config, connections, Scope::Store).await
    }

    async fn join(config: Config, connections: u32, scope: Scope) -> anyhow::Result<Self> {
        if let Some(url) = config.database_url.clone() {
            make_state_dir(&config)?;
            return Self::finish(config, &url.0, connections, scope, None, None).await;
        }
        make_state_dir(&config)?;
        let folder = postgres_folder(&config.state_dir);
        // A service that is just starting has the lock before its database answers.
        let deadline = Instant::now() + ANSWER;
        while Instant::now() < deadline {
            if let Some(lock) = lock(&config.state_dir)? {
                let postgres = start_postgres(&config).await?;
                let url = postgres.url().to_owned();
                return Self::finish(config, &url, connections, scope, Some(postgres), Some(lock)).await;
            }
            if let Some(url) = PrivatePostgres::url_of_running(&folder)
                && let Ok(db) = Db::connect(&url, ADMIN_CONNECTIONS).await
            {
                db.close().await;
                return Self::finish(config, &url, connections, scope, None, None).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let postgres = PrivatePostgres::pid_of_running(&folder)
            .map_or_else(String::new, |pid| format!(": its PostgreSQL, process {pid}, takes no connections"));
        bail!("the service with the state directory {} does not answer{postgres}", config.state_dir.display())
    }

    async fn finish(
        config: Config,
        url: &str,
        connections: u32,
        scope: Scope,
        postgres: Option<PrivatePostgres>,
        lock: Option<Flock<File>>,
    ) -> anyhow::Result<Self> {
        let opened = async {
            let db = Db::connect(url, connections).await.map_err(|error| anyhow::anyhow!(error.chain()))?;
            db.migrate().await.map_err(|error| anyhow::anyhow!(error.chain()).context("migrating the database"))?;
            let app = App::new(db, config).context("the state directory")?;
            if scope == Scope::Store {
                hold_store(&app).await?;
            }
            Ok::<App, anyhow::Error>(app)
        };
        match opened.await {
            Ok(app) => Ok(Self { app, postgres, _lock: lock }),
            Err(error) => {
                if let Some(postgres) = postgres {
                    postgres.stop().await;
                }
                Err(error)
            }
        }
    }

    /// Whether the database is the service's own.
    pub(super) fn is_private(&self) -> bool {
        self.postgres.is_some()
    }

    /// Does `work`, and keeps the private database running meanwhile.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let Some(postgres) = &mut self.postgres else { return work.await };
        tokio::select! {
            done = work => done,
            never = postgres.keep_running() => match never {},
        }
    }

    /// Closes the connections and stops the private database, if this command started it.
    pub(super) async fn close(self) {
        let _ = tokio::time::timeout(CLOSE, self.app.db.close()).await;
        if let Some(postgres) = self.postgres {
            postgres.stop().await;
        }
    }
}

/// Refuses a store that is not this database's. One that is away cannot be asked; what removes objects asks again.
async fn hold_store(app: &App) -> anyhow::Result<()> {
    match ownership::claim(app).await {
        Err(error) if error.kind == ErrorKind::Unavailable => {
            tracing::warn!(error = error.chain(), "the store does not say whose it is: it is away");
            Ok(())
        }
        claimed => claimed.map_err(|error| anyhow::anyhow!(error.chain())),
    }
}

fn postgres_folder(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join("postgres")
}

async fn start_postgres(config: &Config) -> anyhow::Result<PrivatePostgres> {
    let folder = postgres_folder(&config.state_dir);
    let (binaries, path) = (config.postgres_bin.as_deref(), config.search_path.as_deref());
    Ok(PrivatePostgres::open(&folder, binaries, path, &config.runtime_dir).await?)
}

/// What an earlier version may have left open to other users, directly in the state directory.
const CLOSED: [&str; 7] = ["objects", "runs", "scratch", "service.lock", "worker.lock", "worker-id", "bootstrap-key"];

/// Makes the state directory, and closes what is in it to other users. Others may pass through where the private
/// database's user must, but not look inside.
fn make_state_dir(config: &Config) -> anyhow::Result<()> {
    private::by_default();
    let path = &config.state_dir;
    let passable = config.database_url.is_none() && nix::unistd::geteuid().is_root();
    let mode = if passable { private::PASSABLE_FOLDER } else { private::FOLDER };
    private::make_folder(path, mode)
        .and_then(|()| private::close_folder(path, passable))
        .and_then(|()| CLOSED.iter().try_for_each(|name| private::close(&path.join(name))))
        .with_context(|| format!("the state directory {}", path.display()))
}

/// The state directory's lock; None if another process holds it.
fn lock(state_dir: &Path) -> anyhow::Result<Option<Flock<File>>> {
    let path = state_dir.join("service.lock");
    private::lock(&path).with_context(|| path.display().to_string())
}
