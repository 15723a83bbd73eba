//! The optimizer and its learning rate.

mod adamw;
mod moments;
mod schedule;

pub use adamw::{AdamW, AdamWConfig};
pub use schedule::Schedule;
