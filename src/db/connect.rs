//! Connections: a pool for requests, and listening for hints.
//!
//! Nothing waits for the database without end. The server bounds statements, locks and idle transactions; on our side
//! a connection that does not answer a ping in time is dropped rather than waited for, since a peer that vanished
//! without a word would otherwise hold its place in the pool for as long as TCP keeps trying, a quarter of an hour.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::sync::Mutex;

use super::hints::{CHANNEL, Listener};
use super::{Tx, within};
use crate::domain::error::{Error, ErrorKind, Result};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a caller waits for a free connection.
const ACQUIRE: Duration = Duration::from_secs(5);
/// How long a connection that nobody needs is kept: others share the server.
const IDLE: Duration = Duration::from_mins(1);
/// A connection that answered so lately, when it was given back, is not asked again.
const FRESH: Duration = Duration::from_secs(1);
/// How long a connection may take to answer a ping.
const PING: Duration = Duration::from_secs(2);

/// The service's connections.
#[derive(Clone)]
pub struct Db {
    pool: PgPool,
    options: PgConnectOptions,
    /// For pings alone: a pool that is busy says nothing of the database.
    pings: Arc<Mutex<Option<PgConnection>>>,
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
                // Pages go along an index, and a bitmap of it has no order: where the planner underrates how much there is, it
                // would collect and sort all of it for one page.
                ("enable_bitmapscan", "off"),
                ("statement_timeout", "15s"),
                ("lock_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "30s"),
                ("tcp_keepalives_idle", "15"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
                ("tcp_user_timeout", "30s"),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(IDLE)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move { Ok(meta.idle_for < FRESH || answers(connection).await) })
            })
            // An error drops the connection at once; the pool's own ping after it has no limit.
            .after_release(|connection, _| {
                Box::pin(
                    async move { if answers(connection).await { Ok(true) } else { Err(sqlx::Error::PoolTimedOut) } },
                )
            })
            .connect_with(options.clone())
            .await?;
        Ok(Self { pool, options, pings: Arc::default() })
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// A migration fails, or the database was migrated by a newer version.
    pub async fn migrate(&self) -> Result<()> {
        let Err(error) = MIGRATIONS.run(&self.pool).await else { return Ok(()) };
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
        let message = match &error {
            MigrateError::VersionMissing(_) => {
                let latest: i64 =
                    sqlx::query_scalar("select max(version) from _sqlx_migrations").fetch_one(&self.pool).await?;
                format!(
                    "the database was migrated by a newer version of finetuned (its schema is {latest}, this program \
                     knows {known}): upgrade finetuned, or restore a backup that was made before the upgrade"
                )
            }
            MigrateError::VersionMismatch(version) => format!(
                "the database was migrated by another build of finetuned (its migration {version} is not the one of \
                 this program): use the build that made it, or restore a backup"
            ),
            _ => return Err(Error::internal(error)),
        };
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// For queries outside a transaction.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection for several queries.
    pub async fn connection(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>> {
        Ok(self.pool.acquire().await?)
    }

    /// Starts a transaction. Whoever stops waiting for it leaves that to a task: sqlx takes note of a transaction only when
    /// the server has said so, and would put the connection back into the pool with one begun.
    pub async fn begin(&self) -> Result<Tx> {
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin().await });
        Ok(Tx(begun.await.map_err(Error::internal)??))
    }

    /// How to reach the server.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not, in time.
    pub async fn ping(&self) -> Result<()> {
        let mut kept = self.pings.lock().await;
        if self.pool.is_closed() {
            return Err(sqlx::Error::PoolClosed.into());
        }
        within(PING, async {
            // One that fails, or is not waited for any longer, is not kept.
            if let Some(mut connection) = kept.take()
                && connection.ping().await.is_ok()
            {
                *kept = Some(connection);
                return Ok(());
            }
            let mut connection = PgConnection::connect_with(&self.options).await?;
            connection.ping().await?;
            *kept = Some(connection);
            Ok(())
        })
        .await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
        self.pings.lock().await.take();
    }

    /// Listens for hints about jobs, over a connection of its own.
    pub async fn listen(&self) -> Result<Listener> {
        let own =
            PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE).connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen(CHANNEL).await?;
        Ok(Listener(listener))
    }
}

async fn answers(connection: &mut PgConnection) -> bool {
    matches!(tokio::time::timeout(PING, connection.ping()).await, Ok(Ok(())))
}
