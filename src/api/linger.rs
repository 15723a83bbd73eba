//! Closing behind an answer that came before the request had ended. A connection that is closed while the client still
//! sends is reset, and the client loses the answer with it; so what comes is thrown away for a while (RFC 9112, section
//! 9.6).

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a client may be silent until its connection is closed, and how long it may go on sending.
const SILENCE: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);
/// The most bytes that are thrown away.
const MOST: usize = 64 << 20;
const SCRATCH: usize = 16 << 10;

/// A stream that is closed only once the other side has stopped sending, within limits.
pub(super) struct Lingering<S> {
    stream: S,
    closing: Option<Closing>,
}

struct Closing {
    end: Instant,
    left: usize,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, closing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, closing } = &mut *self;
        if closing.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let closing = closing.get_or_insert_with(|| {
            let now = Instant::now();
            Closing { end: now + LONGEST, left: MOST, alarm: Box::pin(tokio::time::sleep_until(now + SILENCE)) }
        });
        loop {
            if closing.alarm.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = [MaybeUninit::uninit(); SCRATCH];
            let mut buffer = ReadBuf::uninit(&mut scratch);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            let came = buffer.filled().len();
            closing.left = closing.left.saturating_sub(came);
            if read.is_err() || came == 0 || closing.left == 0 {
                return Poll::Ready(Ok(()));
            }
            let silent = Instant::now() + SILENCE;
            closing.alarm.as_mut().reset(silent.min(closing.end));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, sleep};

    use super::{LONGEST, Lingering, SILENCE};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_still_sends_gets_its_answer() {
        let (server, mut client) = duplex(1024);
        let mut server = Lingering::new(server);
        let sending = tokio::spawn(async move {
            client.write_all(&vec![0; 100_000]).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        server.write_all(b"too large").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(sending.await.unwrap(), b"too large");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_without_end() {
        let (server, client) = duplex(1024);
        let started = Instant::now();
        Lingering::new(server).shutdown().await.unwrap();
        assert_eq!(started.elapsed(), SILENCE);
        drop(client);

        let (server, mut client) = duplex(1024);
        let sending = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                sleep(SILENCE / 2).await;
            }
        });
        let started = Instant::now();
        let mut server = Lingering::new(server);
        server.shutdown().await.unwrap();
        assert!(started.elapsed() <= LONGEST + SILENCE, "{:?}", started.elapsed());
        drop(server);
        sending.await.unwrap();
    }
}
