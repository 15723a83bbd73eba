//! Masked language modelling (Devlin et al. 2019) on plain texts, as in Transformers' `…ForMaskedLM` with its data collator:
//! adapts a model to the language of a domain.

use std::path::Path;

use serde_json::json;
use tch::{Device, Kind, Reduction, Tensor};

use super::base::TextBase;
use super::splits::{Dataset, Splits};
use super::{DataSummary, Forward, Loaded, Recipe};
use crate::data::examples::partition;
use crate::data::reader::Examples;
use crate::data::sampler::by_length;
use crate::data::texts::{Change, Texts, TextsBuilder, uniform};
use crate::device::ComputeDevice;
use crate::error::Result;
use crate::export::{AdapterFiles, ModelFiles};
use crate::models::text::{MaskedLm, TextTask, Tokens};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::Placement;
use crate::score::{Evaluation, Lines};
use crate::text::TextTokenizer;
use finetuned::dataset::columns::TEXT_COLUMN;
use finetuned::dataset::texts;
use finetuned::domain::method::masked_lm::Settings;
use finetuned::domain::metric::guesses::{Guesses, HIDDEN_WORDS};
use finetuned::domain::metric::{LOSS, scores};
use finetuned::domain::random::mix_all;
use finetuned::domain::run::{DataFile, RunSpec};

/// Tokens of one evaluation batch.
const EVALUATION_TOKENS: usize = 8192;

/// The epoch that evaluations draw their masks from: the same ones every time.
const EVALUATION_EPOCH: u64 = u64::MAX;

/// Plain texts, and the lines that they stand on.
#[derive(Default)]
struct Corpus {
    texts: Texts,
    lines: Vec<u64>,
}

/// A masked language model and its data.
struct MaskedLmTask {
    model: MaskedLm,
    device: Device,
    training: Corpus,
    validation: Corpus,
    test: Option<Corpus>,
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
    tokens: Tokens,
    /// Int64 `[R]`: the places to be guessed in the packed batch.
    rows: Tensor,
    /// Int64 `[R]`: what stands there.
    answers: Tensor,
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
    let Splits { training, validation, test } = Splits::load(spec, Corpus::default(), load)?;
    let policy = base.policy(spec);
    let placement = Placement { device: device.device, compute, seed: spec.seed, policy: &policy };
    let (model, table, report) = base.build(placement, MaskedLm::new)?;
    let data = DataSummary {
        training: training.lines.len(),
        validation: validation.lines.len(),
        truncated: training.texts.truncated(),
        truncated_test: test.as_ref().map_or(0, |corpus: &Corpus| corpus.texts.truncated()),
        tokens: training.texts.tokens(),
    };
    let vocabulary = u32::try_from(config.vocab_size()).unwrap_or(u32::MAX);
    let masking = Masking { seed: spec.seed, probability: own.mlm_probability, mask, vocabulary };
    let recipe = MaskedLmTask { model, device: device.device, training, validation, test, masking };
    let files = ModelFiles::new(&spec.model, &config.architecture(TextTask::MaskedLm))?
        .with_adapter(AdapterFiles::new(&policy, &spec.model_name, None));
    Ok(Loaded { recipe: Box::new(recipe), table, policy, report, data, files })
}

/// Whether the model in `directory` can be trained.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    let base = TextBase::outline(directory)?;
    base.tokenizer.mask()?;
    base.check(MaskedLm::new)
}

impl Corpus {
    fn load(file: &DataFile, param: &'static str, tokenizer: &TextTokenizer, observer: &dyn Observer) -> Result<Self> {
        let column = file.text_column.as_deref().unwrap_or(TEXT_COLUMN);
        let (mut texts, mut lines) = (TextsBuilder::new(tokenizer), Vec::new());
        for text in Examples::open(file, param, observer, |input| texts::read(input, column))? {
            let text = text?;
            lines.push(text.line);
            texts.push(text.text, None)?;
        }
        Ok(Self { texts: texts.finish()?, lines })
    }
}

impl Dataset for Corpus {
    fn strata(&self) -> Vec<usize> {
        vec![0; self.lines.len()]
    }

    fn partition(self, keep: &[bool]) -> (Self, Self) {
        let (texts, other_texts) = self.texts.partition(keep);
        let (lines, other_lines) = partition(self.lines, keep);
        (Self { texts, lines }, Self { texts: other_texts, lines: other_lines })
    }
}

