//! How many requests a key may send, and an address without one: buckets that hold a minute's worth and fill evenly.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::domain::id::KeyId;

const MINUTE: Duration = Duration::from_mins(1);

/// How long a key waits that was never seen to be valid, once its turn has come.
const TURN: Duration = Duration::from_millis(10);

/// The SHA-256 of a secret.
type KeyHash = [u8; 32];

/// One bucket per key.
pub(super) struct RateLimit {
    limit: u32,
    /// The keys that were valid when they were used last; the database alone says whether they still are.
    seen: Mutex<HashSet<KeyHash>>,
    turn: tokio::sync::Mutex<()>,
    limiter: Option<RateLimiter<KeyId, DashMapStateStore<KeyId>, DefaultClock, StateInformationMiddleware>>,
}

/// What a key has left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Allowance {
    /// Requests a minute.
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// Until the bucket is full again.
    reset: Duration,
    /// Until the next request is allowed; None if this one was.
    pub(super) retry_after: Option<Duration>,
}

impl Allowance {
    /// As in OpenAI's headers: `120ms`, `1s`, `6m0s`.
    pub(super) fn reset_text(&self) -> String {
        let milliseconds = self.reset.as_millis();
        let seconds = self.reset.as_secs_f64().ceil() as u64;
        match (milliseconds, seconds) {
            (0..1000, _) => format!("{milliseconds}ms"),
            (_, 0..60) => format!("{seconds}s"),
            _ => format!("{}m{}s", seconds / 60, seconds % 60),
        }
    }
}

impl RateLimit {
    /// `per_minute` requests a minute for each key; 0 means no limit.
    pub(super) fn new(per_minute: u32) -> Self {
        let quota = NonZeroU32::new(per_minute).map(Quota::per_minute);
        let limiter = quota.map(|quota| RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>());
        Self { limit: per_minute, seen: Mutex::default(), turn: tokio::sync::Mutex::default(), limiter }
    }

    fn seen(&self) -> MutexGuard<'_, HashSet<KeyHash>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a key may be looked up that comes from an address with too many strangers: at once if it was valid
    /// before, else when all that came earlier have had their turn. Refused unseen, new keys could be locked out by
    /// anyone who shares their address, as all do behind one proxy, and after a restart every key.
    pub(super) async fn turn(&self, key: &KeyHash) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.seen().contains(key) {
            return None;
        }
        let turn = self.turn.lock().await;
        tokio::time::sleep(TURN).await;
        Some(turn)
    }

    /// Notes whether a key is valid.
    pub(super) fn note(&self, key: KeyHash, is_valid: bool) {
        let mut seen = self.seen();
        if is_valid {
            seen.insert(key);
        } else {
            seen.remove(&key);
        }
    }

    /// Takes one request out of a key's bucket; None if there is no limit.
    pub(super) fn take(&self, key: KeyId) -> Option<Allowance> {
        let limiter = self.limiter.as_ref()?;
        let (remaining, retry_after) = match limiter.check_key(&key) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(denied) => (0, Some(denied.wait_time_from(DefaultClock::default().now()))),
        };
        let taken = f64::from(self.limit - remaining.min(self.limit));
        let reset = Duration::from_secs_f64(taken * 60.0 / f64::from(self.limit));
        Some(Allowance { limit: self.limit, remaining, reset, retry_after })
    }
}

/// Requests without a valid key: one bucket per address. Unlike governor's it can be looked into without taking
/// anything out: those who have a key take nothing.
pub(super) struct Strangers {
    /// How long it takes until there is room for another request; None if there is no limit.
    each: Option<Duration>,
    buckets: Mutex<Buckets>,
}

/// When the bucket of each address is full again: the theoretical arrival time of GCRA.
#[derive(Default)]
struct Buckets {
    full: HashMap<IpAddr, Instant>,
    /// How many there may be until those that are full are removed.
    most: usize,
}

impl Strangers {
    /// `per_minute` requests a minute from each address; 0 means no limit.
    pub(super) fn new(per_minute: u32) -> Self {
        Self { each: MINUTE.checked_div(per_minute), buckets: Mutex::default() }
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long until there is something left for an address; None if there is.
    pub(super) fn wait(&self, address: IpAddr) -> Option<Duration> {
        let full = self.buckets().full.get(&address).copied()?;
        let wait = (full + self.each?).saturating_duration_since(Instant::now() + MINUTE);
        (!wait.is_zero()).then_some(wait)
    }

    /// Takes a request out of an address's bucket; false if there is none left.
    pub(super) fn take(&self, address: IpAddr) -> bool {
        let Some(each) = self.each else { return true };
        let now = Instant::now();
        let mut buckets = self.buckets();
        if buckets.full.len() >= buckets.most {
            buckets.full.retain(|_, full| *full > now);
            buckets.most = (2 * buckets.full.len()).max(1024);
        }
        let full = buckets.full.entry(address).or_insert(now);
        let then = (*full).max(now) + each;
        let is_left = then <= now + MINUTE;
        if is_left {
            *full = then;
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::{Allowance, RateLimit, Strangers};
    use crate::domain::id::KeyId;

    #[test]
    fn each_key_has_a_bucket_of_its_own() {
        let limit = RateLimit::new(2);
        let (one, other) = (KeyId::new(), KeyId::new());
        assert_eq!(limit.take(one).unwrap().remaining, 1);
        assert_eq!(limit.take(one).unwrap().remaining, 0);
        let denied = limit.take(one).unwrap();
        assert!(denied.retry_after.unwrap() <= Duration::from_secs(30));
        assert!(limit.take(other).unwrap().retry_after.is_none());
        assert!(RateLimit::new(0).take(one).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_have_a_bucket_by_address() {
        let strangers = Strangers::new(3);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..3 {
            assert!(strangers.wait(one).is_none() && strangers.take(one));
        }
        assert!(!strangers.take(one) && strangers.take(other));
        assert_eq!(strangers.wait(one), Some(Duration::from_secs(20)));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(strangers.wait(one).is_none() && strangers.take(one) && !strangers.take(one));
        assert!((0..100).all(|_| Strangers::new(0).take(one)));
    }

    #[tokio::test(start_paused = true)]
    async fn buckets_that_are_full_are_forgotten() {
        let strangers = Strangers::new(3);
        for number in 0..5000 {
            assert!(strangers.take(Ipv4Addr::from_bits(number).into()));
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        assert!(strangers.buckets().full.len() <= 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_were_valid_before_do_not_wait_for_others() {
        let limit = RateLimit::new(0);
        limit.note([1; 32], true);
        limit.note([2; 32], true);
        limit.note([2; 32], false);
        let turn = limit.turn(&[2; 32]).await;
        assert!(turn.is_some());
        assert!(limit.turn(&[1; 32]).await.is_none());
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, limit.turn(&[3; 32])).await.is_err(), "one after the other");
        drop(turn);
        assert!(tokio::time::timeout(soon, limit.turn(&[3; 32])).await.is_ok());
    }

    #[test]
    fn times_are_written_like_openais() {
        let text = |milliseconds| {
            let reset = Duration::from_millis(milliseconds);
            Allowance { limit: 1, remaining: 0, reset, retry_after: None }.reset_text()
        };
        assert_eq!([text(120), text(1000), text(59_500), text(360_000)], ["120ms", "1s", "1m0s", "6m0s"]);
    }
}
