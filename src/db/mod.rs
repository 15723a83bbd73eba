//! PostgreSQL: the only floor that knows sqlx. One file per table, each query a function; callers choose between the
//! pool and a transaction.

pub mod attempts;
pub mod checkpoints;
mod connect;
pub mod embedded;
pub mod events;
pub mod files;
mod hints;
pub mod job_pages;
mod job_rows;
pub mod jobs;
pub mod keys;
mod lease_line;
pub mod metrics;
pub mod models;
pub mod moves;
pub mod objects;
mod pages;
pub mod projects;
pub mod queue;
pub mod readings;
pub mod requests;
pub mod uploads;
pub mod validation;
pub mod workers;

use std::str::FromStr;
use std::time::Duration;

use sqlx::Postgres;
use sqlx::postgres::types::PgInterval;

pub use connect::Db;
pub use hints::{Listener, hint};
pub use lease_line::LeaseLine;

use crate::domain::error::{Error, ErrorKind, Result};

/// A connection, for callers that run several queries on one.
pub type Connection = sqlx::PgConnection;

/// A transaction; rolled back unless committed.
pub struct Tx(sqlx::Transaction<'static, Postgres>);

impl Tx {
    /// What queries of this transaction run on.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.0
    }

    /// Makes all of it durable.
    pub async fn commit(self) -> Result<()> {
        Ok(self.0.commit().await?)
    }
}

/// Waits for the database, but no longer than `limit`.
///
/// # Errors
/// What `work` says, or that the database is away.
pub async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::unavailable("the database did not answer in time")),
    }
}

/// How often work is done again because other transactions were in its way.
const CONFLICTS: u32 = 4;

/// Does a whole transaction again when PostgreSQL gave it up in favour of another one (deadlock, serialization).
///
/// # Errors
/// What `work` says in the end.
pub async fn retrying<T, F: Future<Output = Result<T>>>(mut work: impl FnMut() -> F) -> Result<T> {
    for pause in (0..CONFLICTS).map(|tried| Duration::from_millis(5 << (2 * tried))) {
        match work().await {
            Err(error) if is_conflict(&error) => tokio::time::sleep(pause).await,
            done => return done,
        }
    }
    work().await
}

/// 40001 is `serialization_failure`, 40P01 `deadlock_detected`.
fn is_conflict(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<sqlx::Error>());
    let code = cause.and_then(|cause| cause.as_database_error()?.code());
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match kind_of(&error) {
            ErrorKind::Unavailable => Self::unavailable(error),
            ErrorKind::OutOfStorage => {
                Self::new(ErrorKind::OutOfStorage, "The service has no room left to store this.").source(error)
            }
            _ => Self::internal(error),
        }
    }
}

/// Whether trying again later can help.
fn kind_of(error: &sqlx::Error) -> ErrorKind {
    use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
    match error {
        Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed => ErrorKind::Unavailable,
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("53100") => ErrorKind::OutOfStorage,
            // Connection trouble, a transaction, statement or lock that took too long, deadlock, serialization, too few resources,
            // the server shutting down or starting.
            Some(code)
                if ["08", "25P03", "40", "53", "55P03", "57"].into_iter().any(|prefix| code.starts_with(prefix)) =>
            {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Internal,
        },
        _ => ErrorKind::Internal,
    }
}

/// A number that the schema keeps from being negative.
fn unsigned(value: i64) -> u64 {
    value.unsigned_abs()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn hash32(bytes: &[u8]) -> Result<[u8; 32], Error> {
    bytes.try_into().map_err(|_| Error::internal("a stored hash has another length than 32"))
}

/// A duration as PostgreSQL has it.
fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

/// Reads a word of the database; it may be one that the schema allows and this version does not know.
fn known<T: FromStr<Err = ()>>(what: &'static str, word: &str) -> Result<T, Error> {
    let unknown =
        |()| Error::internal(format!("the database holds the {what} '{word}', which this version does not know"));
    word.parse().map_err(unknown)
}

/// JSON that the database holds in a column whose type the code fixes.
fn from_json<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(Error::internal)
}

fn to_json(value: &impl serde::Serialize) -> Result<serde_json::Value, Error> {
    serde_json::to_value(value).map(storable_json).map_err(Error::internal)
}

/// A text as PostgreSQL can hold it: a NUL, which it cannot, becomes a replacement character.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// The same for every text in a JSON value.
fn storable_json(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) if text.contains('\0') => Value::String(storable(&text)),
        Value::Array(items) => items.into_iter().map(storable_json).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (storable(&key), storable_json(value))).collect(),
        other => other,
    }
}
