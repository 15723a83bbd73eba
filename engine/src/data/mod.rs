//! The data of a run in memory, its batches, and the order in which examples are seen.

pub mod corpus;
pub mod examples;
pub mod images;
pub mod loader;
pub mod packing;
pub mod reader;
pub mod rivals;
pub mod sampler;
pub mod source;
pub mod splits;
pub mod texts;
pub mod tokens;
