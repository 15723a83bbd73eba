//! Whether a training waits for its data.

use std::time::{Duration, Instant};

use crate::observer::Observer;
use crate::tasks::AnyTask;
use finetuned::domain::run::TrainerMessage;

/// How much of an epoch's time is spent waiting for data.
pub(super) struct EpochClock {
    started: Instant,
    waited: Duration,
}

/// The percentage from which it is worth saying.
const WORTH_SAYING: f64 = 1.0;

impl EpochClock {
    pub(super) fn start(task: &dyn AnyTask) -> Self {
        Self { started: Instant::now(), waited: task.waited() }
    }

    /// Says how much of epoch `number` (from 1) it was, and starts again.
    pub(super) fn report(&mut self, number: u64, task: &dyn AnyTask, observer: &dyn Observer) {
        let waited = task.waited().saturating_sub(self.waited).as_secs_f64();
        let share = 100.0 * waited / self.started.elapsed().as_secs_f64().max(1e-9);
        if share >= WORTH_SAYING {
            let message = format!("Epoch {number} spent {share:.1} % of its time waiting for data");
            observer.report(TrainerMessage::Notice { warning: false, message });
        }
        *self = Self::start(task);
    }
}
