//! A language model at work: writes texts in slices.

use std::path::Path;
use std::time::Instant;

use crate::error::{EngineError, Result};
use crate::generate::{Author, Generation, Memory};
use crate::models::text::{CausalLm, TextConfig};
use crate::text::chat::ChatTemplate;
use crate::text::{TextTokenizer, UNCUT};
use finetuned::domain::chat::{Conversation, Message, Role};
use finetuned::domain::serving::{Answered, Generate, Prompt, Refusal, SLICE};

/// A model with what it reads and writes by.
pub(super) struct LanguageModel {
    model: CausalLm,
    tokenizer: TextTokenizer,
    template: Option<ChatTemplate>,
    /// Tokens that end a text.
    ends: Vec<u32>,
    /// Tokens that prompt and text may have together.
    longest: usize,
    /// Its number among those that have a memory in common.
    number: u64,
}

/// What is said of a model that has no chats.
const NO_TEMPLATE: &str = "The model has no chat template, which says how it reads conversations: POST /v1/completions has it \
                           go on from a text.";

impl LanguageModel {
    /// `model`, which was built of the weights of the one in `directory`.
    ///
    /// # Errors
    /// Its files cannot be used.
    pub(super) fn open(directory: &Path, config: &TextConfig, model: CausalLm, number: u64) -> Result<Self> {
        let longest = usize::try_from(config.max_tokens()).unwrap_or(usize::MAX);
        let tokenizer = TextTokenizer::open(directory, UNCUT, config.vocab_size())?;
        let template = ChatTemplate::open(directory).map_err(EngineError::model)?;
        let mut ends = tokenizer.ends().to_vec();
        ends.extend(template.as_ref().and_then(|template| turn_end(template, &tokenizer)));
        Ok(Self { model, tokenizer, template, ends, longest, number })
    }

    /// Its number in the memory.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Tokens that prompt and text may have together.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The tokens of a prompt; the inner error is what the request is refused with.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub(super) fn read(&self, prompt: &Prompt) -> Result<std::result::Result<Vec<u32>, Refusal>> {
        let refuse = |param: &str, message: String| Ok(Err(Refusal { param: Some(param.to_owned()), message }));
        Ok(Ok(match prompt {
            Prompt::Chat(conversation) => {
                let Some(template) = &self.template else { return refuse("model", NO_TEMPLATE.to_owned()) };
                match template.render(conversation, true) {
                    Ok(text) => self.tokenizer.ids(&text, false)?,
                    Err(why) => return refuse("messages", format!("The conversation cannot be written: {why}.")),
                }
            }
            Prompt::Text(text) => self.tokenizer.ids(text, true)?,
            Prompt::Tokens(ids) => {
                let known = self.tokenizer.tokens();
                if let Some(id) = ids.iter().find(|&&id| id as usize >= known) {
                    return refuse(
                        "prompt",
                        format!("prompt has the token {id}; the model knows those below {known}."),
                    );
                }
                ids.clone()
            }
        }))
    }

    /// A slice of a text.
    ///
    /// # Errors
    /// libtorch fails.
    pub(super) fn write(
        &self,
        memory: &mut Memory,
        asked: &Generate,
        tell: &mut dyn FnMut(Answered),
    ) -> Result<Answered> {
        let known = self.tokenizer.tokens();
        if let Some((id, _)) = asked.sampling.logit_bias.iter().find(|(id, _)| *id as usize >= known) {
            let message = format!("logit_bias has the token {id}; the model knows those below {known}.");
            return Ok(Answered::Error(Refusal { param: Some("logit_bias".to_owned()), message }));
        }
        let started = Instant::now();
        let author = Author { model: &self.model, tokenizer: &self.tokenizer, ends: &self.ends, number: self.number };
        let mut generation = Generation::begin(author, memory, asked)?;
        let answer = loop {
            match generation.next_piece(&mut || tell(Answered::Reading)) {
                Ok(Some(piece)) => tell(Answered::Piece(piece)),
                Ok(None) => {}
                Err(EngineError::Model { message }) => {
                    return Ok(Answered::Error(Refusal { param: Some("model".to_owned()), message }));
                }
                Err(error) => return Err(error),
            }
            if let Some(finish) = generation.finish() {
                break Answered::Ended(finish);
            }
            if started.elapsed() >= SLICE {
                break Answered::Paused;
            }
        };
        generation.leave(memory);
        Ok(answer)
    }
}

/// The token that ends an assistant's turn as the template writes it, which need not be one of those that end a text.
fn turn_end(template: &ChatTemplate, tokenizer: &TextTokenizer) -> Option<u32> {
    let messages = vec![Message::new(Role::User, "a"), Message::new(Role::Assistant, "b")];
    let rendered = template.rendered(&Conversation { messages, ..Conversation::default() }).ok()?;
    let written = &rendered.text[rendered.spans.last()?.range.clone()];
    tokenizer.id(written.strip_prefix('b')?.trim())
}
