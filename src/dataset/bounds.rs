//! What bounds the reading of data files: when it stops, and how much of what it unpacks is held at once.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::id::ProjectId;

/// By default nothing is bounded.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Cancelled when nobody wants the result any more: readers look at it between rows.
    pub stop: CancellationToken,
    pub decoding: Gate,
    /// Whose file it is, if anyone's: projects share the gate.
    pub project: Option<ProjectId>,
    /// Where files without a name are made of what does not fit into memory; by default where the system has such files.
    pub scratch: Option<PathBuf>,
}

impl Bounds {
    /// # Errors
    /// The reading is to stop.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.stop.is_cancelled() { Err(io::Error::other("the reading was stopped")) } else { Ok(()) }
    }
}

/// Room in memory for what is decoded, for all who share it. Between projects the bytes that each has had decide: start-time
/// fair queueing (Goyal, Vin, Cheng 1996, <https://doi.org/10.1145/248156.248171>). So whoever decodes small images waits
/// for one large image of another project at a time, and not for each of them before each of its own. Within a project,
/// whoever comes first is served first.
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
    /// Those that wait, by the start tags of what they want, and by the order in which they came.
    waiting: BTreeSet<(u64, u64)>,
    last: u64,
    /// The start tag of the one that entered last.
    now: u64,
    /// The finish tag of each project's latest.
    finished: HashMap<Option<ProjectId>, u64>,
}

impl State {
    /// Puts someone in the queue.
    fn queue(&mut self, project: Option<ProjectId>, bytes: u64) -> (u64, u64) {
        // Whoever is not ahead of the others any more starts like someone new.
        self.finished.retain(|_, &mut finish| finish > self.now);
        let start = self.finished.get(&project).copied().unwrap_or(self.now);
        self.finished.insert(project, start.saturating_add(bytes));
        self.last += 1;
        let turn = (start, self.last);
        self.waiting.insert(turn);
        turn
    }
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

    /// Waits on this thread until there is room for `bytes`; what is larger than seven eighths of all the room counts as
    /// so much, since small images must not wait for each large one. None if `stop` is cancelled first.
    pub fn enter(&self, project: Option<ProjectId>, bytes: u64, stop: &CancellationToken) -> Option<Room> {
        /// How often a cancelled wait is noticed.
        const LOOK: Duration = Duration::from_millis(100);
        let mut state = self.state();
        let turn = state.queue(project, bytes);
        let bytes = bytes.min(self.0.bytes - self.0.bytes / 8);
        loop {
            let stopped = stop.is_cancelled();
            let fits = state.used == 0 || bytes <= self.0.bytes.saturating_sub(state.used);
            if stopped || (fits && state.waiting.first() == Some(&turn)) {
                state.waiting.remove(&turn);
                if !stopped {
                    state.now = turn.0;
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
    use std::sync::Mutex;
    use std::thread;

    use tokio_util::sync::CancellationToken;

    use super::{Gate, Usage};
    use crate::domain::id::ProjectId;

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let (gate, stop) = (Gate::new(100), CancellationToken::new());
        thread::scope(|scope| {
            for i in 0..40 {
                let (gate, stop) = (&gate, &stop);
                scope.spawn(move || {
                    let room = gate.enter(None, 10 + i, stop).unwrap();
                    thread::yield_now();
                    drop(room);
                });
            }
        });
        let usage = gate.usage();
        assert!(usage.used == 0 && usage.peak <= 100, "{usage:?}");
    }

    #[test]
    fn what_is_too_large_leaves_room_for_little_and_who_came_first_goes_first() {
        let (gate, stop) = (Gate::new(100), CancellationToken::new());
        let first = gate.enter(None, 20, &stop).unwrap();
        thread::scope(|scope| {
            let large = scope.spawn(|| gate.enter(None, 1000, &stop).unwrap());
            while gate.usage().waiting < 1 {
                thread::yield_now();
            }
            let small = scope.spawn(|| gate.enter(None, 1, &stop).unwrap());
            while gate.usage().waiting < 2 {
                thread::yield_now();
            }
            drop(first);
            let large = large.join().unwrap();
            let small = small.join().unwrap();
            assert_eq!(gate.usage(), Usage { used: 89, peak: 89, waiting: 0 });
            drop((large, small));
        });
        assert_eq!(gate.usage(), Usage { used: 0, peak: 89, waiting: 0 });
    }

    #[test]
    fn small_images_of_one_project_pass_the_large_ones_of_another() {
        let (gate, stop) = (Gate::new(100), CancellationToken::new());
        let (greedy, modest) = (Some(ProjectId::new()), Some(ProjectId::new()));
        let order = Mutex::new(Vec::new());
        let most = [88, 12].map(|bytes| gate.enter(None, bytes, &stop).unwrap());
        thread::scope(|scope| {
            let (gate, stop, order) = (&gate, &stop, &order);
            for (i, (project, bytes)) in
                [(greedy, 1000), (greedy, 1000), (greedy, 1000), (modest, 50), (modest, 60), (modest, 70)]
                    .into_iter()
                    .enumerate()
            {
                scope.spawn(move || {
                    let room = gate.enter(project, bytes, stop).unwrap();
                    order.lock().unwrap().push(bytes);
                    drop(room);
                });
                while gate.usage().waiting <= i {
                    thread::yield_now();
                }
            }
            drop(most);
        });
        // The large one that came first goes first; all small ones together weigh less than it.
        assert_eq!(*order.lock().unwrap(), [1000, 50, 60, 70, 1000, 1000]);
    }

    #[test]
    fn a_wait_that_nobody_needs_ends() {
        let (gate, stop) = (Gate::new(10), CancellationToken::new());
        let _most = gate.enter(None, 9, &stop).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(None, 2, &stop).is_none());
            stop.cancel();
            assert!(waiting.join().unwrap());
        });
        assert_eq!(gate.usage(), Usage { used: 9, peak: 9, waiting: 0 });
    }
}
