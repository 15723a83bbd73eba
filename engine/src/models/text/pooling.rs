//! What stands for a sequence among its hidden states: for a family's classifier, and for sentence embeddings.

use tch::{Kind, Tensor};

use super::{TextBackbone, Tokens};
use crate::error::Result;
use crate::nn::{Mode, Sequences};

/// Reads one state of each sequence of a batch, `[S, D]`, in the type that matrix products compute in. A family gives one
/// of these, or its own.
pub(super) type Pooling = fn(&dyn TextBackbone, &Tokens, Kind, &Mode) -> Result<Tensor>;

/// That of the first token.
pub(super) fn first(backbone: &dyn TextBackbone, tokens: &Tokens, _compute: Kind, mode: &Mode) -> Result<Tensor> {
    Ok(backbone.hidden(tokens, Some(&tokens.sequences.first), mode)?.low)
}

/// That of the last token.
pub(super) fn last(backbone: &dyn TextBackbone, tokens: &Tokens, _compute: Kind, mode: &Mode) -> Result<Tensor> {
    let rows = tokens.sequences.last(tokens.ids.device())?;
    Ok(backbone.hidden(tokens, Some(&rows), mode)?.low)
}

/// The mean over its tokens.
pub(super) fn mean(backbone: &dyn TextBackbone, tokens: &Tokens, compute: Kind, mode: &Mode) -> Result<Tensor> {
    let hidden = backbone.hidden(tokens, None, mode)?;
    Ok(tokens.sequences.mean(&hidden.wide)?.f_to_kind(compute)?)
}

/// The modes of sentence-transformers' `Pooling`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentencePooling {
    Cls,
    Max,
    Mean,
    MeanSqrtLen,
    WeightedMean,
    LastToken,
}

impl SentencePooling {
    /// In the order in which several are put beside each other.
    pub(super) const ALL: [Self; 6] =
        [Self::Cls, Self::Max, Self::Mean, Self::MeanSqrtLen, Self::WeightedMean, Self::LastToken];

    /// The word of `pooling_mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Max => "max",
            Self::Mean => "mean",
            Self::MeanSqrtLen => "mean_sqrt_len_tokens",
            Self::WeightedMean => "weightedmean",
            Self::LastToken => "lasttoken",
        }
    }

    /// The field that says so in files before version 6.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Cls => "pooling_mode_cls_token",
            Self::Max => "pooling_mode_max_tokens",
            Self::Mean => "pooling_mode_mean_tokens",
            Self::MeanSqrtLen => "pooling_mode_mean_sqrt_len_tokens",
            Self::WeightedMean => "pooling_mode_weightedmean_tokens",
            Self::LastToken => "pooling_mode_lasttoken",
        }
    }

    /// What it takes, for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Cls => "the state of the first token",
            Self::Max => "the maximum over all tokens",
            Self::Mean => "the mean over all tokens",
            Self::MeanSqrtLen => "the sum over all tokens by the root of their number",
            Self::WeightedMean => "the mean over all tokens weighted by their places",
            Self::LastToken => "the state of the last token",
        }
    }

    /// Of each sequence of `hidden` `[T, D]` in float32: `[S, D]`.
    pub(super) fn of(self, hidden: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        let device = hidden.device();
        Ok(match self {
            Self::Cls => hidden.f_index_select(0, &sequences.first)?,
            Self::LastToken => hidden.f_index_select(0, &sequences.last(device)?)?,
            Self::Max => sequences.reduce(hidden, "max")?,
            Self::Mean => sequences.mean(hidden)?,
            Self::MeanSqrtLen => {
                let root = sequences.lengths(device)?.f_to_kind(Kind::Float)?.f_sqrt()?.f_unsqueeze(1)?;
                sequences.mean(hidden)?.f_mul(&root)?
            }
            Self::WeightedMean => {
                let places = sequences.places(device)?.f_unsqueeze(1)?;
                let sums = sequences.reduce(&hidden.f_mul(&places)?, "sum")?;
                sums.f_div(&sequences.reduce(&places, "sum")?)?
            }
        })
    }
}
