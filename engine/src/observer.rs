//! The loop's one window to the outside.

use finetuned::domain::run::{TrainerCommand, TrainerMessage};

/// Sees what a run does, and may ask it to stop.
pub trait Observer {
    /// Something happened.
    fn report(&self, message: TrainerMessage);

    /// Whether the run shall stop, and how.
    fn stop(&self) -> Option<TrainerCommand>;

    /// Called often by work that takes long, so that a run that gets on can be told from one that hangs.
    fn alive(&self) {}

    /// Passes a place where a test may make the trainer die.
    fn pass(&self, _place: &str, _number: u64) {}
}
