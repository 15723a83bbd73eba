//! A bound on what a form may have beside the contents of its parts. The parser holds whatever stands before the first
//! part and each part's head in memory, and searches all of it again whenever more comes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use futures_util::Stream;

/// The most bytes before the first part, and of a head.
pub(super) const LONGEST_HEAD: usize = 64 << 10;

/// There was no part where one was due.
#[derive(Debug, thiserror::Error)]
#[error("more than {LONGEST_HEAD} bytes of a form belong to no part")]
pub(super) struct HeadTooLong;

/// How many bytes may come until the next head is complete.
#[derive(Clone)]
pub(super) struct HeadRoom(Arc<AtomicUsize>);

impl HeadRoom {
    /// Makes a form's body fail once it brings too much while a head is awaited.
    pub(super) fn limit(request: Request) -> (Self, Request) {
        let room = Self(Arc::new(AtomicUsize::new(LONGEST_HEAD)));
        let limited = |body: Body| {
            let (stream, room) = (Box::pin(body.into_data_stream()), room.clone());
            Body::from_stream(Limited { stream, room, rested: true })
        };
        let request = request.map(limited);
        (room, request)
    }

    /// A head is awaited.
    pub(super) fn bounded(&self) {
        self.0.store(LONGEST_HEAD, Ordering::Relaxed);
    }

    /// A part is read, whose reader looks at its length.
    pub(super) fn unbounded(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }

    /// Takes a chunk into account; false if it comes after the room was used up. The chunk that uses it up may hold the
    /// end of the head.
    fn take(&self, bytes: usize) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left != usize::MAX {
            self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
        left > 0
    }
}

struct Limited<S> {
    stream: Pin<Box<S>>,
    room: HeadRoom,
    rested: bool,
}

impl<S: Stream<Item = Result<Bytes, axum::Error>>> Stream for Limited<S> {
    type Item = Result<Bytes, io::Error>;

    /// After each chunk it rests for once: the parser takes all that is there before it looks for a head in it.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !std::mem::replace(&mut self.rested, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = std::task::ready!(self.stream.as_mut().poll_next(context));
        self.rested = false;
        Poll::Ready(next.map(|chunk| match chunk {
            Ok(bytes) if self.room.take(bytes.len()) => Ok(bytes),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, HeadTooLong)),
            Err(error) => Err(io::Error::other(error)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::{Body, Bytes};
    use axum::extract::multipart::MultipartError;
    use axum::extract::{FromRequest, Multipart, Request};
    use futures_util::stream;

    use super::{HeadRoom, HeadTooLong, LONGEST_HEAD};
    use crate::api::pace::caused_by;

    /// A form that comes in chunks of that size; how many bytes of the first part can be read, and how much was sent.
    async fn read(form: Vec<u8>, chunk: usize) -> (Result<usize, MultipartError>, usize) {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let chunks: Vec<Bytes> = form.chunks(chunk).map(Bytes::copy_from_slice).collect();
        let body = Body::from_stream(stream::iter(chunks.into_iter().map(move |chunk| {
            counted.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok::<_, Infallible>(chunk)
        })));
        let request = Request::builder().header("content-type", "multipart/form-data; boundary=b").body(body).unwrap();
        let (room, request) = HeadRoom::limit(request);
        let mut form = Multipart::from_request(request, &()).await.unwrap();
        let read = async {
            let Some(mut field) = form.next_field().await? else { return Ok(0) };
            room.unbounded();
            let mut bytes = 0;
            while let Some(chunk) = field.chunk().await? {
                bytes += chunk.len();
            }
            Ok(bytes)
        };
        (read.await, sent.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn what_belongs_to_no_part_is_not_collected() {
        let head = "--b\r\nContent-Disposition: form-data; name=\"";
        for start in ["", head] {
            for chunk in [100, 7_000, LONGEST_HEAD] {
                let mut form = start.as_bytes().to_vec();
                form.resize(20 * LONGEST_HEAD, b'x');
                let (read, sent) = read(form, chunk).await;
                assert!(caused_by::<HeadTooLong>(&read.unwrap_err()));
                assert!(sent <= 3 * LONGEST_HEAD, "{sent}");
            }
        }
    }

    #[tokio::test]
    async fn a_part_of_any_length_comes_through() {
        let contents = 20 * LONGEST_HEAD;
        let mut form =
            b"preamble\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n".to_vec();
        form.resize(form.len() + contents, b'x');
        form.extend(b"\r\n--b--\r\n");
        for chunk in [13, 7_000, 10 * LONGEST_HEAD] {
            assert_eq!(read(form.clone(), chunk).await.0.unwrap(), contents);
        }
    }
}
