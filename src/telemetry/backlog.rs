//! The log's way out: lines wait in bounded memory for a thread that writes them, so that whoever holds the log and does
//! not read it holds up nobody. What does not fit, or cannot be written, is lost and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::LOG_LINES_LOST;

/// Bytes of lines that wait at most: some ten thousand lines.
const MOST_WAITING: usize = 4 << 20;

/// Lines that wait to be written.
#[derive(Clone, Default)]
pub(super) struct Backlog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// A line came, or the last one is written.
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
}

impl Backlog {
    /// Starts a thread that writes to `target`, as long as the process lives.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(target: impl Write + Send + 'static) -> io::Result<Self> {
        let backlog = Self::default();
        let shared = Arc::clone(&backlog.0);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(target))?;
        Ok(backlog)
    }

    /// Waits until all lines are written, but no longer than `limit`.
    pub(super) fn settle(&self, limit: Duration) {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        let waiting = self.0.changed.wait_timeout_while(self.0.waiting(), limit, is_busy);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Takes lines, one a call, and never blocks.
impl Write for Backlog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.take(line) {
            // Whoever writes looks for more before it waits, so it is woken by the first line alone.
            Some(true) => self.0.changed.notify_all(),
            Some(false) => {}
            None => lost(),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the line is the only one that waits; None if there was no room for it.
    fn take(&self, line: &[u8]) -> Option<bool> {
        let mut waiting = self.waiting();
        let has_room = waiting.bytes + line.len() <= MOST_WAITING;
        if has_room {
            waiting.bytes += line.len();
            waiting.lines.push_back(line.to_vec());
        }
        has_room.then(|| waiting.lines.len() == 1)
    }

    fn write_to(&self, mut target: impl Write) {
        let mut waiting = self.waiting();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.is_writing = true;
                drop(waiting);
                // Where it fails, as on a full disk, the next one may succeed.
                if target.write_all(&line).is_err() {
                    lost();
                }
                waiting = self.waiting();
                waiting.is_writing = false;
            } else {
                self.changed.notify_all();
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

fn lost() {
    metrics::counter!(LOG_LINES_LOST).increment(1);
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::{Backlog, MOST_WAITING};

    /// Hands over what is written once somebody asks for it; for one line there is no room.
    struct Target(mpsc::SyncSender<Vec<u8>>);

    impl Write for Target {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if line == b"full\n" {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.send(line.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn a_log_that_nobody_reads_holds_up_nobody_and_takes_bounded_memory() {
        let (sender, read) = mpsc::sync_channel(0);
        let mut backlog = Backlog::start(Target(sender)).unwrap();
        let line = [b'x'; 1 << 10];
        for _ in 0..3 * MOST_WAITING / line.len() {
            backlog.write_all(&line).unwrap();
        }
        let waiting = backlog.0.waiting();
        assert!(waiting.bytes <= MOST_WAITING && waiting.bytes > MOST_WAITING / 2, "{}", waiting.bytes);
        assert!(waiting.lines.len() <= MOST_WAITING / line.len());
        drop(waiting);
        let began = Instant::now();
        backlog.settle(Duration::from_millis(20));
        assert!(began.elapsed() < LONG);

        // Once somebody reads again there is what waited, and room.
        let reader = std::thread::spawn(move || read.iter().any(|line| line == b"last\n"));
        backlog.settle(LONG);
        backlog.write_all(b"last\n").unwrap();
        assert!(reader.join().unwrap());
    }

    #[test]
    fn a_line_that_cannot_be_written_costs_no_other() {
        let (sender, read) = mpsc::sync_channel(8);
        let mut backlog = Backlog::start(Target(sender)).unwrap();
        for line in ["first\n", "full\n", "second\n"] {
            backlog.write_all(line.as_bytes()).unwrap();
        }
        backlog.settle(LONG);
        assert_eq!(read.try_iter().collect::<Vec<_>>(), [b"first\n".to_vec(), b"second\n".to_vec()]);
    }
}
