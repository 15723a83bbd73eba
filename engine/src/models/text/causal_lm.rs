//! Causal language models as in Transformers' `…ForCausalLM`.

use std::cell::RefCell;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::{TextBackbone, TextConfig, Tokens};
use crate::error::{EngineError, Result};
use crate::nn::{KvCache, Mode, Sequences, causal};
use crate::params::{Builder, Init};

/// A decoder with a layer that guesses the next word. Where that is tied to the word table it is one parameter, saved
/// under the table's name, whose gradient is the sum of both uses.
pub struct CausalLm {
    decoder: Box<dyn TextBackbone>,
    /// `[V, D]` in the compute type; None where it is the word table.
    output: Option<Tensor>,
    /// Logits are squeezed to between minus this and this by a hyperbolic tangent.
    softcap: Option<f64>,
    device: Device,
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
        let device = decoder.words().device();
        Ok(Self { decoder, output, softcap: head.softcap, device })
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

    /// Reads the tokens that follow those in `past` (at least one), and gives the logits of the next one: `[V]` in float32.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn read(&self, ids: &[u32], past: &Rc<RefCell<KvCache>>) -> Result<Tensor> {
        let (count, start) = (ids.len() as i64, past.borrow().length());
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let on = |values: Tensor| values.f_to_device(self.device);
        let ids = on(Tensor::f_from_slice(&ids)?)?;
        let tokens = Tokens {
            types: ids.f_zeros_like()?,
            ids,
            positions: Tensor::f_arange_start(start, start + count, (Kind::Int64, self.device))?,
            sequences: Rc::new(Sequences::from_lengths(vec![count], self.device)?),
            past: Some(Rc::clone(past)),
        };
        let last = on(Tensor::f_from_slice(&[count - 1])?)?;
        let logits = self.logits(&tokens, Some(&last), &Mode::eval())?;
        past.borrow_mut().advance(count);
        Ok(logits.f_squeeze_dim(0)?)
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
