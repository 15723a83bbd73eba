//! Batches and the order in which examples are seen.

pub mod examples;
pub mod sampler;
