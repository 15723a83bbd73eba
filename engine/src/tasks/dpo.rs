//! Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) as in TRL: without dropout, with the log-probabilities
//! of answers summed over their tokens. What the model said of every answer before it was trained is computed once, when
//! the run begins, so no second model is needed, whatever is trained.

mod judging;

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use self::judging::{Judge, log_probabilities};
use super::ahead::{Ahead, each};
use super::base::TextBase;
use super::causal::{Built, LessonInputs, built, summary};
use super::preview::Show;
use super::task::{Batch, Counts, Forward, Task, on_device};
use super::writing::{self, Fitting, Tokens, Writer, some_left};
use super::{DataSummary, Loaded};
use crate::data::reader::Examples;
use crate::data::rivals::Rivals;
use crate::data::sampler::by_length;
use crate::data::source::{BatchSource, Pick, Subset, View};
use crate::data::splits::Splits;
use crate::data::tokens::Lesson;
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::models::text::CausalLm;
use crate::nn::Mode;
use crate::observer::Observer;
use crate::score::{Evaluation, Lines};
use crate::text::TextTokenizer;
use finetuned::dataset::preferences::{self, Choice};
use finetuned::dataset::preview::{Content, PreviewSpec};
use finetuned::domain::chat::Conversation;
use finetuned::domain::estimate::EVALUATION_TOKENS;
use finetuned::domain::method::dpo::Settings;
use finetuned::domain::metric::preferences::{CHOSEN_REWARD, Judged, REJECTED_REWARD, REWARD_MARGIN, SCORES};
use finetuned::domain::metric::{ACCURACY, LOSS, scores};
use finetuned::domain::preview::Preview;
use finetuned::domain::run::{DataFile, RunSpec};

/// A language model, its pairs of answers, and what it said of them at first.
struct DpoTask {
    model: CausalLm,
    device: Device,
    source: Arc<Pairs>,
    judge: Judge,
    /// By subset: log-probabilities of the preferred and of the other answer of each pair.
    reference: Splits<Vec<[f32; 2]>>,
}

/// Pairs of answers in host memory.
struct Pairs(Splits<Rivals>);

/// A batch: the numbers of its pairs, and their sequences.
struct Duel {
    pairs: Vec<usize>,
    subset: Subset,
    lesson: Lesson,
}

/// Reads the model and the data that `spec` names, and asks the model what it says of all answers.
///
/// # Errors
/// The model or a data file cannot be used, or the run shall stop.
pub(super) fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    let own: Settings = super::settings(spec)?;
    let longest = spec.hyperparameters.course.max_sequence_length as usize;
    let base = TextBase::open_uncut(spec)?;
    let writer = Writer::open(&spec.model, &base.tokenizer)?;
    let load = |file: &DataFile, param| rivals(&writer, file, param, Fitting::new(longest, own.truncation), observer);
    let splits = Splits::load(spec, Rivals::default, load)?;
    writer.report(observer);
    if spec.training.is_some() {
        some_left(splits.training.len(), longest)?;
    }
    let Built { model, table, policy, report, files } = built(spec, &base, own.kept, device, compute)?;
    let lengths = splits.each(|rivals| (rivals.len(), rivals.token_lengths(), rivals.tokens()));
    let data: DataSummary = summary(lengths, (splits.training.len(), splits.validation.len()));
    let judge = Judge { beta: own.beta, loss: own.loss, label_smoothing: own.label_smoothing };
    let reference = splits.each(|rivals| vec![[0.0; 2]; rivals.len()]);
    let mut task = DpoTask { model, device: device.device, source: Arc::new(Pairs(splits)), judge, reference };
    task.ask(observer)?;
    Ok(Loaded { task: Box::new(Ahead::new(task)), table, policy, report, data, files })
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
    let named = |[preferred, other]: [Tokens; 2]| vec![("preferred", preferred), ("non_preferred", other)];
    Show::new(spec, tokenizer, own.truncation).examples(&spec.examples, |content| {
        let Content::Choice(choice) = content else { return Ok(None) };
        Ok(Some(written(&writer, choice).map(named)))
    })
}

