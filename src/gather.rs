//! Looking things up together: who asks while others are being looked up is answered by the next look, with all who wait
//! then. Nothing is kept, so every answer is from a look that began after its question came.
//!
//! Crates for this kind of batching wait a moment for more questions, or run the look in the task of one who asks, whose
//! going away then harms the others. Here a question that comes while nobody looks is looked up at once, in a task of its own.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::error::{Error, Result};

/// What a look found, by what was asked for; what is not there was not found.
pub type Found<K, V> = HashMap<K, V>;

type Look<K, V> = dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Found<K, V>>> + Send + Sync;
type Sender<V> = oneshot::Sender<Result<Option<V>>>;
/// Who shares a look, by what they ask for.
type Asked<K, V> = HashMap<K, Vec<Sender<V>>>;

/// How much is looked up at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Looks at work at the same time. One is enough as long as it is quick: the longer the others wait, the more share the next.
    pub looks: usize,
    /// Different keys of one look.
    pub keys: usize,
}

/// Who comes while a look takes longer than this begins another one beside it.
const SLOW: Duration = Duration::from_millis(5);

/// What looks up values of one kind.
pub struct Gather<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    bounds: Bounds,
    look: Box<Look<K, V>>,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    waiting: VecDeque<(K, Sender<V>)>,
    looks: usize,
    /// When the latest look began.
    began: Instant,
}

impl<K, V> Clone for Gather<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Gather<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Looks things up by `look`.
    pub fn new<F>(bounds: Bounds, look: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Found<K, V>>> + Send + 'static,
    {
        let look = Box::new(move |keys| look(keys).boxed());
        let state = Mutex::new(State { waiting: VecDeque::new(), looks: 0, began: Instant::now() });
        Self(Arc::new(Inner { bounds, look, state }))
    }

    /// The value of this key, as a look finds it that begins after this call; None if there is none.
    ///
    /// # Errors
    /// What the look says, to all who share it; or it came to no end.
    pub async fn find(&self, key: K) -> Result<Option<V>> {
        let (sender, answer) = oneshot::channel();
        let begins = {
            let mut state = self.0.state();
            state.waiting.push_back((key, sender));
            let is_slow = || state.looks < self.0.bounds.looks && state.began.elapsed() > SLOW;
            let begins = state.looks == 0 || is_slow();
            if begins {
                (state.looks, state.began) = (state.looks + 1, Instant::now());
            }
            begins
        };
        if begins {
            tokio::spawn(Arc::clone(&self.0).work());
        }
        answer.await.unwrap_or_else(|_| Err(Error::unavailable("a lookup came to no end")))
    }
}

impl<K, V> Inner<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    fn state(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again and again until nobody waits.
    async fn work(self: Arc<Self>) {
        while let Some(asked) = self.next() {
            let keys: Vec<K> = asked.keys().cloned().collect();
            // Making the future is a part of the look that may panic, too.
            let look = AssertUnwindSafe(async { (self.look)(keys).await }).catch_unwind();
            let found = look.await.unwrap_or_else(|_| Err(Error::internal("a lookup panicked")));
            tell(asked, found);
        }
    }

    /// Those who wait, as many as one look answers; None if nobody does, and then this look is over. Both are seen under one
    /// lock, so that nobody comes between them and waits for ever.
    fn next(&self) -> Option<Asked<K, V>> {
        let mut state = self.state();
        let mut asked = Asked::<K, V>::new();
        while let Some((key, sender)) = state.waiting.pop_front() {
            // Who went away is not looked up for.
            if sender.is_closed() {
                continue;
            }
            if asked.len() == self.bounds.keys && !asked.contains_key(&key) {
                state.waiting.push_front((key, sender));
                break;
            }
            asked.entry(key).or_default().push(sender);
        }
        if asked.is_empty() {
            state.looks -= 1;
            return None;
        }
        state.began = Instant::now();
        Some(asked)
    }
}

