//! The loop's one window to the outside.

use std::time::Duration;

use finetuned::domain::run::{TrainerCommand, TrainerMessage};

/// Sees what a run does, and may ask it to stop.
pub trait Observer {
    /// Something happened.
    fn report(&self, message: TrainerMessage);

    /// Whether the run shall stop, and how.
    fn stop(&self) -> Option<TrainerCommand>;

    /// Called often by work that takes long, so that a run that gets on can be told from one that hangs.
    fn alive(&self) {}

    /// Called when a part of the loop has taken so long.
    fn spent(&self, _part: Part, _time: Duration) {}

    /// Passes a place where a test may make the trainer die.
    fn pass(&self, _place: &str, _number: u64) {}
}

/// A part of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Choosing examples and what else is between the others.
    Between,
    /// Waiting for a batch, moving it to the device, the forward pass.
    Forward,
    Backward,
    /// The norm of gradients, clipping, the update.
    Update,
    /// Waiting for a step's numbers and telling them.
    Reading,
    Evaluating,
    /// Copying what a checkpoint is written from.
    Saving,
}

impl Part {
    /// All of them in order.
    pub const ALL: [Self; 7] =
        [Self::Between, Self::Forward, Self::Backward, Self::Update, Self::Reading, Self::Evaluating, Self::Saving];

    /// How people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Between => "between",
            Self::Forward => "forward, with batch",
            Self::Backward => "backward",
            Self::Update => "update",
            Self::Reading => "reading numbers",
            Self::Evaluating => "evaluation",
            Self::Saving => "checkpoint",
        }
    }
}
