//! What bounds the reading of data files: when it stops, and how much of what it unpacks is held at once.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// By default nothing is bounded.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Cancelled when nobody wants the result any more: readers look at it between rows.
    pub stop: CancellationToken,
    pub decoding: Gate,
}

impl Bounds {
    /// # Errors
    /// The reading is to stop.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.stop.is_cancelled() { Err(io::Error::other("the reading was stopped")) } else { Ok(()) }
    }
}

/// Room in memory for what is decoded, for all who share it. Whoever comes first is served first.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    peak: u64,
    /// Those that wait, by the order in which they came.
    waiting: BTreeSet<u64>,
    last: u64,
}

/// How a gate is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub used: u64,
    /// The most bytes there ever were.
    pub peak: u64,
    /// How many wait.
    pub waiting: usize,
}

/// Room that is taken until this is dropped.
#[derive(Debug)]
pub struct Room {
    gate: Gate,
    bytes: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Gate {
    /// Room for so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Inner { bytes, state: Mutex::default(), freed: Condvar::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits on this thread until there is room for `bytes`; what is larger than all the room there is has it alone.
    /// None if `stop` is cancelled first.
    pub fn enter(&self, bytes: u64, stop: &CancellationToken) -> Option<Room> {
        /// How often a cancelled wait is noticed.
        const LOOK: Duration = Duration::from_millis(100);
        let mut state = self.state();
        state.last += 1;
        let turn = state.last;
        state.waiting.insert(turn);
        loop {
            let stopped = stop.is_cancelled();
            let fits = state.used == 0 || bytes <= self.0.bytes.saturating_sub(state.used);
            if stopped || (fits && state.waiting.first() == Some(&turn)) {
                state.waiting.remove(&turn);
                if !stopped {
                    state.used = state.used.saturating_add(bytes);
                    state.peak = state.peak.max(state.used);
                }
                drop(state);
                // The next one may have its turn.
                self.0.freed.notify_all();
                return (!stopped).then(|| Room { gate: self.clone(), bytes });
            }
            state = self.0.freed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What it is used for now.
    pub fn usage(&self) -> Usage {
        let state = self.state();
        Usage { used: state.used, peak: state.peak, waiting: state.waiting.len() }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.used = state.used.saturating_sub(self.bytes);
        drop(state);
        self.gate.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio_util::sync::CancellationToken;

    use super::{Gate, Usage};

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let (gate, stop) = (Gate::new(100), CancellationToken::new());
        thread::scope(|scope| {
            for i in 0..40 {
                let (gate, stop) = (&gate, &stop);
                scope.spawn(move || {
                    let room = gate.enter(10 + i, stop).unwrap();
                    thread::yield_now();
                    drop(room);
                });
            }
        });
        let usage = gate.usage();
        assert!(usage.used == 0 && usage.peak <= 100, "{usage:?}");
    }

    #[test]
    fn what_is_too_large_comes_alone_and_who_came_first_goes_first() {
        let (gate, stop) = (Gate::new(100), CancellationToken::new());
        let first = gate.enter(1, &stop).unwrap();
        thread::scope(|scope| {
            let large = scope.spawn(|| gate.enter(1000, &stop).unwrap());
            while gate.usage().waiting < 1 {
                thread::yield_now();
            }
            let small = scope.spawn(|| gate.enter(1, &stop).unwrap());
            while gate.usage().waiting < 2 {
                thread::yield_now();
            }
            drop(first);
            let large = large.join().unwrap();
            assert_eq!(gate.usage(), Usage { used: 1000, peak: 1000, waiting: 1 });
            drop(large);
            drop(small.join().unwrap());
        });
        assert_eq!(gate.usage(), Usage { used: 0, peak: 1000, waiting: 0 });
    }

    #[test]
    fn a_wait_that_nobody_needs_ends() {
        let (gate, stop) = (Gate::new(10), CancellationToken::new());
        let _all = gate.enter(10, &stop).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(1, &stop).is_none());
            stop.cancel();
            assert!(waiting.join().unwrap());
        });
        assert_eq!(gate.usage(), Usage { used: 10, peak: 10, waiting: 0 });
    }
}
