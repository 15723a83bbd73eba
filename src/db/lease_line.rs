//! A line of its own for each lease, so that keeping it waits for no other.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use super::queue::{self, Claim, Renewed};
use super::{Db, within};
use crate::domain::error::Result;
use crate::domain::id::JobId;
use crate::domain::job::JobStatus;

/// The connection over which one lease is kept. One that fails or does not answer in time is dropped, and the next
/// call makes another.
pub struct LeaseLine {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl LeaseLine {
    /// A line to the server of `db`; it is opened when it is needed.
    pub fn new(db: &Db) -> Self {
        Self { options: db.options(), connection: None }
    }

    /// See [`queue::renew`]; gives up after `limit`.
    pub async fn renew(&mut self, claim: &Claim, lease: Duration, limit: Duration) -> Result<Option<Renewed>> {
        within(limit, async {
            let mut connection = self.open().await?;
            let renewed = queue::renew(&mut connection, claim, lease).await?;
            self.connection = Some(connection);
            Ok(renewed)
        })
        .await
    }

    /// See [`queue::status`]; gives up after `limit`.
    pub async fn status(&mut self, job: JobId, limit: Duration) -> Result<Option<JobStatus>> {
        within(limit, async {
            let mut connection = self.open().await?;
            let status = queue::status(&mut connection, job).await?;
            self.connection = Some(connection);
            Ok(status)
        })
        .await
    }

    async fn open(&mut self) -> Result<PgConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Ok(PgConnection::connect_with(&self.options).await?),
        }
    }
}
