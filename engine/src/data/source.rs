//! Where batches come from: the data of a run in host memory.

use crate::error::Result;

/// A part of a run's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset {
    Training,
    Validation,
    Test,
}

/// What a batch is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    pub subset: Subset,
    /// Numbers of examples in the subset.
    pub examples: Vec<usize>,
    pub view: View,
}

/// How a batch shows its examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As this epoch of a training sees them: varied, where the run varies its data.
    Epoch(u64),
    /// As an evaluation sees them.
    Plain,
    /// By their numbers alone: what the model makes of them is kept.
    Known,
}

impl View {
    /// The epoch that it is one of, if it is of a training.
    pub fn epoch(self) -> Option<u64> {
        match self {
            Self::Epoch(epoch) => Some(epoch),
            Self::Plain | Self::Known => None,
        }
    }
}

/// Data that threads make batches of.
pub trait BatchSource: Send + Sync + 'static {
    /// A batch in host memory.
    type Batch: Send + 'static;

    /// The number of examples in a subset; 0 where the run has none.
    fn size(&self, subset: Subset) -> usize;

    /// The examples of each batch of an evaluation.
    fn groups(&self, subset: Subset) -> Vec<Vec<usize>>;

    /// The batch of a pick: a function of its argument alone.
    ///
    /// # Errors
    /// An example cannot be read any more.
    fn make(&self, pick: &Pick) -> Result<Self::Batch>;

    /// Threads that batches keep busy.
    fn threads(&self) -> usize {
        1
    }
}