/// Answers all who shared a look.
fn tell<K: Eq + Hash, V: Clone>(asked: Asked<K, V>, found: Result<Found<K, V>>) {
    match found {
        Ok(mut found) => {
            for (key, mut senders) in asked {
                let value = found.remove(&key);
                // The last one gets the value itself: where it is alone nothing is copied.
                let last = senders.pop();
                for sender in senders {
                    let _ = sender.send(Ok(value.clone()));
                }
                if let Some(last) = last {
                    let _ = last.send(Ok(value));
                }
            }
        }
        Err(error) => {
            for sender in asked.into_values().flatten() {
                let _ = sender.send(Err(error.shared()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;
    use tokio::time::{sleep, timeout};

    use super::{Bounds, Found, Gather, SLOW};
    use crate::domain::error::{Error, ErrorKind, Result};

    const ONE: Bounds = Bounds { looks: 1, keys: 4 };

    /// Looks that end when they are let, and what they were asked for.
    #[derive(Clone, Default)]
    struct Looks(Arc<Log>);

    struct Log {
        asked: Mutex<Vec<Vec<u32>>>,
        may_end: Semaphore,
        fail: Mutex<Option<ErrorKind>>,
        at_once: AtomicUsize,
        most_at_once: AtomicUsize,
    }

    impl Default for Log {
        fn default() -> Self {
            let (at_once, most_at_once) = Default::default();
            Self { asked: Mutex::default(), may_end: Semaphore::new(0), fail: Mutex::default(), at_once, most_at_once }
        }
    }

    impl Looks {
        fn gather(&self, bounds: Bounds) -> Gather<u32, u32> {
            let looks = self.clone();
            Gather::new(bounds, move |keys| looks.clone().look(keys))
        }

        /// Ten times each key; of 13 there is nothing, and 99 is not to be asked for.
        async fn look(self, mut keys: Vec<u32>) -> Result<Found<u32, u32>> {
            keys.sort_unstable();
            let now = self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.0.most_at_once.fetch_max(now, Ordering::SeqCst);
            self.0.asked.lock().unwrap().push(keys.clone());
            self.0.may_end.acquire().await.unwrap().forget();
            self.0.at_once.fetch_sub(1, Ordering::SeqCst);
            assert!(!keys.contains(&99), "the look panics");
            if let Some(kind) = *self.0.fail.lock().unwrap() {
                return Err(Error::new(kind, "away").source("the cable").code("gone"));
            }
            Ok(keys.into_iter().filter(|key| *key != 13).map(|key| (key, 10 * key)).collect())
        }

        fn asked(&self) -> Vec<Vec<u32>> {
            self.0.asked.lock().unwrap().clone()
        }

        fn end(&self, looks: usize) {
            self.0.may_end.add_permits(looks);
        }
    }

    fn spawn(gather: &Gather<u32, u32>, key: u32) -> tokio::task::JoinHandle<Result<Option<u32>>> {
        let gather = gather.clone();
        tokio::spawn(async move { gather.find(key).await })
    }

    /// Until all that can go on has gone on.
    async fn settle() {
        sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_one_looks_shares_the_next_look_and_never_the_one_at_work() {
        let looks = Looks::default();
        let gather = looks.gather(ONE);
        let first = spawn(&gather, 1);
        settle().await;
        assert_eq!(looks.asked(), [[1]], "the first is looked up at once");
        let others: Vec<_> = [1, 2, 1, 13, 2].into_iter().map(|key| spawn(&gather, key)).collect();
        settle().await;
        assert_eq!(looks.asked().len(), 1);
        looks.end(1);
        assert_eq!(first.await.unwrap().unwrap(), Some(10));
        settle().await;
        assert_eq!(looks.asked()[1], [1, 2, 13], "one look for all of them, each key once, 1 once more");
        assert!(others.iter().all(|other| !other.is_finished()), "what the first look found is nobody else's");
        looks.end(1);
        let found: Vec<_> = join_all(others).await.into_iter().map(|found| found.unwrap().unwrap()).collect();
        assert_eq!(found, [Some(10), Some(20), Some(10), None, Some(20)]);
        assert_eq!(looks.asked().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_and_their_keys_are_bounded() {
        let looks = Looks::default();
        let gather = looks.gather(Bounds { looks: 2, keys: 3 });
        let mut all: Vec<_> = (0..10).map(|key| spawn(&gather, key)).collect();
        settle().await;
        assert_eq!(looks.asked().len(), 1, "who comes soon waits for the look at work");
        for key in 10..20 {
            sleep(2 * SLOW).await;
            all.push(spawn(&gather, key));
            settle().await;
            assert_eq!(looks.asked().len(), 2, "who comes late does not");
        }
        looks.end(100);
        let found: Vec<_> = join_all(all).await.into_iter().map(|found| found.unwrap().unwrap()).collect();
        assert_eq!(found.iter().flatten().count(), 19);
        assert!(looks.asked().iter().all(|keys| keys.len() <= 3));
        let mut asked = looks.asked().concat();
        asked.sort_unstable();
        assert_eq!(asked, (0..20).collect::<Vec<_>>(), "everyone's turn comes, once");
        assert_eq!(looks.0.most_at_once.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_goes_to_all_who_shared_the_look_and_to_nobody_else() {
        let looks = Looks::default();
        let gather = looks.gather(ONE);
        *looks.0.fail.lock().unwrap() = Some(ErrorKind::Unavailable);
        let first = spawn(&gather, 1);
        settle().await;
        let sharing = [2, 3].map(|key| spawn(&gather, key));
        looks.end(2);
        for failed in [first].into_iter().chain(sharing) {
            let error = failed.await.unwrap().unwrap_err();
            assert_eq!((error.kind, error.code), (ErrorKind::Unavailable, Some("gone")));
            assert_eq!(error.chain(), "away: the cable");
        }
        *looks.0.fail.lock().unwrap() = None;
        looks.end(1);
        assert_eq!(gather.find(1).await.unwrap(), Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_panics_ends_with_an_error_and_the_next_one_is_made() {
        let looks = Looks::default();
        let gather = looks.gather(ONE);
        let panics = spawn(&gather, 99);
        settle().await;
        let behind = spawn(&gather, 1);
        looks.end(2);
        assert_eq!(panics.await.unwrap().unwrap_err().kind, ErrorKind::Internal);
        assert_eq!(behind.await.unwrap().unwrap(), Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_harms_nobody_and_is_not_looked_up_for() {
        let looks = Looks::default();
        let gather = looks.gather(ONE);
        let gone = spawn(&gather, 1);
        settle().await;
        let [also_gone, stays] = [2, 3].map(|key| spawn(&gather, key));
        settle().await;
        gone.abort();
        also_gone.abort();
        settle().await;
        looks.end(2);
        assert_eq!(stays.await.unwrap().unwrap(), Some(30));
        assert_eq!(looks.asked(), [[1], [3]]);

        // With nobody left the look is over, and the next question begins another.
        let gone = spawn(&gather, 4);
        settle().await;
        let waits = spawn(&gather, 5);
        settle().await;
        waits.abort();
        gone.abort();
        settle().await;
        looks.end(2);
        settle().await;
        assert_eq!(timeout(Duration::from_secs(1), gather.find(6)).await.unwrap().unwrap(), Some(60));
        assert_eq!(looks.asked()[2..], [[4], [6]]);
    }

    /// Counts on while it is read: whoever asks must see at least what was counted when they asked.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nothing_that_is_found_is_older_than_its_question() {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let gather = Gather::new(Bounds { looks: 2, keys: 3 }, |keys: Vec<u32>| async move {
            let seen = COUNT.load(Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(keys.into_iter().map(|key| (key, seen)).collect())
        });
        let asking = (0..64).map(|number| {
            let gather = gather.clone();
            tokio::spawn(async move {
                for round in 0..500 {
                    let before = COUNT.fetch_add(1, Ordering::SeqCst) + 1;
                    let seen = gather.find((number + round) % 8).await.unwrap().unwrap();
                    assert!(seen >= before, "{seen} was seen by who had counted to {before}");
                }
            })
        });
        let all = timeout(Duration::from_mins(1), join_all(asking)).await.expect("someone was forgotten");
        all.into_iter().for_each(Result::unwrap);
    }
}
