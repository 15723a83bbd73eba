//! How many requests a key may send: a bucket that holds a minute's worth and fills evenly.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::domain::id::KeyId;

/// One bucket per key.
pub(super) struct RateLimit {
    limit: u32,
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
        Self { limit: per_minute, limiter }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Allowance, RateLimit};
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

    #[test]
    fn times_are_written_like_openais() {
        let text = |milliseconds| {
            let reset = Duration::from_millis(milliseconds);
            Allowance { limit: 1, remaining: 0, reset, retry_after: None }.reset_text()
        };
        assert_eq!([text(120), text(1000), text(59_500), text(360_000)], ["120ms", "1s", "1m0s", "6m0s"]);
    }
}
