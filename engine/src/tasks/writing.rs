//! Conversations and texts as the tokens that a language model reads, fitted to its length.

use std::cell::Cell;
use std::path::Path;

use super::base::TextBase;
use crate::error::{EngineError, Result};
use crate::models::text::CausalLm;
use crate::observer::Observer;
use crate::text::TextTokenizer;
use crate::text::chat::{ChatTemplate, Rendered};
use finetuned::domain::calls;
use finetuned::domain::chat::{Conversation, Message};
use finetuned::domain::method::language::Truncation;
use finetuned::domain::report::Faults;
use finetuned::domain::run::TrainerMessage;

/// Ids, and whether each is learned.
pub(super) type Tokens = Vec<(u32, bool)>;

/// Writes what a model reads.
pub(super) struct Writer<'a> {
    tokenizer: &'a TextTokenizer,
    template: Option<ChatTemplate>,
    /// The token that ends a text.
    end: u32,
    /// Conversations that have tools or calls that the template left out.
    bare: Cell<usize>,
}

/// What is said of a model that cannot read conversations.
const NO_TEMPLATE: &str = "the model has no chat template, which says how it reads conversations: import it with a \
                           chat_template.jinja, or give prompt and completion as texts";

/// What is said of calls that would be learned as silence.
const SILENT: &str = "which the model's chat template does not write, so that nothing of them would be learned; leave the message out, \
                      give it \"weight\": 0, or take a model whose template has tools";

impl<'a> Writer<'a> {
    /// That of the model in `directory`.
    ///
    /// # Errors
    /// Its chat template cannot be used, or it has no token that ends a text.
    pub(super) fn open(directory: &Path, tokenizer: &'a TextTokenizer) -> Result<Self> {
        let template = ChatTemplate::open(directory).map_err(EngineError::model)?;
        Ok(Self { tokenizer, template, end: tokenizer.end()?, bare: Cell::new(0) })
    }

    /// A conversation, of which the messages are learned that `learned` says yes to.
    ///
    /// # Errors
    /// The model has no chat template, or it refuses the conversation, or leaves out calls of tools that are to be learned.
    pub(super) fn conversation(
        &self,
        conversation: &Conversation,
        learned: impl Fn(usize) -> bool,
    ) -> std::result::Result<Tokens, String> {
        let template = self.template.as_ref().ok_or_else(|| NO_TEMPLATE.to_owned())?;
        let rendered = template.rendered(conversation)?;
        let left_out = |(number, message): &(usize, &Message)| !writes_calls(&rendered, *number, message);
        let mut silent = conversation.messages.iter().enumerate().filter(left_out).peekable();
        if silent.peek().is_some() || !writes_tools(&rendered, conversation) {
            self.bare.set(self.bare.get() + 1);
        }
        if let Some((number, _)) = silent.find(|(number, _)| learned(*number)) {
            return Err(format!("messages[{number}] calls tools, {SILENT}"));
        }
        self.tokenizer.rendered(&rendered, learned)
    }

    /// Says what conversations have that the model does not see.
    pub(super) fn report(&self, observer: &dyn Observer) {
        let count = self.bare.get();
        if count > 0 {
            let have = if count == 1 { "conversation has" } else { "conversations have" };
            let message = format!(
                "{count} {have} tools or calls of tools that the model's chat template does not write: the model does not see them"
            );
            observer.report(TrainerMessage::Notice { warning: true, message });
        }
    }

    /// A text that goes on as `completion`, which is learned, and then ends.
    ///
    /// # Errors
    /// The tokenizer fails on the text, which a well-made one does not.
    pub(super) fn completion(&self, prompt: &str, completion: &str) -> std::result::Result<Tokens, String> {
        self.tokenizer.completion(prompt, completion, self.end)
    }
}

/// Whether the calls of message `number` stand in the text.
fn writes_calls(rendered: &Rendered, number: usize, message: &Message) -> bool {
    let spans = || rendered.spans.iter().filter(|span| span.message == number);
    message.tool_calls.iter().all(|call| spans().any(|span| rendered.text[span.range.clone()].contains(&call.name)))
}

/// Whether a tool that is there stands in the text, if one is.
fn writes_tools(rendered: &Rendered, conversation: &Conversation) -> bool {
    let names = calls::names(&conversation.tools);
    names.is_empty() || names.iter().any(|name| rendered.text.contains(name))
}

/// Whether a language model can be trained on what it reads. One without a chat template can, on texts that go on.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    let base = TextBase::outline(directory)?;
    base.check(CausalLm::new)?;
    Writer::open(directory, &base.tokenizer).map(drop)
}

/// Examples on their way into a run, those that are too long cut, left out or refused.
pub(super) struct Fitting {
    longest: usize,
    truncation: Truncation,
    faults: Faults,
    /// Lines of those left out.
    long: Vec<u64>,
    empty: Vec<u64>,
}

impl Fitting {
    /// For sequences of at most `longest` tokens.
    pub(super) fn new(longest: usize, truncation: Truncation) -> Self {
        Self { longest, truncation, faults: Faults::default(), long: Vec::new(), empty: Vec::new() }
    }

    /// The sequences of an example as they are used, and whether one was cut; None where it is left out.
    pub(super) fn take<const N: usize>(
        &mut self,
        line: u64,
        written: std::result::Result<[Tokens; N], String>,
    ) -> Option<([Tokens; N], bool)> {
        let mut sequences = match written {
            Ok(sequences) => sequences,
            Err(message) => {
                self.faults.push(line, None, message);
                return None;
            }
        };
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        if longest > self.longest {
            match self.truncation {
                Truncation::Cut => sequences.iter_mut().for_each(|sequence| sequence.truncate(self.longest)),
                Truncation::Drop => {
                    self.long.push(line);
                    return None;
                }
                Truncation::Fail => {
                    let message = format!(
                        "has {longest} tokens, and max_sequence_length is {}; a larger one, or truncation \"cut\" or \"drop\", \
                         lets the job run",
                        self.longest
                    );
                    self.faults.push(line, None, message);
                    return None;
                }
            }
        }
        let has_lesson = |sequence: &Tokens| sequence.iter().skip(1).any(|(_, is_learned)| *is_learned);
        if sequences.iter().all(has_lesson) {
            return Some((sequences, longest > self.longest));
        }
        self.empty.push(line);
        None
    }

    /// Says what was left out of the file that the request's field `param` names.
    ///
    /// # Errors
    /// An example could not be written, or is too long where that is refused.
    pub(super) fn finish(self, param: &'static str, observer: &dyn Observer) -> Result<()> {
        if !self.faults.is_empty() {
            return Err(EngineError::Data { param, message: self.faults.summary() });
        }
        for (lines, why) in [
            (self.long, "longer than max_sequence_length"),
            (self.empty, "without anything to learn within max_sequence_length"),
        ] {
            if let Some(&first) = lines.first() {
                let count = lines.len();
                let examples = if count == 1 { "example is" } else { "examples are" };
                let message = format!("{count} {examples} left out of {param}, {why}; the first is on line {first}");
                observer.report(TrainerMessage::Notice { warning: true, message });
            }
        }
        Ok(())
    }
}

/// Refuses to train on nothing.
///
/// # Errors
/// There is nothing.
pub(super) fn some_left(count: usize, longest: usize) -> Result<()> {
    if count > 0 {
        return Ok(());
    }
    let message = format!("nothing is left to learn within max_sequence_length, which is {longest}");
    Err(EngineError::Data { param: "training_file", message })
}
