//! Sentence embeddings from pairs or triplets by the multiple-negatives ranking loss (Henderson et al. 2017,
//! arXiv:1705.00652), as in sentence-transformers' `MultipleNegativesRankingLoss`. How tokens become a sentence is the base
//! model's; the loss is over cosines, for which it makes no difference whether embeddings are normalised.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tch::{Device, Kind, Reduction, Tensor};

use super::ahead::Ahead;
use super::base::TextBase;
use super::ranking::{ranking_loss, similarities};
use super::task::{Batch, Counts, Forward, Task};
use super::{DataSummary, Loaded};
use crate::data::examples::partition;
use crate::data::reader::Examples;
use crate::data::source::{BatchSource, Pick, Subset};
use crate::data::splits::{Dataset, Splits};
use crate::data::texts::{Packed, Texts, TextsBuilder, TokenNoise};
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::export::{AdapterFiles, ModelFiles};
use crate::models::text::{SentenceConfig, TextEmbedder, TextTask, Tokens};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::Placement;
use crate::score::{Evaluation, Lines};
use crate::text::TextTokenizer;
use finetuned::dataset::pairs;
use finetuned::dataset::prints::of_texts;
use finetuned::domain::method::embedding::Settings;
use finetuned::domain::metric::guesses::{Guesses, NEAREST};
use finetuned::domain::metric::{ACCURACY, LOSS, scores};
use finetuned::domain::run::{DataFile, RunSpec, TrainerMessage};

/// Examples that are ranked against each other in an evaluation, in the order of the file.
const EVALUATION_BATCH: usize = 64;

/// Examples of two or three texts each, one after the other.
#[derive(Default)]
struct Tuples {
    texts: Texts,
    /// Texts of an example.
    size: usize,
    lines: Vec<u64>,
    /// What each is known by.
    prints: Vec<u64>,
}

/// An embedder and its data.
struct EmbeddingTask {
    model: TextEmbedder,
    device: Device,
    source: Arc<Ranked>,
    scale: f64,
}

/// Tuples, and what becomes of them in training.
struct Ranked {
    splits: Splits<Tuples>,
    noise: Option<TokenNoise>,
}

/// The texts of some tuples: all anchors, then all positives, then all negatives.
struct Rivals {
    tuples: Vec<usize>,
    tokens: Packed,
    /// Tokens before any were left out.
    whole: u64,
}

/// Reads the model and the data that `spec` names.
///
/// # Errors
/// The model or a data file cannot be used.
pub(super) fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    let h = &spec.hyperparameters;
    let own: Settings = super::settings(spec)?;
    let base = TextBase::open(spec)?;
    let config = &base.config;
    let sentence = SentenceConfig::open(&spec.model, config.hidden_size())?;
    let load = |file: &DataFile, param| Tuples::load(file, param, &base.tokenizer, sentence.lowers(), observer);
    let splits = Splits::load(spec, Tuples::default, load)?;
    let policy = base.policy(spec);
    let placement = Placement { device: device.device, compute, seed: spec.seed, policy: &policy };
    let (model, table, report) = base.build(placement, TextEmbedder::new)?;
    let model = model.with_pooling(sentence.pooling());
    if spec.resume.is_none() {
        report_pooling(&sentence, observer);
    }
    let data = DataSummary::of_texts(&splits, |part| part.lines.len(), |part| &part.texts);
    let noise = TokenNoise::wanted(own.token_dropout, own.token_masking, spec.seed, &base.tokenizer)?;
    let source = Arc::new(Ranked { splits, noise });
    let task = EmbeddingTask { model, device: device.device, source, scale: own.scale };
    let files = ModelFiles::new(&spec.model, &config.architecture(TextTask::Embedding))?
        .with_adapter(AdapterFiles::new(&policy, &spec.model_name, Some("FEATURE_EXTRACTION")))
        .with_files(sentence.files(Some(h.course.max_sequence_length)))
        .as_sentence_transformer(config.base_prefix(), &base.weights);
    Ok(Loaded { task: Box::new(Ahead::new(task)), table, policy, report, data, files })
}

