//! Answers that nobody reads: a client that lets an answer wait for it loses its connection.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::libc;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::pace::Pace;

/// How much of an answer the system holds that it has not sent yet, in bytes. By itself it would hold megabytes for
/// each slow reader. What is under way does not count, so a fast one at the other end of the world stays fast.
const UNSENT: libc::c_int = 256 << 10;

/// What can be told of the other side of a stream.
pub(super) trait Peer {
    /// How many bytes were written that it has not acknowledged.
    fn unacknowledged(&self) -> usize;

    /// Has the system drop these when the stream is closed, rather than offer them for minutes.
    fn forget(&self);
}

impl Peer for TcpStream {
    fn unacknowledged(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open while it is borrowed, and SIOCOUTQ, whose other name this is, writes one int
        // (tcp(7)).
        let answer = unsafe { libc::ioctl(self.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if answer == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
    }

    fn forget(&self) {
        let _ = self.set_zero_linger();
    }
}

/// Has the system take no more of an answer than it can soon send.
pub(super) fn limit_unsent(stream: &TcpStream) {
    let (descriptor, most) = (stream.as_raw_fd(), UNSENT);
    let (value, size) = ((&raw const most).cast(), size_of_val(&most) as libc::socklen_t);
    // SAFETY: the descriptor is open while it is borrowed, and the option is read from an int of that size.
    let _ = unsafe { libc::setsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, value, size) };
}

/// A stream whose writes fail once the other side reads less than its pace. What counts is what the other side has
/// acknowledged: what the system takes says little, for it takes nothing until much of what it holds is gone. Only time
/// in which something waits to be written counts, so a connection may be idle for as long as others allow.
pub(super) struct Unread<S: Peer> {
    stream: S,
    pace: Pace,
    written: u64,
    /// How long writes waited since the pace was last kept, and how much had been acknowledged then.
    waited: Duration,
    acknowledged: u64,
    /// Since when a write waits.
    since: Option<Instant>,
    /// The same for others: whether one does.
    waits: Arc<AtomicBool>,
    alarm: Pin<Box<Sleep>>,
}

impl<S: Peer> Unread<S> {
    /// `waits` tells others whether a write waits.
    pub(super) fn new(stream: S, pace: Pace, waits: Arc<AtomicBool>) -> Self {
        let alarm = Box::pin(tokio::time::sleep(pace.stretch));
        Self { stream, pace, written: 0, waited: Duration::ZERO, acknowledged: 0, since: None, waits, alarm }
    }

    /// Passes on what a write came to, unless it waits for too long.
    fn keep_pace(&mut self, context: &mut Context<'_>, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write {
            if let Some(since) = self.since.take() {
                self.waited += since.elapsed();
                self.waits.store(false, Ordering::Relaxed);
            }
            self.written += written.as_ref().map_or(0, |bytes| *bytes as u64);
            return Poll::Ready(written);
        }
        if self.since.is_none() {
            if self.waited.is_zero() {
                // What was read before anything had to wait says nothing of the reader.
                self.acknowledged = self.acknowledged_by_now();
            }
            self.since = Some(Instant::now());
            self.waits.store(true, Ordering::Relaxed);
            self.set_alarm();
        }
        loop {
            ready!(self.alarm.as_mut().poll(context));
            let acknowledged = self.acknowledged_by_now();
            if acknowledged.saturating_sub(self.acknowledged) < self.pace.bytes as u64 {
                self.stream.forget();
                let why = format!("less than {} bytes of an answer were read in time", self.pace.bytes);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            (self.waited, self.acknowledged, self.since) = (Duration::ZERO, acknowledged, Some(Instant::now()));
            self.set_alarm();
        }
    }

    fn acknowledged_by_now(&self) -> u64 {
        self.written.saturating_sub(self.stream.unacknowledged() as u64)
    }

    fn set_alarm(&mut self) {
        let left = self.pace.stretch.saturating_sub(self.waited);
        self.alarm.as_mut().reset(Instant::now() + left);
    }
}

impl<S: Peer> Drop for Unread<S> {
    fn drop(&mut self) {
        // Of an answer that will not be complete, the beginning is not worth the memory.
        if self.since.is_some() {
            self.stream.forget();
        }
    }
}

impl<S: AsyncRead + Peer + Unpin> AsyncRead for Unread<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Peer + Unpin> AsyncWrite for Unread<S> {
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
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::sleep;

    use super::{Pace, Peer, Unread};

    const PACE: Pace = Pace { stretch: Duration::from_secs(5), bytes: 20 };

    impl Peer for DuplexStream {
        fn unacknowledged(&self) -> usize {
            0
        }

        fn forget(&self) {}
    }

    /// A stream with room for ten bytes, and who reads them.
    fn pair() -> (Unread<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(10);
        (Unread::new(server, PACE, Arc::default()), client)
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

    /// The system's buffers hold megabytes, of which the reader takes a small part in each stretch.
    #[tokio::test]
    async fn a_steady_reader_is_seen_while_the_system_takes_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let mut client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let pace = Pace { stretch: Duration::from_secs(2), bytes: 4 << 10 };
        let mut server = Unread::new(server, pace, Arc::default());
        let writing = tokio::spawn(async move { server.write_all(&vec![0; 32 << 20]).await });
        let mut bytes = vec![0; 4 << 10];
        for _ in 0..100 {
            sleep(Duration::from_millis(50)).await;
            client.read_exact(&mut bytes).await.unwrap();
        }
        assert!(!writing.is_finished());
        // From here on nothing is read.
        let error = writing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
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
