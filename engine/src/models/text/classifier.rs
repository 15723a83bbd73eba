//! Sequence classification as in Transformers' `…ForSequenceClassification`: each family's own layers on one hidden
//! state per sequence.

use std::path::Path;

use tch::{Kind, Tensor};

use super::config::{Activation, activation};
use super::modernbert_config::Pooling;
use super::{BertConfig, BertFamily, TextConfig, TextEncoder, Tokens};
use crate::error::Result;
use crate::nn::{LayerNorm, Linear, Mode, functional};
use crate::params::{self, Builder, Init, LoadReport, ParamTable, Placement};
use crate::weights::Weights;

/// An encoder with a classification head.
pub struct TextClassifier {
    encoder: TextEncoder,
    /// BERT's `tanh(dense(first token))`, part of its base model.
    pooler: Option<Linear>,
    pooling: Pooling,
    dense: Option<Dense>,
    dropout: f64,
    output: Linear,
    compute: Kind,
}

/// What heads other than BERT's have before the last layer.
struct Dense {
    /// Dropout of its input.
    dropout: f64,
    linear: Linear,
    activation: Activation,
    norm: Option<LayerNorm>,
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
    pub fn new(root: &Builder<'_, '_>, config: &TextConfig, outputs: i64, head: Init) -> Result<Self> {
        let width = config.hidden_size();
        let fresh = Init::Normal(config.initializer_range());
        let encoder = TextEncoder::new(root, config)?;
        let (mut pooler, mut pooling) = (None, Pooling::Cls);
        let (mut dense, mut output) = (None, root.at("classifier"));
        let linear = |path: &Builder<'_, '_>| Linear::with_init(path, width, width, fresh);
        let dropout = match config {
            TextConfig::Bert(config @ BertConfig { model_type: BertFamily::Bert, .. }) => {
                pooler = Some(linear(&root.at("bert").at("pooler").at("dense"))?);
                config.classifier_dropout()
            }
            TextConfig::Bert(config) => {
                let dropout = config.classifier_dropout();
                let (linear, activation): (_, Activation) = (linear(&output.at("dense"))?, |x| Ok(x.f_tanh()?));
                dense = Some(Dense { dropout, linear, activation, norm: None });
                output = output.at("out_proj");
                dropout
            }
            TextConfig::DistilBert(config) => {
                let (linear, activation): (_, Activation) = (linear(&root.at("pre_classifier"))?, |x| Ok(x.f_relu()?));
                dense = Some(Dense { dropout: 0.0, linear, activation, norm: None });
                config.seq_classif_dropout
            }
            TextConfig::ModernBert(config) => {
                pooling = config.classifier_pooling;
                let path = root.at("head");
                let linear = if config.classifier_bias {
                    linear(&path.at("dense"))?
                } else {
                    Linear::without_bias(&path.at("dense"), width, width, fresh)?
                };
                let norm =
                    LayerNorm::with_init(&path.at("norm"), width, config.norm_eps, Init::Ones, config.norm_bias)?;
                let activation = activation("classifier_activation", &config.classifier_activation)?;
                dense = Some(Dense { dropout: 0.0, linear, activation, norm: Some(norm) });
                config.classifier_dropout
            }
        };
        let output = Linear::with_init(&output, width, outputs, head)?;
        Ok(Self { encoder, pooler, pooling, dense, dropout, output, compute: root.compute() })
    }

    /// What the head reads of each sequence: `[S, D]` in the compute type.
    pub fn features(&self, tokens: &Tokens, mode: &Mode) -> Result<Tensor> {
        let sequences = &tokens.sequences;
        if self.pooling == Pooling::Mean {
            let hidden = self.encoder.hidden(tokens, None, mode)?;
            return Ok(sequences.mean(&hidden.wide)?.f_to_kind(self.compute)?);
        }
        let first = self.encoder.hidden(tokens, Some(&sequences.first), mode)?;
        match &self.pooler {
            Some(pooler) => Ok(pooler.forward(&first.low, mode)?.f_tanh()?),
            None => Ok(first.low),
        }
    }

    /// Logits `[S, C]` in float32 from [`features`](Self::features).
    pub fn head(&self, features: &Tensor, mode: &Mode) -> Result<Tensor> {
        let mut x = features.shallow_clone();
        if let Some(Dense { dropout, linear, activation, norm }) = &self.dense {
            x = activation(&linear.forward(&functional::dropout(&x, *dropout, mode)?, mode)?)?;
            if let Some(norm) = norm {
                x = norm.forward(&x.f_to_kind(Kind::Float)?)?.f_to_kind(self.compute)?;
            }
        }
        let x = functional::dropout(&x, self.dropout, mode)?;
        Ok(self.output.forward(&x, mode)?.f_to_kind(Kind::Float)?)
    }

    /// Logits `[S, C]` in float32.
    pub fn forward(&self, tokens: &Tokens, mode: &Mode) -> Result<Tensor> {
        self.head(&self.features(tokens, mode)?, mode)
    }
}
