//! Supervised fine-tuning: what an assistant says in conversations, as the model's chat template writes it, and how texts
//! go on. The loss is that of what is learned alone, as with TRL's `assistant_only_loss` and `completion_only_loss`.

use std::path::Path;

use tch::Kind;

use super::Loaded;
use super::base::TextBase;
use super::causal;
use super::preview::Show;
use super::writing::{self, Fitting, Tokens, Writer, some_left};
use crate::data::reader::Examples;
use crate::data::splits::Splits;
use crate::data::tokens::{Curriculum, Sequence, TokenRows};
use crate::device::ComputeDevice;
use crate::error::Result;
use crate::observer::Observer;
use crate::text::TextTokenizer;
use finetuned::dataset::chats::{self, Sample};
use finetuned::dataset::preview::{Content, PreviewSpec};
use finetuned::domain::method::supervised::Settings;
use finetuned::domain::preview::Preview;
use finetuned::domain::run::{DataFile, RunSpec};

/// Reads the model and the data that `spec` names.
///
/// # Errors
/// The model or a data file cannot be used.
pub(super) fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    let own: Settings = super::settings(spec)?;
    let longest = spec.hyperparameters.course.max_sequence_length as usize;
    let base = TextBase::open_uncut(spec)?;
    let writer = Writer::open(&spec.model, &base.tokenizer)?;
    let load = |file: &DataFile, param| rows(&writer, file, param, Fitting::new(longest, own.truncation), observer);
    let splits = Splits::load(spec, TokenRows::default, load)?;
    writer.report(observer);
    if spec.training.is_some() {
        some_left(splits.training.len(), longest)?;
    }
    let examples = (splits.training.len(), splits.validation.len());
    let curriculum = Curriculum::new(splits, own.packing.then_some(longest));
    causal::loaded(spec, &base, curriculum, (examples, own.kept), device, compute)
}

/// Whether the model in `directory` can be trained.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    writing::check(directory)
}

/// What the model reads of examples.
///
/// # Errors
/// The model's files cannot be used.
pub(super) fn preview(spec: &PreviewSpec, tokenizer: &TextTokenizer) -> Result<Vec<Preview>> {
    let own: Settings = super::own_settings(spec.method, &spec.hyperparameters)?;
    let writer = Writer::open(&spec.model, tokenizer)?;
    Show::new(spec, tokenizer, own.truncation).examples(&spec.examples, |content| {
        let Content::Sample(sample) = content else { return Ok(None) };
        Ok(Some(written(&writer, sample).map(|tokens| vec![("example", tokens)])))
    })
}

fn written(writer: &Writer<'_>, sample: &Sample) -> std::result::Result<Tokens, String> {
    match sample {
        Sample::Conversation(conversation) => {
            writer.conversation(conversation, |message| conversation.messages[message].is_learned)
        }
        Sample::Completion { prompt, completion } => writer.completion(prompt, completion),
    }
}

/// The sequences of a file.
///
/// # Errors
/// The file is not as it was when the job was validated; or a conversation cannot be written, or is too long.
fn rows(
    writer: &Writer<'_>,
    file: &DataFile,
    param: &'static str,
    mut fitting: Fitting,
    observer: &dyn Observer,
) -> Result<TokenRows> {
    let mut rows = TokenRows::default();
    for demonstration in Examples::open(file, param, observer, chats::read)? {
        let demonstration = demonstration?;
        let line = demonstration.line;
        let sequences = written(writer, &demonstration.sample).map(|tokens| [tokens]);
        if let Some(([tokens], is_truncated)) = fitting.take(line, sequences) {
            rows.push(Sequence { tokens, line, print: demonstration.print(), is_truncated });
        }
    }
    fitting.finish(param, observer)?;
    Ok(rows)
}
