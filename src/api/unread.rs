//! Answers that nobody reads: a client that lets an answer wait for it loses its connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::pace::Pace;

/// A stream whose writes fail once the other side takes less than its pace. Only time in which something waits to be
/// written counts, so a connection may be idle for as long as others allow.
pub(super) struct Unread<S> {
    stream: S,
    pace: Pace,
    /// What is done with the stream before its write fails.
    cut: fn(&S),
    /// How long writes waited since the pace was last kept, and the bytes that went meanwhile.
    waited: Duration,
    went: usize,
    /// Since when a write waits.
    since: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl<S: AsyncWrite + Unpin> Unread<S> {
    pub(super) fn new(stream: S, pace: Pace, cut: fn(&S)) -> Self {
        let alarm = Box::pin(tokio::time::sleep(pace.stretch));
        Self { stream, pace, cut, waited: Duration::ZERO, went: 0, since: None, alarm }
    }

    /// Passes on what a write came to, unless it waits for too long.
    fn keep_pace(&mut self, context: &mut Context<'_>, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write {
            if let Some(since) = self.since.take() {
                self.waited += since.elapsed();
            }
            self.went = self.went.saturating_add(*written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        if self.since.is_none() {
            if self.waited.is_zero() {
                // What went before anything had to wait says nothing of the reader.
                self.went = 0;
            }
            self.since = Some(Instant::now());
            self.set_alarm();
        }
        loop {
            ready!(self.alarm.as_mut().poll(context));
            if self.went < self.pace.bytes {
                (self.cut)(&self.stream);
                let why = format!("less than {} bytes of an answer were read in time", self.pace.bytes);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            (self.waited, self.went, self.since) = (Duration::ZERO, 0, Some(Instant::now()));
            self.set_alarm();
        }
    }

    fn set_alarm(&mut self) {
        let left = self.pace.stretch.saturating_sub(self.waited);
        self.alarm.as_mut().reset(Instant::now() + left);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.keep_pace(context, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.keep_pace(context, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::{Pace, Unread};

    const PACE: Pace = Pace { stretch: Duration::from_secs(5), bytes: 20 };

    /// A stream with room for ten bytes, and who reads them.
    fn pair() -> (Unread<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(10);
        (Unread::new(server, PACE, |_| {}), client)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_fails() {
        let (mut server, _client) = pair();
        let error = server.write_all(&[0; 11]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_reader_gets_all_however_long_it_takes() {
        let (mut server, mut client) = pair();
        let reading = tokio::spawn(async move {
            let mut bytes = [0; 5];
            for _ in 0..200 {
                sleep(Duration::from_secs(1)).await;
                client.read_exact(&mut bytes).await.unwrap();
            }
        });
        server.write_all(&[0; 1000]).await.unwrap();
        reading.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_dribbling_reader_is_cut_off_and_idle_time_is_not_held_against_anyone() {
        let (mut server, mut client) = pair();
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            while client.read_exact(&mut byte).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(server.write_all(&[0; 1000]).await.is_err());
        reading.abort();

        let (mut server, mut client) = pair();
        let reading = tokio::spawn(async move {
            let mut bytes = [0; 11];
            // Each answer waits for two seconds, and ten pass before the next one.
            for _ in 0..20 {
                sleep(Duration::from_secs(2)).await;
                client.read_exact(&mut bytes).await.unwrap();
                sleep(Duration::from_secs(10)).await;
            }
        });
        for _ in 0..20 {
            server.write_all(&[0; 11]).await.unwrap();
            sleep(Duration::from_secs(10)).await;
        }
        reading.await.unwrap();
    }
}
