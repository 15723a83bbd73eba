//! Connection pools, and listening for hints.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{PgPool, migrate::Migrator};

use super::Tx;
use crate::domain::error::{Error, Result};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a caller waits for a free connection.
const ACQUIRE: Duration = Duration::from_secs(5);

/// The service's connections. Leases are renewed over their own, so that a crowd of requests cannot keep a worker from
/// keeping its job.
#[derive(Clone)]
pub struct Db {
    pool: PgPool,
    leases: PgPool,
}

impl Db {
    /// Connects to `url` with at most `connections` connections for requests.
    ///
    /// # Errors
    /// The URL is malformed, or no connection can be made.
    pub async fn connect(url: &str, connections: u32) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| Error::invalid("DATABASE_URL", "DATABASE_URL is no valid PostgreSQL URL").source(error))?
            .application_name("finetuned")
            .options([
                ("statement_timeout", "15s"),
                ("lock_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "30s"),
                ("tcp_keepalives_idle", "15"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
            ]);
        let pool = |max| PgPoolOptions::new().max_connections(max).acquire_timeout(ACQUIRE);
        let db = Self {
            pool: pool(connections).connect_with(options.clone()).await?,
            leases: pool(2).connect_lazy_with(options),
        };
        Ok(db)
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// A migration fails, or the database was migrated by a newer version.
    pub async fn migrate(&self) -> Result<()> {
        MIGRATIONS.run(&self.pool).await.map_err(Error::internal)
    }

    /// For queries outside a transaction.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// For the renewal of leases alone.
    pub fn leases(&self) -> &PgPool {
        &self.leases
    }

    /// A connection for several queries.
    pub async fn connection(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>> {
        Ok(self.pool.acquire().await?)
    }

    /// Starts a transaction.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx(self.pool.begin().await?))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
        self.leases.close().await;
    }

    /// Listens for hints that jobs were queued or cancelled.
    pub async fn listen(&self) -> Result<Listener> {
        let mut listener = PgListener::connect_with(&self.leases).await?;
        listener.listen(super::queue::CHANNEL).await?;
        Ok(Listener(listener))
    }
}

/// Hints from other processes. They may be lost; whoever waits for one also looks by the clock.
pub struct Listener(PgListener);

impl Listener {
    /// Waits for the next hint.
    pub async fn hint(&mut self) -> Result<()> {
        self.0.recv().await?;
        Ok(())
    }
}