/// The preferred answer and the other one, each behind what it answers.
fn written(writer: &Writer<'_>, choice: &Choice) -> std::result::Result<[Tokens; 2], String> {
    match choice {
        Choice::Conversation { input, preferred, non_preferred } => {
            let answered = |answer: &[_]| {
                let messages = [input.messages.as_slice(), answer].concat();
                let whole = Conversation { messages, ..input.clone() };
                writer.conversation(&whole, |message| message >= input.messages.len())
            };
            Ok([answered(preferred)?, answered(non_preferred)?])
        }
        Choice::Completion { prompt, preferred, non_preferred } => {
            Ok([writer.completion(prompt, preferred)?, writer.completion(prompt, non_preferred)?])
        }
    }
}

/// The pairs of a file.
///
/// # Errors
/// The file is not as it was when the job was validated; or a conversation cannot be written, or is too long.
fn rivals(
    writer: &Writer<'_>,
    file: &DataFile,
    param: &'static str,
    mut fitting: Fitting,
    observer: &dyn Observer,
) -> Result<Rivals> {
    let mut rivals = Rivals::default();
    for preference in Examples::open(file, param, observer, preferences::read)? {
        let preference = preference?;
        let written = written(writer, &preference.choice);
        if let Some((pair, is_truncated)) = fitting.take(preference.line, written) {
            rivals.push(pair, preference.line, preference.print(), is_truncated);
        }
    }
    fitting.finish(param, observer)?;
    Ok(rivals)
}

/// Answers on the device; int64 `[2 P]` how many tokens each has; and the reference's log-probabilities of them, float32 `[P, 2]`.
struct DuelInputs {
    lesson: LessonInputs,
    lengths: Tensor,
    before: Tensor,
}

impl BatchSource for Pairs {
    type Batch = Duel;

    fn size(&self, subset: Subset) -> usize {
        self.0.get(subset).len()
    }

    fn groups(&self, subset: Subset) -> Vec<Vec<usize>> {
        by_length(&self.0.get(subset).lengths(), EVALUATION_TOKENS, usize::MAX)
    }

    fn make(&self, pick: &Pick) -> Result<Duel> {
        let lesson = self.0.get(pick.subset).pack(&pick.examples);
        Ok(Duel { pairs: pick.examples.clone(), subset: pick.subset, lesson })
    }
}

impl DpoTask {
    /// Asks the model, as it is, for the log-probabilities of all answers.
    fn ask(&mut self, observer: &dyn Observer) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for subset in [Subset::Training, Subset::Validation, Subset::Test] {
            let mut found = vec![[0.0; 2]; self.source.size(subset)];
            let seen_all = each(&self.source, subset, View::Plain, observer, |duel: Duel| {
                let (log_probabilities, _) = self.log_probabilities(&self.inputs(&duel)?)?;
                let values = Vec::<Vec<f32>>::try_from(&log_probabilities.f_to_device(Device::Cpu)?)?;
                for (&pair, value) in duel.pairs.iter().zip(values) {
                    found[pair] = [value[0], value[1]];
                }
                Ok(())
            })?;
            *self.reference.get_mut(subset) = found;
            if !seen_all {
                return Err(EngineError::Stopped);
            }
        }
        Ok(())
    }

    /// Log-probabilities of the answers of a batch, float32 `[P, 2]`, and how many tokens each has, `[P, 2]`.
    fn log_probabilities(&self, inputs: &DuelInputs) -> Result<(Tensor, Tensor)> {
        let (losses, _) = inputs.lesson.guess(&self.model, &Mode::eval())?;
        log_probabilities(&losses, &inputs.lengths)
    }

    /// Losses of pairs `[P]`, and rewards of their answers `[P, 2]`.
    fn judge(&self, inputs: &DuelInputs) -> Result<(Tensor, Tensor)> {
        let (found, counts) = self.log_probabilities(inputs)?;
        self.judge.judge(&found.f_sub(&inputs.before)?, &counts)
    }
}

