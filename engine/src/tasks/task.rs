//! What a method adds to the training loop: its data, how a batch is counted, its forward pass, its scores.

use std::sync::Arc;

use tch::{Device, Tensor};

use super::examples::ExampleTable;
use crate::data::source::{BatchSource, Subset};
use crate::error::Result;
use crate::nn::Mode;
use crate::observer::Observer;
use crate::score::Evaluation;
use finetuned::domain::metric::Metric;

/// What the forward pass over one batch gives: sums, which add up over the batches of a step, wherever they are computed.
pub struct Forward {
    /// The loss summed over the batch (0-dimensional), from which backward starts.
    pub loss_sum: Tensor,
    /// Parts of what the batch [counts](Counts::whole), such as right predictions: 0-dimensional, without gradient.
    pub parts: Vec<(Metric, Tensor)>,
    /// What the pass says of each example, float64 `[R, S]` without gradient, for [`ExampleTable::add`]; None where it says
    /// nothing of examples by themselves.
    pub seen: Option<Tensor>,
}

/// What the host knows of a batch before any device does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// Its tokens; images have none.
    pub tokens: u64,
    /// What the forward pass gives [parts](Forward::parts) of.
    pub whole: f64,
}

/// A model with the data of a run, and all that its method adds to the loop.
pub(super) trait Task {
    type Data: BatchSource;
    /// A batch where the model computes: all that a forward pass reads of it.
    type Inputs;
    /// What a model said of the examples that an evaluation has come to so far.
    type Outputs<'a>
    where
        Self: 'a;

    /// Where its batches come from.
    fn source(&self) -> &Arc<Self::Data>;

    /// What the loss sum of these training examples counts for, as epoch `epoch` sees them: their number, their words, or
    /// the sum of their weights. It is asked of all batches of a step before the first one is made, so that of these
    /// there is one at a time.
    fn count(&self, examples: &[usize], epoch: u64) -> f64;

    /// Whether what the model makes of a subset is kept, so that its batches hold no more than numbers.
    fn knows(&self, _subset: Subset) -> bool {
        false
    }

    /// What a batch counts.
    fn counts(&self, batch: &Batch<Self>) -> Counts;

    /// Moves a batch to the model's device. Nothing else is moved there on the way to a loss.
    ///
    /// # Errors
    /// libtorch fails.
    fn inputs(&self, batch: &Batch<Self>) -> Result<Self::Inputs>;

    /// The forward pass over a batch of training examples.
    ///
    /// # Errors
    /// libtorch fails.
    fn forward(&self, inputs: &Self::Inputs, mode: &Mode) -> Result<Forward>;

    /// Statistics of the training examples, of which no epoch is counted yet; None where its forward passes say nothing of
    /// examples by themselves.
    fn examples(&self) -> Option<ExampleTable> {
        None
    }

    /// An evaluation that has come to no example yet.
    fn begin(&self, subset: Subset) -> Self::Outputs<'_>;

    /// Adds what the model says of a batch.
    ///
    /// # Errors
    /// libtorch fails.
    fn add(&self, outputs: &mut Self::Outputs<'_>, batch: &Batch<Self>) -> Result<()>;

    /// Scores what was said of all examples; with an observer, which is told of progress, it says how sure the main scores
    /// are. None if the observer wants the run to stop.
    fn score<'a>(
        &'a self,
        subset: Subset,
        outputs: Self::Outputs<'a>,
        intervals: Option<&dyn Observer>,
    ) -> Option<Evaluation<'a>>;
}

/// Values of the host on the model's device.
///
/// # Errors
/// libtorch fails.
pub(super) fn on_device<T: tch::kind::Element>(values: &[T], device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_to_device(device)?)
}

/// A batch of a task.
pub(super) type Batch<T> = <<T as Task>::Data as BatchSource>::Batch;
