//! Steps that are computed, or about to be, and whose numbers nobody has read.

use std::collections::VecDeque;
use std::time::Instant;

use super::sums::{Read, Sent};
use crate::error::{EngineError, Result};
use finetuned::domain::checkpoint::Metrics;
use finetuned::domain::metric::{GRAD_NORM, LEARNING_RATE, LOSS, Split, TRAINED_TOKENS};

/// What the host knows of a step, and what the device will say of it.
pub(super) struct Unread {
    /// Counts from 1.
    pub(super) step: u64,
    pub(super) learning_rate: f64,
    /// Up to its end.
    pub(super) trained_tokens: u64,
    /// The examples of its batches.
    pub(super) batches: Vec<Vec<usize>>,
    pub(super) sent: Sent,
}

/// A step whose numbers are known and finite.
pub(super) struct Told {
    pub(super) step: u64,
    pub(super) metrics: Metrics,
    /// From the end of the step before it, or from its start where the device had nothing else to do.
    pub(super) seconds: f64,
    /// The examples of its batches, and what their forward passes said of them.
    pub(super) seen: Vec<(Vec<usize>, Option<Vec<f64>>)>,
}

/// These steps in their order.
pub(super) struct Queue {
    steps: VecDeque<Unread>,
    since: Instant,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { steps: VecDeque::new(), since: Instant::now() }
    }

    /// A step begins.
    pub(super) fn begin(&mut self) {
        if self.steps.is_empty() {
            self.since = Instant::now();
        }
    }

    pub(super) fn push(&mut self, step: Unread) {
        self.steps.push_back(step);
    }

    /// Reads the first step, if there are more than `most`.
    ///
    /// # Errors
    /// Its loss or gradient is not finite, or libtorch has failed.
    pub(super) fn read(&mut self, most: usize) -> Result<Option<Told>> {
        if self.steps.len() <= most {
            return Ok(None);
        }
        let Some(Unread { step, learning_rate, trained_tokens, batches, sent }) = self.steps.pop_front() else {
            return Ok(None);
        };
        let Read { loss, norm, ratios, seen } = sent.read()?;
        for (what, value) in [(LOSS.name(), loss), ("gradient norm", norm)] {
            if !value.is_finite() {
                return Err(EngineError::NonFinite { what, value, step });
            }
        }
        let mut metrics = Metrics::from([
            (LOSS.on(Split::Training), loss),
            (LEARNING_RATE.to_owned(), learning_rate),
            (GRAD_NORM.to_owned(), norm),
            (TRAINED_TOKENS.to_owned(), trained_tokens as f64),
        ]);
        metrics.extend(ratios.into_iter().map(|(metric, ratio)| (metric.on(Split::Training), ratio)));
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        Ok(Some(Told { step, metrics, seconds, seen: batches.into_iter().zip(seen).collect() }))
    }
}
