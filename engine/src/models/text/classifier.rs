//! Sequence classification as in Transformers' `…ForSequenceClassification`: each family's own layers on one hidden
//! state per sequence.

use std::path::Path;

use tch::{Kind, Tensor};

use super::super::heads::Steps;
use super::pooling::Pooling;
use super::{TextBackbone, TextConfig, Tokens};
use crate::error::Result;
use crate::nn::{Linear, Mode};
use crate::params::{self, Builder, Init, LoadReport, ParamTable, Placement};
use crate::weights::Weights;

/// An encoder with a classification head.
pub struct TextClassifier {
    encoder: Box<dyn TextBackbone>,
    pooling: Pooling,
    /// Part of the encoder's own checkpoint.
    pooler: Steps,
    steps: Steps,
    output: Linear,
    compute: Kind,
}

impl TextClassifier {
    /// The classifier with the weights in `directory`, its parameters, and what became of the tensors there.
    ///
    /// # Errors
    /// The weights cannot be read or do not fit `config`.
    pub fn open(
        directory: &Path,
        config: &TextConfig,
        outputs: usize,
        head: Init,
        placement: Placement<'_>,
    ) -> Result<(Self, ParamTable, LoadReport)> {
        let weights = Weights::open(directory, config.base_prefix())?;
        params::build(&weights, placement, |root| Self::new(root, config, outputs as i64, head))
    }

    /// The classifier at the root of a checkpoint; `head` says whether its last layer, of `outputs` rows, starts anew.
    /// Whatever else of head or pooler a checkpoint lacks does.
    ///
    /// # Errors
    /// A tensor of the encoder is missing or has another shape.
    pub fn new(root: &Builder<'_, '_>, config: &TextConfig, outputs: i64, head: Init) -> Result<Self> {
        let (plan, width) = (&config.classification, config.hidden_size);
        let fresh = Init::Normal(config.initializer_range);
        let encoder = config.encoder(root)?;
        let pooler = Steps::new(root, &plan.pooler, width, fresh)?;
        let steps = Steps::new(root, &plan.steps, width, fresh)?;
        let output = (plan.output)(root, width, outputs, head)?;
        Ok(Self { encoder, pooling: plan.pooling, pooler, steps, output, compute: root.compute() })
    }

    /// What the head reads of each sequence: `[S, D]` in the compute type.
    pub fn features(&self, tokens: &Tokens, mode: &Mode) -> Result<Tensor> {
        let pooled = (self.pooling)(self.encoder.as_ref(), tokens, self.compute, mode)?;
        self.pooler.forward(&pooled, mode)
    }

    /// Logits `[S, C]` in float32 from [`features`](Self::features).
    pub fn head(&self, features: &Tensor, mode: &Mode) -> Result<Tensor> {
        let x = self.steps.forward(features, mode)?;
        Ok(self.output.forward(&x, mode)?.f_to_kind(Kind::Float)?)
    }

    /// Logits `[S, C]` in float32.
    pub fn forward(&self, tokens: &Tokens, mode: &Mode) -> Result<Tensor> {
        self.head(&self.features(tokens, mode)?, mode)
    }
}
