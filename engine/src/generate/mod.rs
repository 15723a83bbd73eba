//! Text from a language model: one token after the other, until a token, a text or a limit ends it.

mod memory;
mod sampling;
mod stops;

use std::cell::RefCell;
use std::rc::Rc;

use tch::{Device, Tensor};

pub use memory::Memory;
pub use stops::Stops;

use crate::error::{EngineError, Result};
use crate::models::text::CausalLm;
use crate::nn::KvCache;
use crate::text::{PieceDecoder, TextTokenizer};
use finetuned::domain::serving::{Finish, Generate, Likely, Piece, Sampling, Token};

/// Tokens of a prompt that are read at once.
const READ: usize = 512;

/// Who writes: a model, its tokenizer, and the tokens that end its texts and are no part of them.
#[derive(Clone, Copy)]
pub struct Author<'m> {
    pub model: &'m CausalLm,
    pub tokenizer: &'m TextTokenizer,
    pub ends: &'m [u32],
    /// Tells what this model has read from what others have.
    pub number: u64,
}

/// A text in the making.
pub struct Generation<'m> {
    author: Author<'m>,
    past: Rc<RefCell<KvCache>>,
    /// Prompt and text.
    ids: Vec<u32>,
    /// How many of them are the prompt, and how many were read.
    prompt: usize,
    read: usize,
    sampling: Sampling,
    most: usize,
    stops: Stops,
    decoder: PieceDecoder<'m>,
    finish: Option<Finish>,
}

impl<'m> Generation<'m> {
    /// Goes on from where `asked` is, with what `memory` has of it.
    ///
    /// # Errors
    /// The prompt is empty, or libtorch fails.
    pub fn begin(author: Author<'m>, memory: &mut Memory, asked: &Generate) -> Result<Self> {
        if asked.prompt.is_empty() {
            return Err(EngineError::native("a prompt without tokens"));
        }
        let ids = [&asked.prompt[..], &asked.written].concat();
        // The last one is read in any case, for what follows it.
        let (read, past) = memory.recall(author.number, &ids[..ids.len() - 1])?;
        let mut stops = Stops::new(asked.stop.clone());
        let mut decoder = author.tokenizer.decoder();
        for &id in &asked.written {
            stops.push(&decoder.push(id)?);
        }
        Ok(Self {
            author,
            past: Rc::new(RefCell::new(past)),
            ids,
            prompt: asked.prompt.len(),
            read,
            sampling: asked.sampling.clone(),
            most: asked.most,
            stops,
            decoder,
            finish: None,
        })
    }

    /// The next piece of the text; None once it has ended. While a long prompt is read, `reading` is called now and then.
    ///
    /// # Errors
    /// The model's outputs are not finite, or libtorch fails.
    pub fn next_piece(&mut self, reading: &mut dyn FnMut()) -> Result<Option<Piece>> {
        if self.finish.is_some() {
            return Ok(None);
        }
        if self.written().len() >= self.most {
            return Ok(self.end(Finish::Length));
        }
        let logits = Vec::<f32>::try_from(&self.read_on(reading)?.f_to_device(Device::Cpu)?)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(EngineError::model("The model's outputs are not finite: its weights cannot be used."));
        }
        let id = sampling::choose(&self.sampling, &logits, self.written());
        if self.author.ends.contains(&id) {
            return Ok(self.end(Finish::Stop));
        }
        self.ids.push(id);
        let text = self.stops.push(&self.decoder.push(id)?);
        if self.stops.are_met() {
            self.finish = Some(Finish::Stop);
        }
        Ok(Some(Piece { text, token: Some(self.token(&logits, id)?) }))
    }

    /// Why it ended; None while it goes on.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Has `memory` keep what was read.
    pub fn leave(self, memory: &mut Memory) {
        let mut ids = self.ids;
        ids.truncate(self.read);
        memory.keep(self.author.number, ids, self.past.take());
    }

    /// The tokens of the text.
    pub fn written(&self) -> &[u32] {
        &self.ids[self.prompt..]
    }

    /// Reads what was not read yet, and gives the logits behind it: float32 `[V]`. The last token is read by itself, as it is
    /// where all before it are remembered: matrix products round otherwise for other numbers of rows.
    fn read_on(&mut self, reading: &mut dyn FnMut()) -> Result<Tensor> {
        loop {
            let before_last = self.ids.len() - 1;
            let end = if self.read < before_last { before_last.min(self.read + READ) } else { self.ids.len() };
            let logits = self.author.model.read(&self.ids[self.read..end], &self.past)?;
            self.read = end;
            if end == self.ids.len() {
                return Ok(logits);
            }
            reading();
        }
    }

    fn token(&self, logits: &[f32], id: u32) -> Result<Token> {
        let Some(count) = self.sampling.top_logprobs else { return Ok(Token { id, likely: None, top: Vec::new() }) };
        let (chosen, top) = sampling::told(logits, id, count);
        let likely = |(id, logprob)| Ok(Likely { text: self.author.tokenizer.token_text(id)?, logprob });
        let top = top.into_iter().map(likely).collect::<Result<_>>()?;
        Ok(Token { id, likely: Some(likely(chosen)?), top })
    }

    /// Ends the text with what was held back of it.
    fn end(&mut self, finish: Finish) -> Option<Piece> {
        self.finish = Some(finish);
        let rest = format!("{}{}", self.stops.rest(), self.decoder.rest());
        (!rest.is_empty()).then_some(Piece { text: rest, token: None })
    }
}
