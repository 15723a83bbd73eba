//! What a model will read of an example: what a trainer says of some, as one line of JSON.

use serde::{Deserialize, Serialize};

use super::job::JobError;

/// Examples that one preview shows, and where nobody says.
pub const MOST_EXAMPLES: u32 = 20;
pub const USUAL_EXAMPLES: u32 = 3;

/// What a trainer says of the examples that it was asked about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Previewed {
    Examples(Vec<Preview>),
    Failed(JobError),
}

/// An example as a model reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    pub line: u64,
    /// None of one that cannot be written.
    pub sequences: Vec<Sequence>,
    /// Why it is not learned from, or fails the job.
    pub problem: Option<String>,
}

/// What a model reads at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// What it is of its example.
    pub name: String,
    pub tokens: Vec<Token>,
}

/// A token, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: u32,
    /// What it stands for by itself; of one that is a part of a character that is U+FFFD.
    pub text: String,
    /// Whether the model learns to write it.
    pub trained: bool,
    /// Whether it stands behind `max_sequence_length` and is not read.
    pub cut: bool,
}
