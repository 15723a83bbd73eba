//! What a process prints, read in bounded memory and not for longer than it lives: a process that it started may hold the
//! pipes open for ever.

use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use nix::libc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::ChildStdout;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::Group;

/// How much of a trainer's standard error is kept: its end.
const STDERR_TAIL: usize = 8 << 10;
/// How long the last of it may take to come once the process is gone.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often it is looked whether a process is still there.
const LOOK: Duration = Duration::from_secs(1);
/// How long standard output may stay open once its process is gone.
const OPEN_WITHOUT: Duration = Duration::from_secs(5);

/// What a process prints, by line. It ends with the pipe, or some seconds after the process, once all that this one wrote
/// has been read.
pub struct Lines {
    read: FramedRead<ChildStdout, LinesCodec>,
    process: Group,
    look: Interval,
    gone: Option<Gone>,
}

/// The state of the output of a process that is gone.
struct Gone {
    seen: Instant,
    /// Bytes that it wrote and that were not handed out when its end was seen, at most.
    owed: usize,
}

impl Lines {
    /// The output of the leader of `process`; a line has up to `longest` bytes.
    pub(super) fn of(stdout: ChildStdout, longest: usize, process: Group) -> Self {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let read = FramedRead::new(stdout, LinesCodec::new_with_max_length(longest));
        Self { read, process, look, gone: None }
    }

    /// Bytes that lie in the pipe (`FIONREAD`, `pipe(7)`).
    fn in_pipe(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open, and the pointer is valid for the call.
        unsafe { libc::ioctl(self.read.get_ref().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        usize::try_from(bytes).unwrap_or_default()
    }
}

impl Stream for Lines {
    type Item = Result<String, LinesCodecError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while this.look.poll_tick(context).is_ready() {
            if this.gone.is_none() && this.process.is_gone() {
                let owed = this.in_pipe() + this.read.read_buffer().len();
                this.gone = Some(Gone { seen: Instant::now(), owed });
            }
        }
        let is_over = this.gone.as_ref().is_some_and(|gone| gone.seen.elapsed() >= OPEN_WITHOUT);
        if is_over && this.gone.as_ref().is_some_and(|gone| gone.owed == 0) {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut this.read).poll_next(context);
        if let (Poll::Ready(Some(Ok(line))), Some(gone)) = (&polled, &mut this.gone) {
            gone.owed = gone.owed.saturating_sub(line.len() + 1);
        }
        // Pending alone may mean that it is another task's turn.
        if is_over && polled.is_pending() && this.in_pipe() == 0 {
            return Poll::Ready(None);
        }
        polled
    }
}

/// The end of what a process writes to its standard error.
pub(super) struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Tail {
    pub(super) fn of(mut stderr: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let kept = Arc::<Mutex<Vec<u8>>>::default();
        let keep = kept.clone();
        let reading = tokio::spawn(async move {
            let mut block = vec![0; STDERR_TAIL];
            while let Ok(count @ 1..) = stderr.read(&mut block).await {
                tracing::debug!(text = %String::from_utf8_lossy(&block[..count]), "trainer");
                let mut kept = locked(&keep);
                kept.extend_from_slice(&block[..count]);
                let surplus = kept.len().saturating_sub(STDERR_TAIL);
                kept.drain(..surplus);
            }
        });
        Self { kept, reading }
    }

    /// The last words of a process that is gone. Whoever else may write there is not waited for.
    pub(super) async fn end(mut self) -> String {
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.reading).await;
        let kept = locked(&self.kept);
        // The rest of a character that was cut.
        let rest = kept.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
        String::from_utf8_lossy(&kept[rest..]).replace('\0', "").trim_end_matches('\n').to_owned()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn locked(kept: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::{STDERR_TAIL, Tail};

    #[tokio::test]
    async fn of_standard_error_the_end_is_kept_and_never_more() {
        let tail = Tail::of(tokio::io::repeat(b'x').take(64 << 20).chain("é\0\nlast\n".as_bytes()));
        let kept = tail.kept.clone();
        let words = tail.end().await;
        assert!(words.ends_with("xxé\nlast"), "{}", &words[words.len() - 32..]);
        assert_eq!(words.len(), STDERR_TAIL - 2);
        assert!(kept.lock().unwrap().capacity() <= 4 * STDERR_TAIL);

        let cut = format!("é{}", "y".repeat(STDERR_TAIL - 1));
        assert_eq!(Tail::of(std::io::Cursor::new(cut)).end().await, "y".repeat(STDERR_TAIL - 1));
        assert_eq!(Tail::of(tokio::io::empty()).end().await, "");
    }

    #[tokio::test]
    async fn last_words_do_not_wait_for_whoever_holds_standard_error() {
        let (mut other, ours) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut other, b"why\n").await.unwrap();
        assert_eq!(Tail::of(ours).end().await, "why");
        drop(other);
    }
}
