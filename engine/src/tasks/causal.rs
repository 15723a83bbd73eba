//! Guessing the next tokens of sequences, as language models are trained: the task of every method that does so.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::ahead::Ahead;
use super::base::TextBase;
use super::guessed::Guessed;
use super::task::{Batch, Counts, Forward, Task, on_device};
use super::{DataSummary, Loaded};
use crate::data::sampler::by_length;
use crate::data::source::{BatchSource, Pick, Subset};
use crate::data::splits::Splits;
use crate::data::tokens::{Curriculum, Lesson, TokenRows};
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::export::{AdapterFiles, ModelFiles};
use crate::models::text::{CausalLm, TextTask, Tokens};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::{LoadReport, ParamTable, Placement};
use crate::policy::Policy;
use crate::score::Evaluation;
use crate::weights::adapter_upon;
use finetuned::domain::estimate::EVALUATION_TOKENS;
use finetuned::domain::method::language::{ExportForm, Kept};
use finetuned::domain::metric::ACCURACY;
use finetuned::domain::report::{Part, TokenLengths};
use finetuned::domain::run::RunSpec;
use finetuned::gguf;

/// A language model and its data.
struct CausalTask {
    model: CausalLm,
    device: Device,
    source: Arc<Curriculum>,
}

/// Sequences on the device, and what is learned of them: int64 `[R]` the places that words follow, and these words.
pub(super) struct LessonInputs {
    tokens: Tokens,
    places: Tensor,
    targets: Tensor,
}

impl LessonInputs {
    pub(super) fn new(lesson: &Lesson, device: Device) -> Result<Self> {
        let (places, targets) = (on_device(&lesson.places, device)?, on_device(&lesson.targets, device)?);
        Ok(Self { tokens: lesson.tokens.on(device)?, places, targets })
    }

    /// Losses of a model's guesses (float32 `[R]`), and whether they are right (int64 `[R]`).
    pub(super) fn guess(&self, model: &CausalLm, mode: &Mode) -> Result<(Tensor, Tensor)> {
        model.losses(&self.tokens, &self.places, &self.targets, mode)
    }
}

/// A language model that was built, and what belongs to it.
pub(super) struct Built {
    pub(super) model: CausalLm,
    pub(super) table: ParamTable,
    pub(super) policy: Policy,
    pub(super) report: LoadReport,
    pub(super) files: ModelFiles,
}

/// The language model that `spec` names.
///
/// # Errors
/// It cannot be built, or not be kept as it is to be.
pub(super) fn built(
    spec: &RunSpec,
    base: &TextBase,
    kept: Kept,
    device: ComputeDevice,
    compute: Kind,
) -> Result<Built> {
    if kept.export == ExportForm::Gguf && spec.training.is_some() {
        gguf::check(&spec.model).map_err(|message| EngineError::Hyperparameter { name: "export", message })?;
    }
    let policy = base.policy(spec);
    let placement = Placement { device: device.device, compute, seed: spec.seed, policy: &policy };
    let (model, table, report) = base.build(placement, CausalLm::new)?;
    let files = ModelFiles::new(&spec.model, &base.config.architecture(TextTask::CausalLm))?
        .with_adapter(AdapterFiles::new(&policy, &root(spec)?, Some("CAUSAL_LM")))
        .kept_as(kept);
    Ok(Built { model, table, policy, report, files })
}

/// The name of the model that an adapter is for: of one that goes on, the one that it was for before.
fn root(spec: &RunSpec) -> Result<String> {
    let before = if spec.hyperparameters.tuning.adapter.is_continued() {
        adapter_upon(&spec.model)?.and_then(|adapter| adapter.base)
    } else {
        None
    };
    Ok(before.unwrap_or_else(|| spec.model_name.clone()))
}

