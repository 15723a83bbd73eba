//! Bodies in memory: how large one may be, and how much of all of them there may be at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::context::Context;
use super::pace::too_slow;
use crate::domain::error::{Error, ErrorKind, Result};

/// Bodies of up to so many bytes pass freely.
const FREE: usize = 64 << 10;

/// What larger ones may hold together, and those of one project, in bytes.
const ALL: usize = 128 << 20;
const SHARE: usize = ALL / 2;

/// How long a large body waits for room, and how long it may hold it until it is there: so long, and a second more for
/// each of so many bytes.
const WAIT: Duration = Duration::from_secs(20);
const ARRIVAL: Duration = Duration::from_secs(30);
const ARRIVAL_BYTES: usize = 128 << 10;

/// Bytes that one permit stands for.
const UNIT: usize = 1 << 10;

/// Room for large bodies.
pub(super) struct Gate {
    all: Arc<Semaphore>,
    /// By project, so that one project's bodies cannot keep all others waiting. Those that nobody uses go.
    shares: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// Room that a body holds until this is dropped.
#[derive(Default)]
pub(super) struct Held(Vec<OwnedSemaphorePermit>);

impl Held {
    /// Gives back what is more than `bytes` need.
    fn shrink(&mut self, bytes: usize) {
        for permit in &mut self.0 {
            drop(permit.split(permit.num_permits().saturating_sub(bytes.div_ceil(UNIT))));
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL / UNIT)), shares: Mutex::default() }
    }
}

impl Gate {
    fn share(&self, project: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(project).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(SHARE / UNIT));
        shares.insert(project.to_owned(), Arc::downgrade(&share));
        share
    }

    /// Waits until there is room for a body of that size.
    async fn enter(&self, project: &str, bytes: usize) -> Result<Held> {
        if bytes <= FREE {
            return Ok(Held::default());
        }
        let permits = u32::try_from(bytes.min(SHARE).div_ceil(UNIT)).unwrap_or(u32::MAX);
        let both = async {
            let own = self.share(project).acquire_many_owned(permits).await?;
            let all = Arc::clone(&self.all).acquire_many_owned(permits).await?;
            Ok::<_, tokio::sync::AcquireError>(Held(vec![own, all]))
        };
        let Ok(held) = tokio::time::timeout(WAIT, both).await else {
            let message = "Too many large bodies are being read at once. Please try again shortly.";
            return Err(Error::new(ErrorKind::Unavailable, message));
        };
        held.map_err(Error::internal)
    }
}

/// Reads a body of at most `limit` bytes. A larger one is refused before it is read, if it says how large it is.
///
/// # Errors
/// It is too large, comes too slowly or breaks off, or there is no room for it.
pub(super) async fn read(request: Request, limit: usize, gate: &Gate) -> Result<(Vec<u8>, Held)> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > limit) {
        return Err(too_large(limit));
    }
    let context = request.extensions().get::<Context>().cloned().unwrap_or_default();
    let room = announced.unwrap_or(limit);
    let mut held = gate.enter(context.project().unwrap_or_default(), room).await?;
    let arrival = ARRIVAL + Duration::from_secs((room / ARRIVAL_BYTES) as u64);
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default());
    let mut stream = request.into_body().into_data_stream();
    let arriving = async {
        while let Some(chunk) = stream.next().await {
            let unread = || Error::new(ErrorKind::Invalid, "The body could not be read to its end.");
            let chunk = chunk.map_err(|error| too_slow(&error).unwrap_or_else(unread).source(error))?;
            if bytes.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    tokio::time::timeout(arrival, arriving).await.unwrap_or_else(|_| {
        let message = format!("The body came too slowly: it was not there within {} s.", arrival.as_secs());
        Err(Error::new(ErrorKind::TooSlow, message))
    })?;
    held.shrink(bytes.len());
    Ok((bytes, held))
}

fn too_large(limit: usize) -> Error {
    let message = format!("The body is larger than the allowed {limit} bytes.");
    Error::new(ErrorKind::TooLarge, message).code("body_too_large")
}

/// Does work on a body of so many bytes, on a thread of its own if it is too much for one that serves others.
///
/// # Errors
/// The work panicked.
pub(super) async fn aside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    const MOST: usize = 1 << 20;
    if bytes <= MOST { Ok(work()) } else { tokio::task::spawn_blocking(work).await.map_err(Error::internal) }
}

#[cfg(test)]
mod tests {
    use super::{ALL, FREE, Gate, SHARE};

    #[tokio::test(start_paused = true)]
    async fn a_project_that_fills_its_share_keeps_nobody_else_waiting() {
        let gate = Gate::default();
        let first = gate.enter("one", SHARE).await.unwrap();
        assert!(gate.enter("one", FREE + 1).await.is_err(), "its share is full");
        assert!(gate.enter("one", FREE).await.is_ok(), "small ones pass");
        let second = gate.enter("other", SHARE).await.unwrap();
        assert!(gate.enter("third", ALL).await.is_err(), "all are full");
        drop((first, second));
        let mut all = gate.enter("third", SHARE).await.unwrap();
        all.shrink(FREE);
        gate.enter("third", SHARE - FREE).await.unwrap();
    }
}
