//! Masked language modelling (Devlin et al. 2019) on plain texts, as in Transformers' `…ForMaskedLM` with its data collator:
//! adapts a model to the language of a domain.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tch::{Device, Kind, Reduction, Tensor};

use super::ahead::Ahead;
use super::base::TextBase;
use super::guessed::Guessed;
use super::task::{Batch, Counts, Forward, Task, on_device};
use super::{DataSummary, Loaded};
use crate::data::corpus::Corpus;
use crate::data::sampler::by_length;
use crate::data::source::{BatchSource, Pick, Subset};
use crate::data::splits::Splits;
use crate::data::texts::{Change, Packed, uniform};
use crate::device::ComputeDevice;
use crate::error::Result;
use crate::export::{AdapterFiles, ModelFiles};
use crate::models::text::{MaskedLm, SentenceConfig, TextTask, Tokens};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::Placement;
use crate::score::Evaluation;
use finetuned::domain::estimate::EVALUATION_TOKENS;
use finetuned::domain::method::masked_lm::Settings;
use finetuned::domain::metric::ACCURACY;
use finetuned::domain::random::mix_all;
use finetuned::domain::run::{DataFile, RunSpec};

/// The epoch that evaluations draw their masks from: the same ones every time.
const EVALUATION_EPOCH: u64 = u64::MAX;

/// A masked language model and its data.
struct MaskedLmTask {
    model: MaskedLm,
    device: Device,
    source: Arc<HiddenWords>,
}

/// Texts whose words are hidden.
struct HiddenWords {
    splits: Splits<Corpus>,
    masking: Masking,
}

/// How tokens are chosen to be guessed: a function of seed, epoch, text and place.
#[derive(Clone, Copy)]
struct Masking {
    seed: i64,
    probability: f64,
    /// The mask token's id.
    mask: u32,
    /// Ids that a token may be replaced by.
    vocabulary: u32,
}

/// What becomes of a token that is to be guessed.
const MASKED: f64 = 0.8;
const REPLACED: f64 = 0.1;

/// The masking as one epoch has it.
struct EpochMasking {
    masking: Masking,
    epoch: u64,
}

impl EpochMasking {
    fn draw(&self, index: usize, place: u64, what: u64) -> f64 {
        uniform(&[self.masking.seed.cast_unsigned(), self.epoch, index as u64, place, what])
    }

    /// The places of text number `index` that are to be guessed: each word with the same probability, and of a text in
    /// which none would be, one, so that every text counts. `words` as in [`Texts::words_of`].
    fn chosen(&self, index: usize, words: &[u32]) -> Vec<usize> {
        let draw = |word: u32| self.draw(index, u64::from(word), 0);
        let chosen: Vec<usize> = (0..words.len())
            .filter(|&place| words[place] > 0 && draw(words[place]) < self.masking.probability)
            .collect();
        if !chosen.is_empty() {
            return chosen;
        }
        let least = words.iter().copied().filter(|&word| word > 0).min_by(|&a, &b| draw(a).total_cmp(&draw(b)));
        (0..words.len()).filter(|&place| Some(words[place]) == least).collect()
    }
}

impl Change for EpochMasking {
    fn change(&self, index: usize, ids: &[u32], words: &[u32]) -> Vec<u32> {
        let mut changed = ids.to_vec();
        for place in self.chosen(index, words) {
            let fate = self.draw(index, place as u64, 1);
            if fate < MASKED {
                changed[place] = self.masking.mask;
            } else if fate < MASKED + REPLACED {
                let random = mix_all(&[self.masking.seed.cast_unsigned(), self.epoch, index as u64, place as u64, 2]);
                changed[place] = (random % u64::from(self.masking.vocabulary)) as u32;
            }
        }
        changed
    }
}

/// A batch with its hidden words.
struct Puzzle {
    texts: Vec<usize>,
    tokens: Packed,
    /// The places to be guessed in the packed batch, `R`.
    rows: Vec<i64>,
    /// What stands there.
    answers: Vec<i64>,
    /// How many places of each text are to be guessed.
    counts: Vec<usize>,
}

