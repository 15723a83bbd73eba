//! What training needs to know of a task, and the tasks: one recipe each.

pub mod text_classification;

use tch::Tensor;

use crate::error::Result;
use crate::nn::Mode;
use crate::observer::Observer;
use finetuned::domain::checkpoint::Metrics;

/// What the forward pass over one batch gives.
pub struct Forward {
    /// The loss summed over the batch (0-dimensional), from which backward starts.
    pub loss_sum: Tensor,
    /// Right predictions (0-dimensional, int64).
    pub correct: Tensor,
    /// Tokens of the batch.
    pub tokens: u64,
}

/// A task as the training loop sees it: examples by number, nothing of texts or files.
pub trait Recipe {
    /// The number of training examples.
    fn examples(&self) -> usize;

    /// What the loss sum of these examples is divided by: their number, or the sum of their weights.
    fn weight(&self, examples: &[usize]) -> f64;

    /// The forward pass over these training examples.
    fn forward(&self, examples: &[usize], mode: &Mode) -> Result<Forward>;

    /// Scores on the validation data; None if there is none, or if the run shall stop.
    fn validate(&self, observer: &dyn Observer) -> Result<Option<Metrics>>;
}
