//! Batches made ahead on threads of their own, handed out in order. What a batch holds depends on what it is made of alone,
//! so the number of threads changes nothing but the time.

use std::collections::{BTreeMap, VecDeque};
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Result;

/// Batches in the making, each from a `P`.
pub struct BatchLoader<P, T> {
    shared: Arc<Shared<P, T>>,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
}

struct Shared<P, T> {
    state: Mutex<State<P, T>>,
    /// Told of every change of the state.
    changed: Condvar,
}

struct State<P, T> {
    /// What nobody makes a batch of yet, in order.
    wanted: VecDeque<P>,
    /// The number of the next batch that is made, and of the next one that is handed out.
    to_make: usize,
    to_take: usize,
    ready: BTreeMap<usize, Result<T>>,
    cancelled: bool,
    /// A thread panicked.
    broken: bool,
}

impl<P, T> Shared<P, T> {
    /// No code that holds the lock can panic, so its contents are whole in any case.
    fn lock(&self) -> MutexGuard<'_, State<P, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<P, T>>) -> MutexGuard<'a, State<P, T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Send + 'static, T: Send + 'static> BatchLoader<P, T> {
    /// Starts `threads` threads (at least one) that make batches with `make` of what is asked for, at most `ahead` more
    /// than are taken.
    pub fn new(threads: usize, ahead: usize, make: impl Fn(&P) -> Result<T> + Send + Sync + 'static) -> Self {
        let state = State {
            wanted: VecDeque::new(),
            to_make: 0,
            to_take: 0,
            ready: BTreeMap::new(),
            cancelled: false,
            broken: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let make = Arc::new(make);
        let start = |_| {
            let (shared, make) = (Arc::clone(&shared), Arc::clone(&make));
            thread::spawn(move || work(&shared, ahead.max(1), &*make))
        };
        let threads = (0..threads.max(1)).map(start).collect();
        Self { shared, threads, waited: Duration::ZERO }
    }

    /// Asks for batches of these, after those that were asked for so far.
    pub fn extend(&self, wanted: impl IntoIterator<Item = P>) {
        self.shared.lock().wanted.extend(wanted);
        self.shared.changed.notify_all();
    }

    /// The time spent waiting for batches so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl<P, T> Iterator for BatchLoader<P, T> {
    type Item = Result<T>;

    /// The next batch, or None after the last one that was asked for. A panic of a thread that makes batches goes on here.
    fn next(&mut self) -> Option<Result<T>> {
        let start = Instant::now();
        let mut state = self.shared.lock();
        let number = state.to_take;
        if number == state.to_make && state.wanted.is_empty() {
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
}

impl<P, T> BatchLoader<P, T> {
    /// Ends the threads, each after the batch that it is making, and gives the cause if one of them panicked.
    fn stop(&mut self) -> Option<Box<dyn std::any::Any + Send>> {
        self.shared.lock().cancelled = true;
        self.shared.changed.notify_all();
        let ends: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ends.into_iter().find_map(Result::err)
    }
}

impl<P, T> Drop for BatchLoader<P, T> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tells who waits for a batch that a panic has ended the thread.
struct Watch<'a, P, T>(&'a Shared<P, T>);

impl<P, T> Drop for Watch<'_, P, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().broken = true;
            self.0.changed.notify_all();
        }
    }
}

fn work<P, T>(shared: &Shared<P, T>, ahead: usize, make: &dyn Fn(&P) -> Result<T>) {
    let _watch = Watch(shared);
    loop {
        let mut state = shared.lock();
        let wanted = loop {
            if state.cancelled {
                return;
            }
            let next = if state.to_make < state.to_take + ahead { state.wanted.pop_front() } else { None };
            match next {
                Some(wanted) => break wanted,
                None => state = shared.wait(state),
            }
        };
        let number = state.to_make;
        state.to_make += 1;
        drop(state);
        let batch = make(&wanted);
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
            let mut loader = BatchLoader::new(threads, 3, |&number: &usize| {
                // Some take longer than those behind them.
                std::thread::sleep(std::time::Duration::from_micros(if number % 4 == 0 { 300 } else { 0 }));
                Ok(number * number)
            });
            assert!(loader.next().is_none());
            loader.extend(0..50);
            let all: Vec<usize> = loader.by_ref().map(|batch| batch.unwrap()).collect();
            assert!(all.into_iter().eq((0..50).map(|number| number * number)));
            assert!(loader.next().is_none());
            loader.extend([50]);
            assert_eq!(loader.next().unwrap().unwrap(), 2500);
            assert!(loader.next().is_none());
            assert!(!loader.waited().is_zero());
        }
    }

    #[test]
    fn no_more_than_asked_for_is_made_ahead() {
        let (made, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (made_too, taken_too) = (Arc::clone(&made), Arc::clone(&taken));
        let mut loader = BatchLoader::new(4, 2, move |&number: &usize| {
            made_too.fetch_add(1, Ordering::SeqCst);
            // `taken` lags one behind the loader's own count at most.
            assert!(number <= taken_too.load(Ordering::SeqCst) + 2);
            Ok(())
        });
        loader.extend(0..40);
        for batch in loader.by_ref() {
            batch.unwrap();
            taken.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!(made.load(Ordering::SeqCst), 40);
    }

    #[test]
    fn an_error_comes_in_its_place_and_dropping_ends_the_threads() {
        let alive = Arc::new(());
        let inside = Arc::clone(&alive);
        let mut loader = BatchLoader::new(3, 4, move |&number: &usize| {
            assert_eq!(*inside, ());
            if number == 1 { Err(EngineError::model("bad")) } else { Ok(number) }
        });
        loader.extend(0..1_000_000);
        assert_eq!(loader.next().unwrap().unwrap(), 0);
        assert_eq!(loader.next().unwrap().unwrap_err().to_string(), "bad");
        assert_eq!(loader.next().unwrap().unwrap(), 2);
        drop(loader);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_panic_of_a_thread_is_not_waited_for() {
        let mut loader = BatchLoader::new(2, 2, |&number: &usize| {
            assert!(number != 1, "on purpose");
            Ok(number)
        });
        loader.extend(0..3);
        let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for batch in loader.by_ref() {
                batch.unwrap();
            }
        }));
        assert!(all.is_err());
    }
}