impl MaskedLmTask {
    fn puzzle(&self, corpus: &Corpus, indices: &[usize], epoch: u64) -> Result<Puzzle> {
        let masking = EpochMasking { masking: self.masking, epoch };
        let (mut rows, mut answers, mut counts, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for &index in indices {
            let (ids, chosen) = (corpus.texts.ids_of(index), masking.chosen(index, corpus.texts.words_of(index)));
            counts.push(chosen.len());
            rows.extend(chosen.iter().map(|&place| (start + place) as i64));
            answers.extend(chosen.iter().map(|&place| i64::from(ids[place])));
            start += ids.len();
        }
        Ok(Puzzle {
            tokens: corpus.texts.pack(indices, Some(&masking), self.device)?,
            rows: Tensor::f_from_slice(&rows)?.f_to_device(self.device)?,
            answers: Tensor::f_from_slice(&answers)?.f_to_device(self.device)?,
            counts,
        })
    }

    /// Scores `corpus`, or None if the run shall stop. The loss is the mean over all hidden words.
    fn evaluate<'a>(&self, corpus: &'a Corpus, observer: &dyn Observer) -> Result<Option<Evaluation<'a>>> {
        let _guard = tch::no_grad_guard();
        let mut found = vec![(0.0, 0, 0); corpus.lines.len()];
        for indices in by_length(&corpus.texts.lengths(), EVALUATION_TOKENS, usize::MAX) {
            if observer.stop().is_some() {
                return Ok(None);
            }
            observer.alive();
            let puzzle = self.puzzle(corpus, &indices, EVALUATION_EPOCH)?;
            let logits = self.model.forward(&puzzle.tokens, &puzzle.rows, &Mode::eval())?;
            let losses = logits.f_cross_entropy_loss(&puzzle.answers, None::<Tensor>, Reduction::None, -100, 0.0)?;
            let right = logits.f_argmax(1, false)?.f_eq_tensor(&puzzle.answers)?.f_to_kind(Kind::Int64)?;
            let losses = Vec::<f32>::try_from(&losses.f_to_device(Device::Cpu)?)?;
            let right = Vec::<i64>::try_from(&right.f_to_device(Device::Cpu)?)?;
            let mut start = 0;
            for (&index, &count) in indices.iter().zip(&puzzle.counts) {
                let loss: f64 = losses[start..start + count].iter().map(|&loss| f64::from(loss)).sum();
                found[index] = (loss, right[start..start + count].iter().sum::<i64>(), count);
                start += count;
            }
        }
        let guesses = Guesses {
            loss_sum: found.iter().map(|text| text.0).sum(),
            right: found.iter().map(|text| text.1.unsigned_abs()).sum(),
            count: found.iter().map(|text| text.2 as u64).sum(),
        };
        let lines = Lines::new(move |text| {
            let ((loss, right, count), line) = (found[text], corpus.lines[text]);
            json!({"line": line, "masked_tokens": count, "right": right, LOSS.name(): loss / count.max(1) as f64})
        });
        let loss = guesses.loss();
        Ok(Some(Evaluation::new(corpus.lines.len(), loss, scores(&HIDDEN_WORDS, &guesses), lines)))
    }
}

impl Recipe for MaskedLmTask {
    fn examples(&self) -> usize {
        self.training.lines.len()
    }

    fn weight(&self, examples: &[usize], epoch: u64) -> f64 {
        let masking = EpochMasking { masking: self.masking, epoch };
        let hidden = examples.iter().map(|&index| masking.chosen(index, self.training.texts.words_of(index)).len());
        hidden.sum::<usize>().max(1) as f64
    }

    fn forward(&self, examples: &[usize], epoch: u64, mode: &Mode) -> Result<Forward> {
        let puzzle = self.puzzle(&self.training, examples, epoch)?;
        let tokens = puzzle.tokens.ids.size1()?.unsigned_abs();
        let logits = self.model.forward(&puzzle.tokens, &puzzle.rows, mode)?;
        let right = tch::no_grad(|| logits.f_argmax(1, false)?.f_eq_tensor(&puzzle.answers)?.f_sum(Kind::Int64))?;
        let loss_sum = logits.f_cross_entropy_loss(&puzzle.answers, None::<Tensor>, Reduction::Sum, -100, 0.0)?;
        Ok(Forward { loss_sum, correct: Some((right, puzzle.counts.iter().sum::<usize>() as u64)), tokens })
    }

    fn validate(&self, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>> {
        if self.validation.lines.is_empty() {
            return Ok(None);
        }
        self.evaluate(&self.validation, observer)
    }

    fn has_test(&self) -> bool {
        self.test.is_some()
    }

    fn test(&self, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>> {
        self.test.as_ref().map_or(Ok(None), |corpus| self.evaluate(corpus, observer))
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
