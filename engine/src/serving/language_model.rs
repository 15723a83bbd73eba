//! A language model at work: writes texts in slices, and remembers what it has read.

use std::path::Path;
use std::time::Instant;

use super::{Model, not_asked};
use crate::device::{ComputeDevice, compute_kind};
use crate::error::{EngineError, Result};
use crate::generate::{Author, Generation, Memory};
use crate::models::text::{CausalLm, TextConfig};
use crate::params::{self, Placement};
use crate::policy::NOTHING;
use crate::text::chat::ChatTemplate;
use crate::text::{TextTokenizer, UNCUT};
use crate::weights::Weights;
use finetuned::domain::chat::{Conversation, Message, Role};
use finetuned::domain::hyperparameters::Precision;
use finetuned::domain::serving::{Answered, Generate, Prompt, PromptTokens, Question, Refusal, SLICE};

/// A model with what it reads and writes by. It computes in what is fast on its device.
pub(super) struct LanguageModel {
    model: CausalLm,
    tokenizer: TextTokenizer,
    template: Option<ChatTemplate>,
    /// Tokens that end a text.
    ends: Vec<u32>,
    /// Tokens that prompt and text may have together.
    longest: usize,
    memory: Memory,
}

/// What is said of a model that has no chats.
const NO_TEMPLATE: &str = "The model has no chat template, which says how it reads conversations: POST /v1/completions has it \
                           go on from a text.";

impl LanguageModel {
    /// Opens the model in `directory`.
    ///
    /// # Errors
    /// Its files cannot be used.
    pub(super) fn open(
        directory: &Path,
        config: &TextConfig,
        device: ComputeDevice,
        precision: Precision,
    ) -> Result<Self> {
        let longest = usize::try_from(config.max_tokens()).unwrap_or(usize::MAX);
        let tokenizer = TextTokenizer::open(directory, UNCUT, config.vocab_size())?;
        let template = ChatTemplate::open(directory).map_err(EngineError::model)?;
        let compute = compute_kind(device.precision(precision));
        let placement = Placement { policy: &NOTHING, ..Placement::new(device.device, compute, 0) };
        let weights = Weights::open(directory, config.base_prefix())?;
        let (model, ..) = params::build(&weights, placement, |root| CausalLm::new(root, config))?;
        let mut ends = tokenizer.ends().to_vec();
        ends.extend(template.as_ref().and_then(|template| turn_end(template, &tokenizer)));
        Ok(Self { model, tokenizer, template, ends, longest, memory: Memory::default() })
    }

    /// The tokens of a prompt; the inner error is what the request is refused with.
    fn read(&self, prompt: &Prompt) -> Result<std::result::Result<Vec<u32>, Refusal>> {
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

    fn write(&mut self, asked: &Generate, tell: &mut dyn FnMut(Answered)) -> Result<Answered> {
        let started = Instant::now();
        let author = Author { model: &self.model, tokenizer: &self.tokenizer, ends: &self.ends };
        let mut generation = Generation::begin(author, &mut self.memory, asked)?;
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
        generation.leave(&mut self.memory);
        Ok(answer)
    }
}

impl Model for LanguageModel {
    fn answer(&mut self, question: &Question, tell: &mut dyn FnMut(Answered)) -> Result<Answered> {
        match question {
            Question::Classify(_) => Ok(not_asked("POST /v1/chat/completions and POST /v1/completions")),
            Question::Read(prompt) => Ok(match self.read(prompt)? {
                Ok(ids) => Answered::Tokens(PromptTokens { ids, longest: self.longest }),
                Err(refusal) => Answered::Error(refusal),
            }),
            Question::Generate(asked) => self.write(asked, tell),
        }
    }
}

/// The token that ends an assistant's turn as the template writes it, which need not be one of those that end a text.
fn turn_end(template: &ChatTemplate, tokenizer: &TextTokenizer) -> Option<u32> {
    let messages = vec![Message::new(Role::User, "a"), Message::new(Role::Assistant, "b")];
    let rendered = template.rendered(&Conversation { messages, ..Conversation::default() }).ok()?;
    let written = &rendered.text[rendered.spans.last()?.range.clone()];
    tokenizer.id(written.strip_prefix('b')?.trim())
}
