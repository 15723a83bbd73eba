//! Batches and the order in which examples are seen.

pub mod examples;
pub mod images;
pub mod sampler;
pub mod texts;
