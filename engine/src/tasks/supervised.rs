//! Supervised fine-tuning: what an assistant says in conversations, as their model's chat template writes it, and how texts
//! go on. The loss is that of what is learned alone, as with TRL's `assistant_only_loss` and `completion_only_loss`.

use std::path::Path;

use tch::Kind;

use super::Loaded;
use super::base::TextBase;
use super::causal;
use crate::data::reader::Examples;
use crate::data::splits::Splits;
use crate::data::tokens::{Curriculum, Sequence, TokenRows};
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::models::text::CausalLm;
use crate::observer::Observer;
use crate::text::chat::ChatTemplate;
use finetuned::dataset::chats::{self, Demonstration, Sample};
use finetuned::domain::method::language::Truncation;
use finetuned::domain::method::supervised::Settings;
use finetuned::domain::report::Faults;
use finetuned::domain::run::{DataFile, RunSpec, TrainerMessage};

/// Reads the model and the data that `spec` names.
///
/// # Errors
/// The model or a data file cannot be used.
pub(super) fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    let own: Settings = super::settings(spec)?;
    let longest = spec.hyperparameters.course.max_sequence_length as usize;
    let base = TextBase::open_uncut(spec)?;
    let writer = Writer {
        base: &base,
        template: ChatTemplate::open(&spec.model).map_err(EngineError::model)?,
        end: base.tokenizer.end()?,
        longest,
        truncation: own.truncation,
        observer,
    };
    let splits = Splits::load(spec, TokenRows::default, |file, param| writer.rows(file, param))?;
    if splits.training.is_empty() && spec.training.is_some() {
        let message = format!("nothing is left to learn within max_sequence_length, which is {longest}");
        return Err(EngineError::Data { param: "training_file", message });
    }
    let examples = (splits.training.len(), splits.validation.len());
    let curriculum = Curriculum::new(splits, own.packing.then_some(longest));
    causal::loaded(spec, &base, curriculum, examples, device, compute)
}

/// Whether the model in `directory` can be trained. One without a chat template can, on texts that go on.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    let base = TextBase::outline(directory)?;
    base.check(CausalLm::new)?;
    base.tokenizer.end()?;
    ChatTemplate::open(directory).map(drop).map_err(EngineError::model)
}

/// Makes sequences of demonstrations.
struct Writer<'a> {
    base: &'a TextBase,
    template: Option<ChatTemplate>,
    /// The token that ends a text.
    end: u32,
    longest: usize,
    truncation: Truncation,
    observer: &'a dyn Observer,
}

/// What is said of a model that cannot read conversations.
const NO_TEMPLATE: &str = "the model has no chat template, which says how it reads conversations: import it with a \
                           chat_template.jinja, or give prompt and completion as texts";

impl Writer<'_> {
    /// The sequences of a file.
    ///
    /// # Errors
    /// The file is not as it was when the job was validated; or a conversation cannot be written, or is too long.
    fn rows(&self, file: &DataFile, param: &'static str) -> Result<TokenRows> {
        let (mut rows, mut faults) = (TokenRows::default(), Faults::default());
        let (mut long, mut empty) = (Vec::new(), Vec::new());
        for demonstration in Examples::open(file, param, self.observer, chats::read)? {
            let demonstration = demonstration?;
            let line = demonstration.line;
            let mut tokens = match self.tokens(&demonstration) {
                Ok(tokens) => tokens,
                Err(message) => {
                    faults.push(line, None, message);
                    continue;
                }
            };
            let is_truncated = tokens.len() > self.longest;
            if is_truncated {
                match self.truncation {
                    Truncation::Cut => tokens.truncate(self.longest),
                    Truncation::Drop => {
                        long.push(line);
                        continue;
                    }
                    Truncation::Fail => {
                        let message = format!(
                            "has {} tokens, and max_sequence_length is {}; a larger one, or truncation \"cut\" or \"drop\", \
                             lets the job run",
                            tokens.len(),
                            self.longest
                        );
                        faults.push(line, None, message);
                        continue;
                    }
                }
            }
            if tokens.iter().skip(1).any(|(_, is_learned)| *is_learned) {
                rows.push(Sequence { tokens, line, print: demonstration.print(), is_truncated });
            } else {
                empty.push(line);
            }
        }
        if !faults.is_empty() {
            return Err(EngineError::Data { param, message: faults.summary() });
        }
        for (lines, why) in [
            (long, "are longer than max_sequence_length and left out"),
            (empty, "hold nothing to learn within max_sequence_length and are left out"),
        ] {
            if let Some(&first) = lines.first() {
                let count = lines.len();
                let message = format!("{count} examples of {param} {why}, the first on line {first}");
                self.observer.report(TrainerMessage::Notice { warning: true, message });
            }
        }
        Ok(rows)
    }

    /// The tokens of a demonstration, and which of them are learned.
    fn tokens(&self, demonstration: &Demonstration) -> std::result::Result<Vec<(u32, bool)>, String> {
        match &demonstration.sample {
            Sample::Conversation(conversation) => {
                let template = self.template.as_ref().ok_or_else(|| NO_TEMPLATE.to_owned())?;
                let rendered = template.rendered(conversation)?;
                self.base.tokenizer.rendered(&rendered, |message| conversation.messages[message].is_learned)
            }
            Sample::Completion { prompt, completion } => self.base.tokenizer.completion(prompt, completion, self.end),
        }
    }
}