/// Whether the model in `directory` can be trained.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    let base = TextBase::outline(directory)?;
    let sentence = SentenceConfig::open(directory, base.config.hidden_size())?;
    if let Some(file) = sentence.missing() {
        return Err(EngineError::model(format!("modules.json names {file}, which is not there; fetch it again")));
    }
    base.check(TextEmbedder::new)
}

/// Tells how sentences are embedded. A model that was imported before the files that say so were taken goes on as it was.
fn report_pooling(sentence: &SentenceConfig, observer: &dyn Observer) {
    let message = match sentence.missing() {
        None => format!("In this model {}", sentence.describe()),
        Some(file) => {
            format!("modules.json names {file}, which the model was imported without, so that tokens are averaged")
        }
    };
    observer.report(TrainerMessage::Notice { warning: sentence.missing().is_some(), message });
}

impl Tuples {
    fn load(
        file: &DataFile,
        param: &'static str,
        tokenizer: &TextTokenizer,
        lowers: bool,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let (mut texts, mut size) = (TextsBuilder::new(tokenizer), 0);
        let (mut lines, mut prints) = (Vec::new(), Vec::new());
        for triplet in Examples::open(file, param, observer, pairs::read)? {
            let triplet = triplet?;
            lines.push(triplet.line);
            prints.push(of_texts([triplet.anchor.as_str(), &triplet.positive]));
            size = triplet.texts().count();
            for text in [Some(triplet.anchor), Some(triplet.positive), triplet.negative].into_iter().flatten() {
                texts.push(if lowers { lowered(&text) } else { text }, None)?;
            }
        }
        Ok(Self { texts: texts.finish()?, size, lines, prints })
    }

    /// The texts of these examples: all anchors, then all positives, then all negatives.
    fn texts_of(&self, examples: &[usize]) -> Vec<usize> {
        (0..self.size).flat_map(|part| examples.iter().map(move |&example| example * self.size + part)).collect()
    }
}