/// The model that `spec` names with the sequences of its data, and how many examples these are made of: to train on, and to
/// validate with.
///
/// # Errors
/// The model cannot be built.
pub(super) fn loaded(
    spec: &RunSpec,
    base: &TextBase,
    curriculum: Curriculum,
    (examples, kept): ((usize, usize), Kept),
    device: ComputeDevice,
    compute: Kind,
) -> Result<Loaded> {
    let Built { model, table, policy, report, files } = built(spec, base, kept, device, compute)?;
    let parts = curriculum.splits().each(|rows| (rows.len(), rows.token_lengths(), rows.tokens()));
    let data = summary(parts, examples);
    let task = CausalTask { model, device: device.device, source: Arc::new(curriculum) };
    Ok(Loaded { task: Box::new(Ahead::new(task)), table, policy, report, data, files })
}

/// What was read: of each part how many sequences there are, how long they are, and their tokens; and how many examples are
/// trained on and validated with.
pub(super) fn summary(
    parts: Splits<(usize, TokenLengths, usize)>,
    (training, validation): (usize, usize),
) -> DataSummary {
    let tokens = parts.training.2;
    let named = [(Part::Training, parts.training), (Part::Validation, parts.validation), (Part::Test, parts.test)];
    let there = named.into_iter().filter(|(_, (count, ..))| *count > 0);
    let token_lengths: BTreeMap<_, _> = there.map(|(part, (_, lengths, _))| (part, lengths)).collect();
    DataSummary { training, validation, tokens, token_lengths }
}

impl BatchSource for Curriculum {
    type Batch = Lesson;

    fn size(&self, subset: Subset) -> usize {
        Curriculum::size(self, subset)
    }

    fn groups(&self, subset: Subset) -> Vec<Vec<usize>> {
        by_length(&self.get(subset).lengths(), EVALUATION_TOKENS, usize::MAX)
    }

    fn make(&self, pick: &Pick) -> Result<Lesson> {
        let rows = self.get(pick.subset);
        Ok(match pick.view.epoch() {
            Some(_) => rows.pack(&self.sequences(&pick.examples)),
            None => rows.pack(&pick.examples),
        })
    }
}

impl Task for CausalTask {
    type Data = Curriculum;
    type Inputs = LessonInputs;
    /// Of each sequence.
    type Outputs<'a> = Guessed;

    fn source(&self) -> &Arc<Curriculum> {
        &self.source
    }

    fn count(&self, examples: &[usize], _epoch: u64) -> f64 {
        let rows: &TokenRows = self.source.get(Subset::Training);
        let learned = self.source.sequences(examples).into_iter().map(|sequence| rows.learned(sequence));
        learned.sum::<usize>().max(1) as f64
    }

    fn counts(&self, lesson: &Lesson) -> Counts {
        Counts { tokens: lesson.tokens.tokens(), whole: lesson.targets.len() as f64 }
    }

    fn inputs(&self, lesson: &Lesson) -> Result<LessonInputs> {
        LessonInputs::new(lesson, self.device)
    }

    fn forward(&self, inputs: &LessonInputs, mode: &Mode) -> Result<Forward> {
        let (losses, right) = inputs.guess(&self.model, mode)?;
        let parts = vec![(ACCURACY, right.f_sum(Kind::Int64)?)];
        Ok(Forward { loss_sum: losses.f_sum(Kind::Float)?, parts, seen: None })
    }

    fn begin(&self, subset: Subset) -> Guessed {
        Guessed::new(self.source.get(subset).len())
    }

    fn add(&self, outputs: &mut Guessed, lesson: &Batch<Self>) -> Result<()> {
        let (losses, right) = self.inputs(lesson)?.guess(&self.model, &Mode::eval())?;
        outputs.add(&lesson.sequences, &lesson.counts, &losses, &right)
    }

    fn score<'a>(
        &'a self,
        subset: Subset,
        outputs: Guessed,
        _intervals: Option<&dyn Observer>,
    ) -> Option<Evaluation<'a>> {
        let rows = self.source.get(subset);
        Some(outputs.evaluation("tokens", |sequence| rows.line(sequence)))
    }
}
