//! The loop's one window to the outside.

use std::time::Duration;

use finetuned::domain::run::{TrainerCommand, TrainerMessage};

use crate::profile::Part;

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
