//! Causal language models as in Transformers' `…ForCausalLM`.

use tch::{Kind, Tensor};

use super::{TextBackbone, TextConfig, Tokens};
use crate::error::{EngineError, Result};
use crate::nn::{Mode, causal};
use crate::params::{Builder, Init};

/// A decoder with a layer that guesses the next word. Where that is tied to the word table it is one parameter, saved
/// under the table's name, whose gradient is the sum of both uses.
pub struct CausalLm {
    decoder: Box<dyn TextBackbone>,
    /// `[V, D]` in the compute type; None where it is the word table.
    output: Option<Tensor>,
    /// Logits are squeezed to between minus this and this by a hyperbolic tangent.
    softcap: Option<f64>,
}

impl CausalLm {
    /// The model at the root of a checkpoint.
    ///
    /// # Errors
    /// The family is no decoder, or a tensor is missing or has another shape.
    pub fn new(root: &Builder<'_, '_>, config: &TextConfig) -> Result<Self> {
        let head = config.causal.as_ref().map_err(EngineError::model)?;
        let decoder = config.encoder(root)?;
        let shape = [config.vocab_size, config.hidden_size];
        let output = (!head.is_tied).then(|| root.matrix("lm_head.weight", &shape, Init::Required)).transpose()?;
        Ok(Self { decoder, output, softcap: head.softcap })
    }

    /// The loss of each guess (float32 `[R]`), and whether it is right (int64 `[R]`): the tokens at `rows` (int64 `[R]`, places
    /// in the packed batch) guess `targets` (int64 `[R]`). No other logits are computed, and those never as a whole.
    pub fn losses(&self, tokens: &Tokens, rows: &Tensor, targets: &Tensor, mode: &Mode) -> Result<(Tensor, Tensor)> {
        let hidden = self.decoder.hidden(tokens, Some(rows), mode)?.low;
        if self.softcap.is_some() {
            let logits = self.guess(&hidden)?;
            let losses = logits.f_cross_entropy_loss(targets, None::<Tensor>, tch::Reduction::None, -100, 0.0)?;
            return Ok((losses, logits.f_argmax(-1, false)?.f_eq_tensor(targets)?.f_to_kind(Kind::Int64)?));
        }
        match &self.output {
            Some(weight) => causal::linear_cross_entropy(&hidden, weight, targets),
            None => causal::linear_cross_entropy(&hidden, &self.decoder.words().weight(hidden.kind())?, targets),
        }
    }

    /// Logits `[R, V]` in float32 of the tokens at `rows`, or of all.
    pub fn logits(&self, tokens: &Tokens, rows: Option<&Tensor>, mode: &Mode) -> Result<Tensor> {
        self.guess(&self.decoder.hidden(tokens, rows, mode)?.low)
    }

    fn guess(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = match &self.output {
            Some(weight) => hidden.f_linear(weight, None::<&Tensor>)?,
            None => self.decoder.words().decode(hidden, None)?,
        };
        let logits = logits.f_to_kind(Kind::Float)?;
        Ok(match self.softcap {
            Some(cap) => logits.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?,
            None => logits,
        })
    }
}
