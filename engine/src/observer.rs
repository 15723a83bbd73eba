//! The loop's one window to the outside.

use finetuned::domain::run::{TrainerCommand, TrainerMessage};

/// Sees what a run does, and may ask it to stop.
pub trait Observer {
    /// Something happened.
    fn report(&self, message: TrainerMessage);

    /// Whether the run shall stop, and how.
    fn stop(&self) -> Option<TrainerCommand>;
}
