//! Learning-rate schedules as pure functions of the step, so resuming needs no state.

use finetuned::domain::hyperparameters::{Hyperparameters, LrSchedule};

/// Warm-up from 0, then a fall (or none) to 0 at the last step, as in Transformers' `get_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub kind: LrSchedule,
    pub peak: f64,
    pub warmup_steps: u64,
    pub total_steps: u64,
}

impl Schedule {
    /// The schedule of a run of `total_steps`; a fractional number of warm-up steps is rounded up.
    pub fn new(hyperparameters: &Hyperparameters, total_steps: u64) -> Self {
        Self {
            kind: hyperparameters.optimizer.lr_schedule,
            peak: hyperparameters.optimizer.learning_rate,
            warmup_steps: (hyperparameters.optimizer.warmup_ratio * total_steps as f64).ceil() as u64,
            total_steps,
        }
    }

    /// The learning rate of the update that follows `done` updates: the first one of a warm-up runs at 0.
    pub fn learning_rate(&self, done: u64) -> f64 {
        let (done, warmup, total) = (done as f64, self.warmup_steps as f64, self.total_steps as f64);
        if done < warmup {
            return self.peak * done / warmup.max(1.0);
        }
        let factor = match self.kind {
            LrSchedule::Constant => 1.0,
            LrSchedule::Linear => ((total - done) / (total - warmup).max(1.0)).max(0.0),
            LrSchedule::Cosine => {
                let progress = (done - warmup) / (total - warmup).max(1.0);
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
        };
        self.peak * factor
    }
}
