//! Which hidden state stands for a sequence. A family gives one of these, or its own.

use tch::{Kind, Tensor};

use super::{TextBackbone, Tokens};
use crate::error::Result;
use crate::nn::Mode;

/// Reads one state of each sequence of a batch, `[S, D]`, in the type that matrix products compute in.
pub(super) type Pooling = fn(&dyn TextBackbone, &Tokens, Kind, &Mode) -> Result<Tensor>;

/// That of the first token.
pub(super) fn first(backbone: &dyn TextBackbone, tokens: &Tokens, _compute: Kind, mode: &Mode) -> Result<Tensor> {
    Ok(backbone.hidden(tokens, Some(&tokens.sequences.first), mode)?.low)
}

/// The mean over its tokens.
pub(super) fn mean(backbone: &dyn TextBackbone, tokens: &Tokens, compute: Kind, mode: &Mode) -> Result<Tensor> {
    let hidden = backbone.hidden(tokens, None, mode)?;
    Ok(tokens.sequences.mean(&hidden.wide)?.f_to_kind(compute)?)
}