/// Reads the model and the data that `spec` names.
///
/// # Errors
/// The model or a data file cannot be used.
pub(super) fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    let own: Settings = super::settings(spec)?;
    let mut base = TextBase::open(spec)?;
    if own.whole_word_masking {
        base.tokenizer = base.tokenizer.with_words();
    }
    let (config, mask) = (&base.config, base.tokenizer.mask()?);
    let load = |file: &DataFile, param| Corpus::load(file, param, &base.tokenizer, observer);
    let splits = Splits::load(spec, Corpus::default, load)?;
    let policy = base.policy(spec);
    let placement = Placement { device: device.device, compute, seed: spec.seed, policy: &policy };
    let (model, table, report) = base.build(placement, MaskedLm::new)?;
    let data = DataSummary::of_texts(&splits, |part| part.lines.len(), |part| &part.texts);
    let vocabulary = u32::try_from(config.vocab_size()).unwrap_or(u32::MAX);
    let masking = Masking { seed: spec.seed, probability: own.mlm_probability, mask, vocabulary };
    let source = Arc::new(HiddenWords { splits, masking });
    let task = MaskedLmTask { model, device: device.device, source };
    let files = ModelFiles::new(&spec.model, &config.architecture(TextTask::MaskedLm))?
        .with_adapter(AdapterFiles::new(&policy, &spec.model_name, None))
        .with_files(sentence_files(&spec.model, config.hidden_size()));
    Ok(Loaded { task: Box::new(Ahead::new(task)), table, policy, report, data, files })
}

/// What the base model is for as one of sentence-transformers, which an embedder made of this one needs to know.
fn sentence_files(directory: &Path, width: i64) -> BTreeMap<String, Value> {
    let given = SentenceConfig::open(directory, width).ok().filter(SentenceConfig::is_given);
    given.map(|sentence| sentence.files(None)).unwrap_or_default()
}

/// Whether the model in `directory` can be trained.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    let base = TextBase::outline(directory)?;
    base.check(MaskedLm::new)?;
    base.tokenizer.mask().map(drop)
}

impl BatchSource for HiddenWords {
    type Batch = Puzzle;

    fn size(&self, subset: Subset) -> usize {
        self.splits.get(subset).lines.len()
    }

    fn groups(&self, subset: Subset) -> Vec<Vec<usize>> {
        by_length(&self.splits.get(subset).texts.lengths(), EVALUATION_TOKENS, usize::MAX)
    }

    fn make(&self, pick: &Pick) -> Result<Puzzle> {
        let epoch = pick.view.epoch().unwrap_or(EVALUATION_EPOCH);
        let (texts, masking) = (&self.splits.get(pick.subset).texts, EpochMasking { masking: self.masking, epoch });
        let (mut rows, mut answers, mut counts, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for &text in &pick.examples {
            let (ids, chosen) = (texts.ids_of(text), masking.chosen(text, texts.words_of(text)));
            counts.push(chosen.len());
            rows.extend(chosen.iter().map(|&place| (start + place) as i64));
            answers.extend(chosen.iter().map(|&place| i64::from(ids[place])));
            start += ids.len();
        }
        let tokens = texts.pack(&pick.examples, Some(&masking));
        Ok(Puzzle { texts: pick.examples.clone(), tokens, rows, answers, counts })
    }
}

/// Texts on the device, and their hidden words: int64 `[R]` where they stand and what they are.
struct PuzzleInputs {
    tokens: Tokens,
    rows: Tensor,
    answers: Tensor,
}

impl Task for MaskedLmTask {
    type Data = HiddenWords;
    type Inputs = PuzzleInputs;
    /// Of each text, its hidden words.
    type Outputs<'a> = Guessed;

    fn source(&self) -> &Arc<HiddenWords> {
        &self.source
    }

    fn count(&self, examples: &[usize], epoch: u64) -> f64 {
        let (texts, masking) =
            (&self.source.splits.training.texts, EpochMasking { masking: self.source.masking, epoch });
        let hidden = examples.iter().map(|&text| masking.chosen(text, texts.words_of(text)).len());
        hidden.sum::<usize>().max(1) as f64
    }

