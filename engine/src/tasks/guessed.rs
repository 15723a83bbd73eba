//! How tokens were guessed, example by example: what language models are evaluated by, masked ones and causal ones.

use serde_json::json;
use tch::{Device, Tensor};

use crate::error::Result;
use crate::score::{Evaluation, Lines};
use finetuned::domain::metric::guesses::{Guesses, WORDS};
use finetuned::domain::metric::{LOSS, scores};

/// Of each example the loss summed over its guesses, how many were right, and how many there are.
pub(super) struct Guessed(Vec<(f64, i64, usize)>);

impl Guessed {
    /// Of so many examples, nothing guessed yet.
    pub(super) fn new(examples: usize) -> Self {
        Self(vec![(0.0, 0, 0); examples])
    }

    /// Takes the guesses of a batch: of the examples with these numbers, each with so many of `losses` (float32 `[R]`) and of
    /// `right` (int64 `[R]`, 1 where the guess is right), one after the other.
    pub(super) fn add(&mut self, examples: &[usize], counts: &[usize], losses: &Tensor, right: &Tensor) -> Result<()> {
        let losses = Vec::<f32>::try_from(&losses.f_to_device(Device::Cpu)?)?;
        let right = Vec::<i64>::try_from(&right.f_to_device(Device::Cpu)?)?;
        let mut start = 0;
        for (&example, &count) in examples.iter().zip(counts) {
            let loss: f64 = losses[start..start + count].iter().map(|&loss| f64::from(loss)).sum();
            self.0[example] = (loss, right[start..start + count].iter().sum::<i64>(), count);
            start += count;
        }
        Ok(())
    }

    /// The loss is the mean over all guesses. `line` is where an example stands in its file, `tokens` what the number of its
    /// guesses is called.
    pub(super) fn evaluation<'a>(self, tokens: &'static str, line: impl Fn(usize) -> u64 + 'a) -> Evaluation<'a> {
        let guesses = Guesses {
            loss_sum: self.0.iter().map(|example| example.0).sum(),
            right: self.0.iter().map(|example| example.1.unsigned_abs()).sum(),
            count: self.0.iter().map(|example| example.2 as u64).sum(),
        };
        let examples = self.0.len();
        let lines = Lines::new(move |example| {
            let (loss, right, count) = self.0[example];
            json!({"line": line(example), tokens: count, "right": right, LOSS.name(): loss / count.max(1) as f64})
        });
        Evaluation::new(examples, guesses.loss(), scores(&WORDS, &guesses), lines)
    }
}
