//! A classifier at work: answers from the same logits as its evaluation, a batch at a time.

use tch::{Device, Kind, Tensor};

use super::{Model, not_asked};
use crate::data::images::batch_tensor;
use crate::data::sampler::by_length;
use crate::data::texts::Texts;
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::models::ModelConfig;
use crate::models::text::TextClassifier;
use crate::models::vision::ImageClassifier;
use crate::nn::Mode;
use crate::params::{Init, Placement};
use crate::policy::NOTHING;
use crate::score::softmax;
use crate::text::TextTokenizer;
use crate::vision::processor::ImageProcessor;
use finetuned::dataset::images;
use finetuned::domain::estimate::{EVALUATION_IMAGES, EVALUATION_TOKENS};
use finetuned::domain::head::Head;
use finetuned::domain::method::ProblemType;
use finetuned::domain::serving::{
    Answered, Classify, Input, LabelScore, MAX_TOP_K, Prediction, Question, Refusal, ServingSpec,
};

/// A model and what it needs to read its inputs.
enum Inner {
    Text { model: TextClassifier, tokenizer: Box<TextTokenizer> },
    Image { model: ImageClassifier, processor: ImageProcessor },
}

/// A classifier that answers requests. It computes in float32.
pub(super) struct Classifier {
    inner: Inner,
    head: Head,
    device: Device,
}

/// Logits of one input, and what was read of it.
#[derive(Default)]
struct Row {
    logits: Vec<f32>,
    truncated: bool,
    tokens: u64,
}

impl Classifier {
    /// Opens the model that `spec` names, with its `config.json`.
    ///
    /// # Errors
    /// It is no classifier, or its files cannot be used.
    pub(super) fn open(spec: &ServingSpec, json: &str, config: ModelConfig, device: ComputeDevice) -> Result<Self> {
        let head = Head::read(json.as_bytes()).map_err(EngineError::model)?;
        let (outputs, device) = (head.labels.len(), device.device);
        let placement = Placement { policy: &NOTHING, ..Placement::new(device, Kind::Float, 0) };
        let inner = match config {
            ModelConfig::Vision(config) => {
                let processor = ImageProcessor::open(&spec.model, config.usual_side(), config.processor_class())?;
                let (model, ..) = ImageClassifier::open(&spec.model, &config, outputs, Init::Required, placement)?;
                Inner::Image { model, processor }
            }
            ModelConfig::Text(config) => {
                let longest = u32::try_from(config.max_tokens()).unwrap_or(u32::MAX);
                let kept = spec.max_tokens.map_or(longest, |tokens| tokens.min(longest)) as usize;
                let tokenizer = TextTokenizer::open(&spec.model, kept, config.vocab_size())?;
                let (model, ..) = TextClassifier::open(&spec.model, &config, outputs, Init::Required, placement)?;
                Inner::Text { model, tokenizer: Box::new(tokenizer) }
            }
        };
        Ok(Self { inner, head, device })
    }

    fn texts(&self, model: &TextClassifier, tokenizer: &TextTokenizer, inputs: &[Input]) -> Result<Vec<Row>> {
        let pairs: Vec<(&str, Option<&str>)> = inputs
            .iter()
            .map(|input| match input {
                Input::One(text) => (text.as_str(), None),
                Input::Pair(text, pair) => (text.as_str(), Some(pair.as_str())),
            })
            .collect();
        let mut texts = Texts::default();
        texts.add(&pairs, tokenizer)?;
        let lengths = texts.lengths();
        let row = |index: usize| Row {
            logits: Vec::new(),
            truncated: texts.is_truncated(index),
            tokens: lengths[index] as u64,
        };
        let mut rows: Vec<Row> = (0..texts.len()).map(row).collect();
        for indices in by_length(&lengths, EVALUATION_TOKENS, usize::MAX) {
            let logits = model.forward(&texts.pack(&indices, None).on(self.device)?, &Mode::eval())?;
            for (&index, logits) in indices.iter().zip(to_rows(&logits)?) {
                rows[index].logits = logits;
            }
        }
        Ok(rows)
    }

