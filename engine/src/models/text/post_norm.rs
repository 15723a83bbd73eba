//! Post-norm encoders with learned absolute positions, as BERT and its kin are, whatever they call their parameters.

use tch::{Kind, Tensor};

use super::super::config::Activation;
use super::relative::RelativeBias;
use super::{TextBackbone, Tokens};
use crate::error::Result;
use crate::nn::{Embedding, Heads, Hidden, LayerNorm, Linear, Mode, Seen, Sequences, functional};

/// The sum of a token's embeddings, normed.
pub(super) struct Embeddings {
    pub words: Embedding,
    pub positions: Embedding,
    /// Row of the position table that a sequence's first token reads.
    pub first_position: i64,
    /// The table of segments and its rows, where there is one.
    pub types: Option<(Embedding, i64)>,
    pub norm: LayerNorm,
    pub dropout: f64,
}

impl Embeddings {
    fn forward(&self, tokens: &Tokens, compute: Kind, mode: &Mode) -> Result<Hidden> {
        let mut sum = self.words.forward(&tokens.ids)?;
        if let Some((types, rows)) = &self.types {
            // A model of one segment gives it to every token.
            let ids = if *rows > 1 { tokens.types.shallow_clone() } else { tokens.types.f_zeros_like()? };
            sum = sum.f_add(&types.forward(&ids)?)?;
        }
        let positions = match self.first_position {
            0 => tokens.positions.shallow_clone(),
            first => tokens.positions.f_add_scalar(first)?,
        };
        let sum = sum.f_add(&self.positions.forward(&positions)?)?;
        Hidden::new(functional::dropout(&self.norm.forward(&sum)?, self.dropout, mode)?, compute)
    }
}

/// Attention and a feed-forward network, each added to its input and normed.
pub(super) struct Layer {
    pub query_key_value: Linear,
    pub attention_output: Linear,
    pub attention_norm: LayerNorm,
    pub intermediate: Linear,
    pub output: Linear,
    pub output_norm: LayerNorm,
    pub activation: Activation,
    pub heads: Heads,
    /// Dropout of attention's probabilities, of its output, and of the network's output.
    pub attention_dropout: f64,
    pub attention_output_dropout: f64,
    pub output_dropout: f64,
}

impl Layer {
    fn attend(&self, x: &Hidden, sequences: &Sequences, bias: Option<&Tensor>, mode: &Mode) -> Result<Tensor> {
        let qkv = self.query_key_value.forward(&x.low, mode)?;
        match bias {
            Some(bias) => functional::biased_attention(&qkv, sequences, bias, self.attention_dropout, mode),
            None => functional::attention(&qkv, sequences, self.heads, Seen::All, self.attention_dropout, mode),
        }
    }

    /// Everything after attention, which looks at each token alone.
    fn transform(&self, x: &Hidden, attended: &Tensor, mode: &Mode) -> Result<Hidden> {
        let out = self.attention_output.forward(attended, mode)?;
        let p = self.attention_output_dropout;
        let x = functional::dropout_add_norm(&out, &x.wide, &self.attention_norm, p, mode)?;
        let inner = (self.activation)(&self.intermediate.forward(&x.low, mode)?)?;
        let out = self.output.forward(&inner, mode)?;
        functional::dropout_add_norm(&out, &x.wide, &self.output_norm, self.output_dropout, mode)
    }
}

/// Embeddings and layers.
pub(super) struct PostNormEncoder {
    pub embeddings: Embeddings,
    /// What attention adds to its scores in every layer (MPNet).
    pub relative_bias: Option<RelativeBias>,
    pub layers: Vec<Layer>,
    pub compute: Kind,
}

impl TextBackbone for PostNormEncoder {
    fn hidden(&self, tokens: &Tokens, rows: Option<&Tensor>, mode: &Mode) -> Result<Hidden> {
        let mut x = self.embeddings.forward(tokens, self.compute, mode)?;
        let bias = self.relative_bias.as_ref().map(|bias| bias.forward(&tokens.sequences)).transpose()?;
        for (i, layer) in self.layers.iter().enumerate() {
            let mut attended = layer.attend(&x, &tokens.sequences, bias.as_ref(), mode)?;
            if let Some(rows) = rows.filter(|_| i + 1 == self.layers.len()) {
                x = x.select(rows)?;
                attended = attended.f_index_select(0, rows)?;
            }
            x = layer.transform(&x, &attended, mode)?;
        }
        Ok(x)
    }

    fn words(&self) -> &Embedding {
        &self.embeddings.words
    }
}
