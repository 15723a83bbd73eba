//! Noticing a trainer that no longer gets on.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How many of the latest steps the median is taken of.
const STEPS: usize = 101;
/// How many median steps may pass without a word.
const MEDIANS: u32 = 10;
/// What a step counts as at most: it is the trainer that says how long it took, and it may say anything.
const LONGEST_STEP: Duration = Duration::from_hours(24);

/// Knows when a run last made progress, and how long it may go without.
pub(super) struct Watchdog {
    floor: Duration,
    last_progress: Instant,
    /// Durations of the latest steps.
    steps: VecDeque<Duration>,
}

impl Watchdog {
    /// For a run that starts now and may always be silent for `floor`.
    pub(super) fn new(floor: Duration) -> Self {
        Self { floor, last_progress: Instant::now(), steps: VecDeque::new() }
    }

    /// The trainer said something.
    pub(super) fn progressed(&mut self) {
        self.last_progress = Instant::now();
    }

    /// The trainer did a step.
    pub(super) fn step(&mut self, seconds: f64) {
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(Duration::try_from_secs_f64(seconds).unwrap_or_default().min(LONGEST_STEP));
    }

    /// How long the run may go without progress: ten median steps, and never less than the floor.
    pub(super) fn patience(&self) -> Duration {
        let mut sorted: Vec<Duration> = self.steps.iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        self.floor.max(median.saturating_mul(MEDIANS))
    }

    /// When the run counts as stalled unless it makes progress before.
    pub(super) fn deadline(&self) -> Instant {
        self.last_progress + self.patience()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LONGEST_STEP, MEDIANS, Watchdog};

    #[test]
    fn patience_is_ten_median_steps_but_at_least_the_floor() {
        let mut watchdog = Watchdog::new(Duration::from_mins(2));
        assert_eq!(watchdog.patience(), Duration::from_mins(2));
        // One odd step does not count.
        for seconds in [1.0, 1.0, 1.0, 900.0] {
            watchdog.step(seconds);
        }
        assert_eq!(watchdog.patience(), Duration::from_mins(2));
        for _ in 0..10 {
            watchdog.step(30.0);
        }
        assert_eq!(watchdog.patience(), Duration::from_mins(5));
        // Old steps are forgotten.
        for _ in 0..200 {
            watchdog.step(0.1);
        }
        assert_eq!(watchdog.patience(), Duration::from_mins(2));
    }

    #[test]
    fn a_step_of_any_length_leaves_a_deadline() {
        let mut watchdog = Watchdog::new(Duration::from_mins(2));
        for seconds in [1e18, 1e18, 1e18, f64::MAX, f64::NAN, f64::INFINITY, -1.0] {
            watchdog.step(seconds);
            watchdog.deadline();
        }
        for _ in 0..10 {
            watchdog.step(1e18);
        }
        assert_eq!(watchdog.patience(), LONGEST_STEP * MEDIANS);
        assert!(watchdog.deadline() > tokio::time::Instant::now());
    }
}