    /// The inner error names the first image that cannot be read.
    fn images(
        &self,
        model: &ImageClassifier,
        processor: &ImageProcessor,
        inputs: &[Input],
    ) -> Result<std::result::Result<Vec<Row>, Refusal>> {
        let mut rows = Vec::with_capacity(inputs.len());
        for batch in inputs.chunks(EVALUATION_IMAGES) {
            let mut pixels = Vec::new();
            for (index, input) in (rows.len()..).zip(batch) {
                match image(input) {
                    // Each is decoded and made small before the next one, which may be large.
                    Ok(image) => pixels.extend(processor.normalise(&processor.evaluate(&image)?)),
                    Err(why) => {
                        let message = format!("input[{index}] {why}.");
                        return Ok(Err(Refusal { param: Some(format!("input[{index}]")), message }));
                    }
                }
            }
            let logits = model.forward(&batch_tensor(&pixels, processor.size(), self.device)?, &Mode::eval())?;
            rows.extend(to_rows(&logits)?.into_iter().map(|logits| Row { logits, ..Row::default() }));
        }
        Ok(Ok(rows))
    }

    fn prediction(&self, row: &Row, top_k: usize) -> Prediction {
        let read = Prediction { truncated: row.truncated, tokens: row.tokens, ..Prediction::default() };
        let probabilities: Vec<f64> = match self.head.problem {
            ProblemType::Regression => {
                return Prediction { value: row.logits.first().map(|&value| value.into()), ..read };
            }
            ProblemType::SingleLabelClassification => softmax(&row.logits),
            ProblemType::MultiLabelClassification => {
                row.logits.iter().map(|&logit| 1.0 / (1.0 + (-f64::from(logit)).exp())).collect()
            }
        };
        let name = |class: usize| self.head.labels[class].clone();
        // By logits: probabilities of one may be equal where they are not. Of equal ones the first comes first.
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| row.logits[b].total_cmp(&row.logits[a]));
        let labels =
            order.iter().take(top_k).map(|&class| LabelScore { label: name(class), probability: probabilities[class] });
        let labels = Some(labels.collect());
        if self.head.problem == ProblemType::MultiLabelClassification {
            // As evaluations have it: a probability of more than one half.
            let mut predicted: Vec<usize> =
                order.iter().copied().take_while(|&class| row.logits[class] > 0.0).take(MAX_TOP_K).collect();
            predicted.sort_unstable();
            let predicted = predicted.into_iter().map(name).collect();
            return Prediction { labels, predicted: Some(predicted), ..read };
        }
        let best = order.first().copied();
        Prediction { label: best.map(name), probability: best.map(|class| probabilities[class]), labels, ..read }
    }
}

impl Model for Classifier {
    fn answer(
        &mut self,
        _name: Option<&str>,
        question: &Question,
        _tell: &mut dyn FnMut(Answered),
    ) -> Result<Answered> {
        let Question::Classify(Classify { input, top_k }) = question else { return Ok(not_asked("classifications")) };
        let rows = match &self.inner {
            Inner::Text { model, tokenizer } => Ok(self.texts(model, tokenizer, input)?),
            Inner::Image { model, processor } => self.images(model, processor, input)?,
        };
        Ok(match rows {
            Ok(rows) if rows.iter().flat_map(|row| &row.logits).any(|logit| !logit.is_finite()) => {
                let message = "The model's outputs are not finite: its weights cannot be used.".to_owned();
                Answered::Error(Refusal { param: Some("model".to_owned()), message })
            }
            Ok(rows) => Answered::Output(rows.iter().map(|row| self.prediction(row, *top_k)).collect()),
            Err(refusal) => Answered::Error(refusal),
        })
    }
}

fn to_rows(logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    Ok(Vec::<Vec<f32>>::try_from(&logits.f_to_device(Device::Cpu)?)?)
}

/// The pixels of an input, or why there are none.
fn image(input: &Input) -> std::result::Result<images::RgbImage, String> {
    match input {
        Input::One(url) => images::decode(&images::data_url(url)?),
        Input::Pair(..) => Err("must be one image, not a pair".to_owned()),
    }
}
