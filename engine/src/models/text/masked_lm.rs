//! Masked language models as in Transformers' `…ForMaskedLM`.

use tch::{Kind, Tensor};

use super::config::{Activation, activation, gelu, refuse};
use super::{BertConfig, BertFamily, TextConfig, TextEncoder, Tokens, distilbert};
use crate::error::Result;
use crate::nn::{LayerNorm, Linear, Mode};
use crate::params::{Builder, Init};

/// An encoder with a head that guesses words. The output layer is tied to the word table: one parameter, saved under
/// the table's name, whose gradient is the sum of both uses.
pub struct MaskedLm {
    encoder: TextEncoder,
    dense: Linear,
    activation: Activation,
    norm: LayerNorm,
    bias: Option<Tensor>,
    compute: Kind,
}

impl MaskedLm {
    /// The model at the root of a checkpoint; whatever of its head a checkpoint lacks starts anew.
    ///
    /// # Errors
    /// The config unties the output layer, or a tensor of the encoder is missing or has another shape.
    pub fn new(root: &Builder<'_, '_>, config: &TextConfig) -> Result<Self> {
        if !config.tie_word_embeddings() {
            return refuse("tie_word_embeddings", false, "true");
        }
        let width = config.hidden_size();
        let fresh = Init::Normal(config.initializer_range());
        let encoder = TextEncoder::new(root, config)?;
        let linear = |path: &Builder<'_, '_>| Linear::with_init(path, width, width, fresh);
        let norm = |path: &Builder<'_, '_>, eps| LayerNorm::with_init(path, width, eps, Init::Ones, true);
        let bias = |path: &Builder<'_, '_>| path.matrix("bias", &[config.vocab_size()], Init::Zeros).map(Some);
        let compute = root.compute();
        match config {
            TextConfig::Bert(config @ BertConfig { model_type: BertFamily::Bert, .. }) => {
                let path = root.at("cls").at("predictions");
                let transform = path.at("transform");
                let dense = linear(&transform.at("dense"))?;
                let activation = activation("hidden_act", &config.hidden_act)?;
                let norm = norm(&transform.at("LayerNorm"), config.layer_norm_eps)?;
                Ok(Self { encoder, dense, activation, norm, bias: bias(&path)?, compute })
            }
            TextConfig::Bert(config) => {
                let path = root.at("lm_head");
                let dense = linear(&path.at("dense"))?;
                let norm = norm(&path.at("layer_norm"), config.layer_norm_eps)?;
                // RoBERTa's and MPNet's head has GELU whatever its encoder has.
                Ok(Self { encoder, dense, activation: gelu, norm, bias: bias(&path)?, compute })
            }
            TextConfig::DistilBert(config) => {
                let dense = linear(&root.at("vocab_transform"))?;
                let activation = activation("activation", &config.activation)?;
                let norm = norm(&root.at("vocab_layer_norm"), distilbert::NORM_EPS)?;
                Ok(Self { encoder, dense, activation, norm, bias: bias(&root.at("vocab_projector"))?, compute })
            }
            TextConfig::ModernBert(config) => {
                let (dense, norm) = (root.at("head").at("dense"), root.at("head").at("norm"));
                let dense = if config.classifier_bias {
                    linear(&dense)?
                } else {
                    Linear::without_bias(&dense, width, width, fresh)?
                };
                let norm = LayerNorm::with_init(&norm, width, config.norm_eps, Init::Ones, config.norm_bias)?;
                let activation = activation("classifier_activation", &config.classifier_activation)?;
                let bias = if config.decoder_bias { bias(&root.at("decoder"))? } else { None };
                Ok(Self { encoder, dense, activation, norm, bias, compute })
            }
        }
    }

    /// Logits `[R, V]` in float32 of the tokens at `rows` (int64 `[R]`, places in the packed batch); no others are
    /// computed.
    pub fn forward(&self, tokens: &Tokens, rows: &Tensor, mode: &Mode) -> Result<Tensor> {
        let hidden = self.encoder.hidden(tokens, Some(rows), mode)?;
        let x = (self.activation)(&self.dense.forward(&hidden.low, mode)?)?;
        let x = self.norm.forward(&x.f_to_kind(Kind::Float)?)?.f_to_kind(self.compute)?;
        Ok(self.encoder.words().decode(&x, self.bias.as_ref())?.f_to_kind(Kind::Float)?)
    }
}