/// As the `Lowercase` that sentence-transformers puts before a tokenizer: each character for itself.
fn lowered(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

impl Dataset for Tuples {
    fn strata(&self) -> Vec<usize> {
        vec![0; self.lines.len()]
    }

    fn prints(&self) -> &[u64] {
        &self.prints
    }

    fn partition(self, keep: &[bool]) -> (Self, Self) {
        let size = self.size;
        let of_texts: Vec<bool> = keep.iter().flat_map(|&keep| std::iter::repeat_n(keep, size)).collect();
        let (texts, other_texts) = self.texts.partition(&of_texts);
        let (lines, other_lines) = partition(self.lines, keep);
        let (prints, other_prints) = partition(self.prints, keep);
        let others = Self { texts: other_texts, size, lines: other_lines, prints: other_prints };
        (Self { texts, size, lines, prints }, others)
    }
}

/// Texts on the device, all anchors, then all positives and so on; and int64 `[S]`: the place of each anchor's own positive.
struct RankedInputs {
    tokens: Tokens,
    own: Tensor,
}

impl BatchSource for Ranked {
    type Batch = Rivals;

    fn size(&self, subset: Subset) -> usize {
        self.splits.get(subset).lines.len()
    }

    fn groups(&self, subset: Subset) -> Vec<Vec<usize>> {
        let all: Vec<usize> = (0..self.size(subset)).collect();
        all.chunks(EVALUATION_BATCH).map(<[usize]>::to_vec).collect()
    }

    fn make(&self, pick: &Pick) -> Result<Rivals> {
        let tuples = self.splits.get(pick.subset);
        let texts = tuples.texts_of(&pick.examples);
        let whole = texts.iter().map(|&text| tuples.texts.ids_of(text).len() as u64).sum();
        let tokens = tuples.texts.pack_noisy(&texts, self.noise.as_ref(), pick.view.epoch());
        Ok(Rivals { tuples: pick.examples.clone(), tokens, whole })
    }
}

impl EmbeddingTask {
    /// Similarities `[S, candidates]` of each anchor to every positive and negative of the batch, times `scale`.
    fn rank(&self, inputs: &RankedInputs, mode: &Mode) -> Result<Tensor> {
        let embeddings = self.model.forward(&inputs.tokens, mode)?;
        similarities(&embeddings, inputs.own.numel(), self.scale)
    }
}

impl Task for EmbeddingTask {
    type Data = Ranked;
    type Inputs = RankedInputs;
    /// Of each tuple the similarity of anchor and positive, the loss, and whether the positive is the nearest.
    type Outputs<'a> = Vec<(f32, f32, bool)>;

    fn source(&self) -> &Arc<Ranked> {
        &self.source
    }

    fn count(&self, examples: &[usize], _epoch: u64) -> f64 {
        examples.len() as f64
    }

    fn counts(&self, batch: &Rivals) -> Counts {
        Counts { tokens: batch.whole, whole: batch.tuples.len() as f64 }
    }

    fn inputs(&self, batch: &Rivals) -> Result<RankedInputs> {
        let own = Tensor::f_arange(batch.tuples.len() as i64, (Kind::Int64, self.device))?;
        Ok(RankedInputs { tokens: batch.tokens.on(self.device)?, own })
    }

    fn forward(&self, inputs: &RankedInputs, mode: &Mode) -> Result<Forward> {
        let similarities = self.rank(inputs, mode)?;
        let right = tch::no_grad(|| similarities.f_argmax(1, false)?.f_eq_tensor(&inputs.own)?.f_sum(Kind::Int64))?;
        let loss_sum = ranking_loss(&similarities, &inputs.own, Reduction::Sum)?;
        Ok(Forward { loss_sum, parts: vec![(ACCURACY, right)], seen: None })
    }

    fn begin(&self, subset: Subset) -> Vec<(f32, f32, bool)> {
        vec![(0.0, 0.0, false); self.source.size(subset)]
    }

    fn add(&self, outputs: &mut Vec<(f32, f32, bool)>, batch: &Batch<Self>) -> Result<()> {
        let inputs = self.inputs(batch)?;
        let similarities = self.rank(&inputs, &Mode::eval())?;
        let losses = ranking_loss(&similarities, &inputs.own, Reduction::None)?;
        let nearest = Vec::<i64>::try_from(&similarities.f_argmax(1, false)?.f_to_device(Device::Cpu)?)?;
        let near = similarities.f_diagonal(0, 0, 1)?.f_div_scalar(self.scale)?;
        let near = Vec::<f32>::try_from(&near.f_to_device(Device::Cpu)?.f_contiguous()?)?;
        let losses = Vec::<f32>::try_from(&losses.f_to_device(Device::Cpu)?)?;
        for (place, &tuple) in batch.tuples.iter().enumerate() {
            outputs[tuple] = (near[place], losses[place], nearest[place] == place as i64);
        }
        Ok(())
    }

    fn score<'a>(
        &'a self,
        subset: Subset,
        outputs: Vec<(f32, f32, bool)>,
        _intervals: Option<&dyn Observer>,
    ) -> Option<Evaluation<'a>> {
        let lines = &self.source.splits.get(subset).lines;
        let guesses = Guesses {
            loss_sum: outputs.iter().map(|tuple| f64::from(tuple.1)).sum(),
            right: outputs.iter().filter(|tuple| tuple.2).count() as u64,
            count: outputs.len() as u64,
        };
        let line = Lines::new(move |tuple| {
            let ((similarity, loss, _), line) = (outputs[tuple], lines[tuple]);
            json!({"line": line, "similarity": similarity, LOSS.name(): loss})
        });
        Some(Evaluation::new(lines.len(), guesses.loss(), scores(&NEAREST, &guesses), line))
    }
}
