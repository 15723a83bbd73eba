//! Limits in time: a body must come at a pace, and an answer must come at all.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use tokio::time::Instant;

use super::problem::Problem;
use crate::domain::error::{Error, ErrorKind};

/// What must have passed in each stretch of time, of a body that is not complete and of an answer that waits.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub stretch: Duration,
    pub bytes: usize,
}

/// Of bodies: half a kilobyte a second.
pub(super) const PACE: Pace = Pace { stretch: Duration::from_secs(30), bytes: 15 << 10 };

/// Of answers: a third of a kilobyte a second, over a stretch in which a slow reader is seen to read at all. Once its
/// buffer is full, Linux takes more when a sixteenth of that is free and room for a segment (`__tcp_select_window`). Of
/// a buffer of 6 MB, the largest by default, that is 384 KB, which take 98 s to read at 4 KB/s; on the loopback
/// interface, whose segments are of 64 KB, up to 128 KB, which take 170 s at 0.75 KB/s.
pub(super) const READING_PACE: Pace = Pace { stretch: Duration::from_mins(3), bytes: 60 << 10 };

/// A body came more slowly than its pace.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
struct TooSlow;

/// Middleware that cuts bodies off which are compressed or come too slowly.
pub(super) async fn keep_pace(request: Request, next: Next) -> Response {
    let coding = request.headers().get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| coding != "identity") {
        let message = "The body must not be compressed: Content-Encoding is not supported.";
        return Problem(Error::new(ErrorKind::UnsupportedCoding, message).param("content-encoding")).into_response();
    }
    next.run(request.map(|body| Body::from_stream(paced(body.into_data_stream(), PACE)))).await
}

/// The same stream, which fails once a stretch of time brings too little.
fn paced<E: Into<axum::BoxError>>(
    stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
    pace: Pace,
) -> impl Stream<Item = Result<Bytes, io::Error>> {
    let start = (stream, Instant::now() + pace.stretch, 0);
    futures_util::stream::unfold(start, move |(mut stream, mut end, mut came)| async move {
        loop {
            match tokio::time::timeout_at(end, stream.next()).await {
                Ok(None) => return None,
                Ok(Some(chunk)) => {
                    let chunk = chunk.map_err(io::Error::other);
                    came += chunk.as_ref().map_or(0, Bytes::len);
                    return Some((chunk, (stream, end, came)));
                }
                Err(_) if came < pace.bytes => {
                    return Some((Err(io::Error::new(io::ErrorKind::TimedOut, TooSlow)), (stream, end, came)));
                }
                Err(_) => (end, came) = (Instant::now() + pace.stretch, 0),
            }
        }
    })
}

/// Whether an error of that type is among the causes of another one, or inside one of them.
pub(super) fn caused_by<T: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if cause.is::<T>() || inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<T>) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// The error for a body that could not be read, if the reason is its pace.
pub(super) fn too_slow(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    caused_by::<TooSlow>(error).then(|| {
        let message =
            format!("The body came too slowly: less than {} bytes in {} s.", PACE.bytes, PACE.stretch.as_secs());
        Error::new(ErrorKind::TooSlow, message)
    })
}

/// Middleware that answers for a handler which does not come to an end.
pub(super) async fn limit_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        let error = Error::unavailable(format!("no answer within {} s", limit.as_secs()));
        Problem(error).into_response()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Bytes;
    use futures_util::{StreamExt, TryStreamExt, stream};

    use super::{Pace, paced, too_slow};

    /// Chunks that come every second, of so many bytes each.
    fn chunks(count: usize, bytes: usize) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Unpin {
        let chunk = move |_| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Bytes::from(vec![0; bytes]))
        };
        stream::iter(0..count).then(chunk).boxed()
    }

    const PACE: Pace = Pace { stretch: Duration::from_secs(5), bytes: 20 };

    #[tokio::test(start_paused = true)]
    async fn a_steady_body_comes_through_however_long_it_takes() {
        let all: Vec<Bytes> = paced(chunks(100, 10), PACE).try_collect().await.unwrap();
        assert_eq!(all.len(), 100);
        // Less than the pace, but complete before anyone minds.
        let short: Vec<Bytes> = paced(chunks(3, 1), PACE).try_collect().await.unwrap();
        assert_eq!(short.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dribbling_body_is_cut_off_and_told_why() {
        let error = paced(chunks(100, 1), PACE).try_collect::<Vec<Bytes>>().await.unwrap_err();
        let told = too_slow(&error).unwrap();
        assert!(told.message.contains("too slowly"));
        assert!(too_slow(&std::io::Error::other("something else")).is_none());
        // Fast at first, then asleep.
        let sleepy = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![0; 100]))]).chain(stream::pending());
        assert!(paced(sleepy.boxed(), PACE).try_collect::<Vec<Bytes>>().await.is_err());
    }
}
