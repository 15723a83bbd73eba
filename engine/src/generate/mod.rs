//! Text from a language model: one token after the other, until a token, a text or a limit ends it.

mod sampling;
mod stops;

use std::cell::RefCell;
use std::rc::Rc;

use tch::{Device, Tensor};

pub use sampling::{Choice, Sampling};
pub use stops::Stops;

use crate::error::{EngineError, Result};
use crate::models::text::CausalLm;
use crate::nn::KvCache;
use crate::text::{PieceDecoder, TextTokenizer};

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or it came to a text that ends it.
    Stop,
    /// It has as many tokens as it may.
    Length,
}

/// What ends a text.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// Tokens that end it and are no part of it.
    pub tokens: Vec<u32>,
    /// Texts that end it and are no part of it.
    pub texts: Vec<String>,
    /// The most tokens of it.
    pub most: usize,
}

/// A prompt that was read, from which texts go on.
pub struct Prompt<'m> {
    model: &'m CausalLm,
    past: Rc<RefCell<KvCache>>,
    /// Of the token behind the prompt: float32 `[V]`.
    logits: Tensor,
}

impl<'m> Prompt<'m> {
    /// Reads the tokens of a prompt, of which there is at least one.
    ///
    /// # Errors
    /// There is none, or libtorch fails.
    pub fn read(model: &'m CausalLm, ids: &[u32]) -> Result<Self> {
        if ids.is_empty() {
            return Err(EngineError::native("a prompt without tokens"));
        }
        let past = Rc::new(RefCell::new(KvCache::default()));
        let logits = model.read(ids, &past)?;
        Ok(Self { model, past, logits })
    }

    /// A text that goes on from here.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn begin<'t>(
        &self,
        tokenizer: &'t TextTokenizer,
        sampling: Sampling,
        ends: Ends,
    ) -> Result<Generation<'m, 't>> {
        let past = Rc::new(RefCell::new(self.past.borrow().try_clone()?));
        let logits = self.logits.shallow_clone();
        let stops = Stops::new(ends.texts.clone());
        let decoder = tokenizer.decoder();
        Ok(Generation { model: self.model, past, logits, sampling, ends, stops, decoder, tokens: 0, finish: None })
    }
}

/// A text in the making.
pub struct Generation<'m, 't> {
    model: &'m CausalLm,
    past: Rc<RefCell<KvCache>>,
    logits: Tensor,
    sampling: Sampling,
    ends: Ends,
    stops: Stops,
    decoder: PieceDecoder<'t>,
    tokens: usize,
    finish: Option<Finish>,
}

/// What a token adds to a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Whole characters of which it is sure that they belong to the text; often none.
    pub text: String,
    /// The token; None of what was held back at the end.
    pub token: Option<Choice>,
}

impl Generation<'_, '_> {
    /// The next piece of the text; None once it has ended.
    ///
    /// # Errors
    /// The model's outputs are not finite, or libtorch fails.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        if self.finish.is_some() {
            return Ok(None);
        }
        if self.tokens >= self.ends.most {
            return Ok(self.end(Finish::Length));
        }
        let logits = Vec::<f32>::try_from(&self.logits.f_to_device(Device::Cpu)?)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(EngineError::model("The model's outputs are not finite: its weights cannot be used"));
        }
        let choice = self.sampling.choose(&logits, self.tokens as u64);
        if self.ends.tokens.contains(&choice.id) {
            return Ok(self.end(Finish::Stop));
        }
        self.tokens += 1;
        let piece = self.decoder.push(choice.id)?;
        let id = choice.id;
        let text = self.stops.push(&piece);
        if self.stops.are_met() {
            self.finish = Some(Finish::Stop);
        } else if self.tokens < self.ends.most {
            self.logits = self.model.read(&[id], &self.past)?;
        }
        Ok(Some(Piece { text, token: Some(choice) }))
    }

    /// Ends the text with what was held back of it.
    fn end(&mut self, finish: Finish) -> Option<Piece> {
        self.finish = Some(finish);
        let rest = format!("{}{}", self.stops.rest(), self.decoder.rest());
        (!rest.is_empty()).then_some(Piece { text: rest, token: None })
    }

    /// Why it ended; None while it goes on.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// How many tokens it has.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}
