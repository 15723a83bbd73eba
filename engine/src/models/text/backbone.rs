//! What all families of texts have in common: hidden states of tokens.

use tch::Tensor;

use super::Tokens;
use crate::error::Result;
use crate::nn::{Embedding, Hidden, Mode};

/// A transformer over texts, of any family.
pub trait TextBackbone {
    /// The last hidden states of all tokens, `[T, D]`, or of those at `rows` (int64 `[R]`) alone, `[R, D]`.
    ///
    /// Where only some are asked for, the last layer transforms them alone; its attention still sees every token, and
    /// the result is the same.
    fn hidden(&self, tokens: &Tokens, rows: Option<&Tensor>, mode: &Mode) -> Result<Hidden>;

    /// The table of the words, to which output layers are tied.
    fn words(&self) -> &Embedding;
}