    fn counts(&self, puzzle: &Puzzle) -> Counts {
        Counts { tokens: puzzle.tokens.tokens(), whole: puzzle.answers.len() as f64 }
    }

    fn inputs(&self, puzzle: &Puzzle) -> Result<PuzzleInputs> {
        let (rows, answers) = (on_device(&puzzle.rows, self.device)?, on_device(&puzzle.answers, self.device)?);
        Ok(PuzzleInputs { tokens: puzzle.tokens.on(self.device)?, rows, answers })
    }

    fn forward(&self, inputs: &PuzzleInputs, mode: &Mode) -> Result<Forward> {
        let PuzzleInputs { tokens, rows, answers } = inputs;
        let logits = self.model.forward(tokens, rows, mode)?;
        let right = tch::no_grad(|| logits.f_argmax(1, false)?.f_eq_tensor(answers)?.f_sum(Kind::Int64))?;
        let loss_sum = logits.f_cross_entropy_loss(answers, None::<Tensor>, Reduction::Sum, -100, 0.0)?;
        Ok(Forward { loss_sum, parts: vec![(ACCURACY, right)], seen: None })
    }

    fn begin(&self, subset: Subset) -> Guessed {
        Guessed::new(self.source.size(subset))
    }

    fn add(&self, outputs: &mut Guessed, puzzle: &Batch<Self>) -> Result<()> {
        let PuzzleInputs { tokens, rows, answers } = self.inputs(puzzle)?;
        let logits = self.model.forward(&tokens, &rows, &Mode::eval())?;
        let losses = logits.f_cross_entropy_loss(&answers, None::<Tensor>, Reduction::None, -100, 0.0)?;
        let right = logits.f_argmax(1, false)?.f_eq_tensor(&answers)?.f_to_kind(Kind::Int64)?;
        outputs.add(&puzzle.texts, &puzzle.counts, &losses, &right)
    }

    fn score<'a>(
        &'a self,
        subset: Subset,
        outputs: Guessed,
        _intervals: Option<&dyn Observer>,
    ) -> Option<Evaluation<'a>> {
        let lines = &self.source.splits.get(subset).lines;
        Some(outputs.evaluation("masked_tokens", |text| lines[text]))
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, EpochMasking, Masking};

    fn masking(epoch: u64) -> EpochMasking {
        EpochMasking { masking: Masking { seed: 1, probability: 0.15, mask: 9, vocabulary: 1000 }, epoch }
    }

    #[test]
    fn the_shares_are_those_of_the_data_collator() {
        let ids = vec![5000; 20_000];
        let words: Vec<u32> = (1..=20_000).collect();
        let chosen = masking(0).chosen(0, &words).len() as f64 / 20_000.0;
        assert!((chosen - 0.15).abs() < 0.01, "{chosen}");
        let changed = masking(0).change(0, &ids, &words);
        let masked = changed.iter().filter(|&&id| id == 9).count() as f64 / 20_000.0;
        let replaced = changed.iter().filter(|&&id| id < 1000 && id != 9).count() as f64 / 20_000.0;
        assert!((masked - 0.12).abs() < 0.01 && (replaced - 0.015).abs() < 0.004, "{masked} {replaced}");
        assert_eq!(changed, masking(0).change(0, &ids, &words));
        assert_ne!(changed, masking(1).change(0, &ids, &words));
    }

    #[test]
    fn words_are_hidden_whole_special_tokens_never_and_no_text_goes_without() {
        // Word 1 has three tokens; the ends are special.
        let words = [0, 1, 1, 1, 2, 0];
        for epoch in 0..200 {
            let chosen = masking(epoch).chosen(0, &words);
            assert!(!chosen.is_empty() && !chosen.contains(&0) && !chosen.contains(&5));
            assert!(chosen.iter().filter(|&&place| place < 4).count() % 3 == 0, "{chosen:?}");
        }
        assert!(masking(0).chosen(0, &[0, 0]).is_empty());
    }
}