impl Task for DpoTask {
    type Data = Pairs;
    type Inputs = DuelInputs;
    /// Of each pair the loss, and the rewards of its answers.
    type Outputs<'a> = Vec<[f64; 3]>;

    fn source(&self) -> &Arc<Pairs> {
        &self.source
    }

    fn count(&self, examples: &[usize], _epoch: u64) -> f64 {
        examples.len() as f64
    }

    fn counts(&self, duel: &Duel) -> Counts {
        Counts { tokens: duel.lesson.tokens.tokens(), whole: duel.pairs.len() as f64 }
    }

    fn inputs(&self, duel: &Duel) -> Result<DuelInputs> {
        let lengths: Vec<i64> = duel.lesson.counts.iter().map(|&count| count as i64).collect();
        let before: Vec<f32> = duel.pairs.iter().flat_map(|&pair| self.reference.get(duel.subset)[pair]).collect();
        Ok(DuelInputs {
            lesson: LessonInputs::new(&duel.lesson, self.device)?,
            lengths: on_device(&lengths, self.device)?,
            before: on_device(&before, self.device)?.f_view([-1, 2])?,
        })
    }

    /// Without dropout, whatever the mode: the reference was asked without it, too.
    fn forward(&self, inputs: &DuelInputs, _mode: &Mode) -> Result<Forward> {
        let (losses, rewards) = self.judge(inputs)?;
        let rewards = rewards.f_detach()?;
        let (chosen, rejected) = (rewards.f_select(1, 0)?, rewards.f_select(1, 1)?);
        let part = |metric, part: Tensor| Ok::<_, EngineError>((metric, part.f_sum(Kind::Double)?));
        let parts = vec![
            part(ACCURACY, chosen.f_gt_tensor(&rejected)?)?,
            part(REWARD_MARGIN, chosen.f_sub(&rejected)?)?,
            part(CHOSEN_REWARD, chosen)?,
            part(REJECTED_REWARD, rejected)?,
        ];
        Ok(Forward { loss_sum: losses.f_sum(Kind::Float)?, parts, seen: None })
    }

    fn begin(&self, subset: Subset) -> Vec<[f64; 3]> {
        vec![[0.0; 3]; self.source.size(subset)]
    }

    fn add(&self, outputs: &mut Vec<[f64; 3]>, duel: &Batch<Self>) -> Result<()> {
        let (losses, rewards) = self.judge(&self.inputs(duel)?)?;
        let all = Tensor::f_cat(&[losses.f_unsqueeze(1)?, rewards], 1)?.f_to_kind(Kind::Double)?;
        for (&pair, row) in duel.pairs.iter().zip(Vec::<Vec<f64>>::try_from(&all.f_to_device(Device::Cpu)?)?) {
            outputs[pair] = [row[0], row[1], row[2]];
        }
        Ok(())
    }

    fn score<'a>(
        &'a self,
        subset: Subset,
        outputs: Vec<[f64; 3]>,
        _intervals: Option<&dyn Observer>,
    ) -> Option<Evaluation<'a>> {
        let sum = |column: usize| outputs.iter().map(|row| row[column]).sum();
        let judged = Judged {
            loss_sum: sum(0),
            right: outputs.iter().filter(|row| row[1] > row[2]).count() as u64,
            chosen: sum(1),
            rejected: sum(2),
            count: outputs.len() as u64,
        };
        let rivals = self.source.0.get(subset);
        let line = Lines::new(move |pair| {
            let [loss, chosen, rejected] = outputs[pair];
            json!({"line": rivals.line(pair), LOSS.name(): loss, CHOSEN_REWARD.name(): chosen, REJECTED_REWARD.name(): rejected})
        });
        Some(Evaluation::new(rivals.len(), judged.loss(), scores(&SCORES, &judged), line))
    }
}
