//! Batches made ahead on threads of their own, handed out in order. What a batch holds depends on its number alone, so
//! the number of threads changes nothing but the time.

use std::collections::BTreeMap;
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Result;

/// Batches in the making.
pub struct BatchLoader<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Told of every change of the state.
    changed: Condvar,
}

struct State<T> {
    /// The number of the next batch that nobody makes yet, and of the next one that is handed out.
    to_make: usize,
    to_take: usize,
    /// How many batches are to be made in all, as far as is known.
    batches: usize,
    ready: BTreeMap<usize, Result<T>>,
    cancelled: bool,
    /// A thread panicked.
    broken: bool,
}

impl<T> Shared<T> {
    /// No code that holds the lock can panic, so its contents are whole in any case.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> BatchLoader<T> {
    /// Starts `threads` threads (at least one) that make batches `0..batches` with `make`, at most `ahead` more than
    /// are taken.
    pub fn new(
        batches: usize,
        threads: usize,
        ahead: usize,
        make: impl Fn(usize) -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        let state = State { to_make: 0, to_take: 0, batches, ready: BTreeMap::new(), cancelled: false, broken: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let make = Arc::new(make);
        let start = |_| {
            let (shared, make) = (Arc::clone(&shared), Arc::clone(&make));
            thread::spawn(move || work(&shared, ahead.max(1), &*make))
        };
        let threads = (0..threads.max(1)).map(start).collect();
        Self { shared, threads, waited: Duration::ZERO }
    }

    /// Lets `more` batches follow those that were asked for so far.
    pub fn extend(&self, more: usize) {
        self.shared.lock().batches += more;
        self.shared.changed.notify_all();
    }

    /// The next batch, or None after the last one. A panic of a thread that makes batches goes on here.
    pub fn next_batch(&mut self) -> Option<Result<T>> {
        let start = Instant::now();
        let mut state = self.shared.lock();
        let number = state.to_take;
        if number >= state.batches {
            return None;
        }
        let batch = loop {
            if let Some(batch) = state.ready.remove(&number) {
                break batch;
            }
            if state.broken {
                drop(state);
                match self.stop() {
                    Some(cause) => panic::resume_unwind(cause),
                    None => return None,
                }
            }
            state = self.shared.wait(state);
        };
        state.to_take += 1;
        drop(state);
        self.shared.changed.notify_all();
        self.waited += start.elapsed();
        Some(batch)
    }

    /// The time spent waiting for batches so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl<T> BatchLoader<T> {
    /// Ends the threads, each after the batch that it is making, and gives the cause if one of them panicked.
    fn stop(&mut self) -> Option<Box<dyn std::any::Any + Send>> {
        self.shared.lock().cancelled = true;
        self.shared.changed.notify_all();
        let ends: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ends.into_iter().find_map(Result::err)
    }
}

impl<T> Drop for BatchLoader<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tells who waits for a batch that a panic has ended the thread.
struct Watch<'a, T>(&'a Shared<T>);

impl<T> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().broken = true;
            self.0.changed.notify_all();
        }
    }
}

fn work<T>(shared: &Shared<T>, ahead: usize, make: &dyn Fn(usize) -> Result<T>) {
    let _watch = Watch(shared);
    loop {
        let mut state = shared.lock();
        while !state.cancelled && (state.to_make >= state.batches || state.to_make >= state.to_take + ahead) {
            state = shared.wait(state);
        }
        if state.cancelled {
            return;
        }
        let number = state.to_make;
        state.to_make += 1;
        drop(state);
        let batch = make(number);
        shared.lock().ready.insert(number, batch);
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::BatchLoader;
    use crate::error::EngineError;

    #[test]
    fn batches_come_in_order_whatever_the_number_of_threads() {
        for threads in [0, 1, 3, 8] {
            let mut loader = BatchLoader::new(50, threads, 3, |number| {
                // Some take longer than those behind them.
                std::thread::sleep(std::time::Duration::from_micros(if number % 4 == 0 { 300 } else { 0 }));
                Ok(number * number)
            });
            let all: Vec<usize> = std::iter::from_fn(|| loader.next_batch()).map(|batch| batch.unwrap()).collect();
            assert!(all.into_iter().eq((0..50).map(|number| number * number)));
            assert!(loader.next_batch().is_none());
            loader.extend(1);
            assert_eq!(loader.next_batch().unwrap().unwrap(), 2500);
            assert!(loader.next_batch().is_none());
            assert!(!loader.waited().is_zero());
        }
    }

    #[test]
    fn no_more_than_asked_for_is_made_ahead() {
        let (made, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (made_too, taken_too) = (Arc::clone(&made), Arc::clone(&taken));
        let mut loader = BatchLoader::new(40, 4, 2, move |number| {
            made_too.fetch_add(1, Ordering::SeqCst);
            // `taken` lags one behind the loader's own count at most.
            assert!(number <= taken_too.load(Ordering::SeqCst) + 2);
            Ok(())
        });
        while let Some(batch) = loader.next_batch() {
            batch.unwrap();
            taken.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!(made.load(Ordering::SeqCst), 40);
    }

    #[test]
    fn an_error_comes_in_its_place_and_dropping_ends_the_threads() {
        let alive = Arc::new(());
        let inside = Arc::clone(&alive);
        let mut loader = BatchLoader::new(1_000_000, 3, 4, move |number| {
            assert_eq!(*inside, ());
            if number == 1 { Err(EngineError::model("bad")) } else { Ok(number) }
        });
        assert_eq!(loader.next_batch().unwrap().unwrap(), 0);
        assert_eq!(loader.next_batch().unwrap().unwrap_err().to_string(), "bad");
        assert_eq!(loader.next_batch().unwrap().unwrap(), 2);
        drop(loader);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_panic_of_a_thread_is_not_waited_for() {
        let mut loader = BatchLoader::new(3, 2, 2, |number| {
            assert!(number != 1, "on purpose");
            Ok(number)
        });
        let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while let Some(batch) = loader.next_batch() {
                batch.unwrap();
            }
        }));
        assert!(all.is_err());
    }
}
