//! Image classification, as in Transformers' `…ForImageClassification`. Batches are made ahead of the training, on threads
//! of their own.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::classifying::{self, Places};
use super::loss::Loss;
use super::outputs::{Outputs, most_rows};
use super::{DataSummary, Forward, Loaded, Recipe};
use crate::data::examples::Targets;
use crate::data::images::{ImageSet, Images, batch_tensor};
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::export::{AdapterFiles, ModelFiles};
use crate::models::read_config;
use crate::models::vision::{ImageClassifier, VisionConfig};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::{self, Builder, Init, Placement};
use crate::score::Evaluation;
use crate::vision::loader::BatchLoader;
use crate::vision::mix::Mix;
use crate::vision::processor::ImageProcessor;
use finetuned::dataset::split::held_out;
use finetuned::domain::estimate::{OTHER_PIXELS, TRAINING_PIXELS};
use finetuned::domain::hyperparameters::Augmentation;
use finetuned::domain::method::image_classification::Settings;
use finetuned::domain::random::mix_all;
use finetuned::domain::run::{DataFile, RunSpec};

/// Images of one evaluation batch.
pub(crate) const EVALUATION_BATCH: usize = 32;

/// Batches made ahead.
const AHEAD: usize = 3;

/// A classifier and its data.
struct ImageClassification {
    model: ImageClassifier,
    device: Device,
    labels: Vec<String>,
    training: Part,
    validation: Part,
    test: Option<Part>,
    loss: Loss,
    /// Whether the backbone stays as it is.
    frozen: bool,
    seed: i64,
    threads: usize,
    loader: RefCell<Ahead>,
}

/// Images, and what a frozen backbone makes of them.
struct Part {
    images: Arc<ImageSet>,
    targets: Targets,
    /// `[N, D]`, computed once.
    features: Option<Tensor>,
}

impl Part {
    fn new(images: ImageSet) -> Self {
        let targets = Targets::Classes(images.classes());
        Self { images: Arc::new(images), targets, features: None }
    }
}

/// The examples of each batch, and its epoch.
type Batches = Vec<(Vec<usize>, u64)>;

/// The batches that are being made, and the time that was spent waiting for earlier ones.
#[derive(Default)]
struct Ahead {
    loader: Option<BatchLoader<Batch>>,
    batches: Arc<Mutex<Batches>>,
    waited: f64,
}

/// Normalised pixels of some training images, three planes each.
struct Batch {
    examples: Vec<usize>,
    pixels: Vec<f32>,
    mix: Option<Mix>,
}

/// Reads the model and the data that `spec` names.
///
/// # Errors
/// The model or a data file cannot be used.
pub(super) fn load(spec: &RunSpec, device: ComputeDevice, compute: Kind, observer: &dyn Observer) -> Result<Loaded> {
    let (h, own) = (&spec.hyperparameters, super::settings::<Settings>(spec)?);
    let json = read_config(&spec.model)?;
    let config = VisionConfig::parse(&json)?;
    let processor = processor(&spec.model, &config)?;
    let folder = spec.output.parent().unwrap_or(&spec.output);
    let load = |file: &DataFile, param| Images::load(file, param, &spec.labels, folder, observer).map(Arc::new);
    let part = |images: &Arc<Images>, members: Vec<usize>, augmentation: Augmentation, budget| {
        let processor = processor.clone();
        Part::new(ImageSet::new(Arc::clone(images), members, processor, augmentation, spec.seed, budget))
    };
    let everything = |images: &Images| (0..images.len()).collect::<Vec<_>>();
    let test = spec.test.as_ref().map(|file| load(file, "test_file")).transpose()?;
    let (all, chosen) = match (&spec.training, &test) {
        (Some(file), _) => {
            let all = load(file, "training_file")?;
            let chosen = everything(&all);
            (all, chosen)
        }
        // A run that only evaluates trains on none of its images.
        (None, Some(test)) => (Arc::clone(test), Vec::new()),
        (None, None) => return Err(EngineError::native("the spec names no data")),
    };
    let (kept, validation) = if let Some(file) = &spec.validation {
        let images = load(file, "validation_file")?;
        (chosen, part(&images, everything(&images), Augmentation::default(), OTHER_PIXELS))
    } else {
        let held = held_out(&all.classes, spec.validation_split, spec.seed);
        let (held, kept): (Vec<usize>, Vec<usize>) = chosen.into_iter().partition(|&index| held[index]);
        (kept, part(&all, held, Augmentation::default(), OTHER_PIXELS))
    };
    let training = part(&all, kept, own.augmentation.clone(), TRAINING_PIXELS);
    let test = test.map(|images| part(&images, everything(&images), Augmentation::default(), OTHER_PIXELS));
    let policy = super::policy(spec, config.base_prefix(), config.layers(), config.adapted_layers());
    let placement = Placement { device: device.device, compute, seed: spec.seed, policy: &policy };
    let head = super::head_init(&json, &spec.labels, config.initializer_range());
    let classes = spec.labels.len();
    let (model, table, report) = ImageClassifier::open(&spec.model, &config, classes, head, placement)?;
    let loss = Loss::new(own.class_weights, own.label_smoothing, classes, &training.targets, device.device)?;
    let data =
        DataSummary { training: training.images.len(), validation: validation.images.len(), ..DataSummary::default() };
    let frozen = h.tuning.freeze.is_backbone();
    let mut recipe = ImageClassification {
        model,
        device: device.device,
        labels: spec.labels.clone(),
        training,
        validation,
        test,
        loss,
        frozen,
        seed: spec.seed,
        threads: std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 8)),
        loader: RefCell::default(),
    };
    if frozen {
        recipe.compute_features(observer)?;
    }
    let adapter = AdapterFiles::new(&policy, &spec.model_name, None);
    let mut files = ModelFiles::new(&spec.model, config.architecture())?
        .with_labels(h.problem_type().as_str(), &spec.labels)
        .with_adapter(adapter.map(|adapter| adapter.with_module_names(config.module_name())));
    files.add("preprocessor_config.json", processor.config().clone());
    Ok(Loaded { recipe: Box::new(recipe), table, policy, report, data, files })
}

/// What makes of images what the model takes.
fn processor(model: &Path, config: &VisionConfig) -> Result<ImageProcessor> {
    let processor = ImageProcessor::open(model, config.usual_side())?;
    let (width, height) = processor.size();
    match config.image_size() {
        Some(side) if (i64::from(width), i64::from(height)) != (side, side) => Err(EngineError::model(format!(
            "preprocessor_config.json gives images of {width} by {height} pixels, and config.json's image_size is {side}"
        ))),
        _ => Ok(processor),
    }
}

/// Whether the model in `directory` can be trained.
///
/// # Errors
/// It cannot; the error says what it lacks.
pub(super) fn check(directory: &Path) -> Result<()> {
    let config = VisionConfig::parse(&read_config(directory)?)?;
    processor(directory, &config)?;
    let placement = Placement::new(Device::Cpu, Kind::Float, 0);
    let model = |root: &Builder<'_, '_>| ImageClassifier::new(root, &config, 1, Init::Fresh(0.0));
    params::build(&config.open_weights(directory)?.outline(), placement, model).map(drop)
}

impl ImageClassification {
    /// Computes once what the backbone makes of the data; of training images only where they are the same each time.
    fn compute_features(&mut self, observer: &dyn Observer) -> Result<()> {
        if self.training.images.augmentation().is_none() {
            self.training.features = self.features(&self.training, observer)?;
        }
        self.validation.features = self.features(&self.validation, observer)?;
        Ok(())
    }

    /// `[N, D]`; None if there is nothing to compute, or if the run shall stop.
    fn features(&self, part: &Part, observer: &dyn Observer) -> Result<Option<Tensor>> {
        let _guard = tch::no_grad_guard();
        let all: Vec<usize> = (0..part.images.len()).collect();
        let mut rows = Vec::new();
        for examples in all.chunks(EVALUATION_BATCH) {
            if observer.stop().is_some() {
                return Ok(None);
            }
            observer.alive();
            rows.push(self.model.features(&self.evaluated(part, examples)?, &Mode::eval())?);
        }
        if rows.is_empty() { Ok(None) } else { Ok(Some(Tensor::f_cat(&rows, 0)?)) }
    }

    /// Pixels `[B, 3, H, W]` as an evaluation sees them.
    fn evaluated(&self, part: &Part, examples: &[usize]) -> Result<Tensor> {
        let mut pixels = Vec::new();
        for &example in examples {
            pixels.extend(part.images.pixels(example)?);
        }
        batch_tensor(&pixels, part.images.size(), self.device)
    }

    /// Logits `[B, C]` as an evaluation sees them.
    fn logits(&self, part: &Part, examples: &[usize], mode: &Mode) -> Result<Tensor> {
        match &part.features {
            Some(features) => {
                let places: Vec<i64> = examples.iter().map(|&example| example as i64).collect();
                let places = Tensor::f_from_slice(&places)?.f_to_device(self.device)?;
                self.model.head(&features.f_index_select(0, &places)?, mode)
            }
            None => self.model.forward(&self.evaluated(part, examples)?, mode),
        }
    }

    /// The next batch: from the loader, if it is the one that it made.
    fn batch(&self, examples: &[usize], epoch: u64) -> Result<Batch> {
        let mut ahead = self.loader.borrow_mut();
        if let Some(loader) = &mut ahead.loader {
            let before = loader.waited();
            let next = loader.next_batch();
            let waited = loader.waited().saturating_sub(before).as_secs_f64();
            ahead.waited += waited;
            if let Some(batch) = next {
                let batch = batch?;
                if batch.examples == examples {
                    return Ok(batch);
                }
            }
            // It made others than were wanted: it makes no more.
            (ahead.loader, ahead.batches) = (None, Arc::default());
        }
        make_batch(&self.training.images, examples, epoch, self.seed)
    }

    /// Scores `part`, or None if the run shall stop.
    fn evaluate<'a>(
        &'a self,
        part: &'a Part,
        intervals: bool,
        observer: &dyn Observer,
    ) -> Result<Option<Evaluation<'a>>> {
        let _guard = tch::no_grad_guard();
        let all: Vec<usize> = (0..part.images.len()).collect();
        let mut outputs = Outputs::new(&self.labels, &part.targets, all.len());
        for examples in all.chunks(EVALUATION_BATCH.min(most_rows(self.labels.len()))) {
            if observer.stop().is_some() {
                return Ok(None);
            }
            observer.alive();
            let batch = self.logits(part, examples, &Mode::eval())?;
            let target = self.loss.targets(&part.targets, examples, self.device)?;
            outputs.add(examples, &batch, &self.loss.each(&batch, &target)?)?;
        }
        let places: Places<'a> = Box::new(|index| match part.images.place(index) {
            place if place.member.is_some() => ("file", json!(place.member)),
            place => ("line", json!(place.line)),
        });
        Ok(classifying::evaluate(outputs, places, intervals.then_some(observer)))
    }
}

/// No code that holds the lock can panic but by a number that was never asked for.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pixels of a batch as epoch `epoch` sees them: a function of its arguments.
fn make_batch(images: &ImageSet, examples: &[usize], epoch: u64, seed: i64) -> Result<Batch> {
    let rows = examples.iter().map(|&example| images.varied_pixels(example, epoch)).collect::<Result<Vec<_>>>()?;
    let first = examples.first().map_or(0, |&example| example as u64);
    let size = images.size();
    let mix = Mix::draw(images.augmentation(), seed.cast_unsigned(), mix_all(&[epoch, first]), size);
    let rows = match mix {
        Some(mix) => mix.apply(&rows, size.0 as usize),
        None => rows,
    };
    Ok(Batch { examples: examples.to_vec(), pixels: rows.concat(), mix })
}

impl Recipe for ImageClassification {
    fn examples(&self) -> usize {
        self.training.images.len()
    }

    fn weight(&self, examples: &[usize], _epoch: u64) -> f64 {
        self.loss.weight(&self.training.targets, examples)
    }

    fn upcoming(&self, batches: Vec<Vec<usize>>, epoch: u64) {
        if self.training.features.is_some() {
            return;
        }
        let (count, mut ahead) = (batches.len(), self.loader.borrow_mut());
        let listed = Arc::clone(&ahead.batches);
        lock(&listed).extend(batches.into_iter().map(|examples| (examples, epoch)));
        if let Some(loader) = &ahead.loader {
            return loader.extend(count);
        }
        let (images, seed) = (Arc::clone(&self.training.images), self.seed);
        let make = move |number: usize| {
            let (examples, epoch) = std::mem::take(&mut lock(&listed)[number]);
            make_batch(&images, &examples, epoch, seed)
        };
        ahead.loader = Some(BatchLoader::new(count, self.threads, AHEAD, make));
    }

    fn forward(&self, examples: &[usize], epoch: u64, mode: &Mode) -> Result<Forward> {
        let part = &self.training;
        let (logits, mix) = if part.features.is_some() {
            (self.logits(part, examples, mode)?, None)
        } else {
            let batch = self.batch(examples, epoch)?;
            let pixels = batch_tensor(&batch.pixels, part.images.size(), self.device)?;
            let logits = if self.frozen {
                let features = tch::no_grad(|| self.model.features(&pixels, &Mode::eval()))?;
                self.model.head(&features, mode)?
            } else {
                self.model.forward(&pixels, mode)?
            };
            (logits, batch.mix)
        };
        let targets = self.loss.targets(&part.targets, examples, self.device)?;
        let right = tch::no_grad(|| logits.f_argmax(1, false)?.f_eq_tensor(&targets)?.f_sum(Kind::Int64))?;
        let mut loss_sum = self.loss.sum(&logits, &targets)?;
        if let Some(mix) = mix {
            // Cross-entropy is linear in its target, so mixed targets are mixed losses.
            let partners: Vec<usize> =
                (0..examples.len()).map(|index| examples[Mix::partner(index, examples.len())]).collect();
            let partners = self.loss.targets(&part.targets, &partners, self.device)?;
            let other = self.loss.sum(&logits, &partners)?.f_mul_scalar(1.0 - mix.lambda())?;
            loss_sum = loss_sum.f_mul_scalar(mix.lambda())?.f_add(&other)?;
        }
        Ok(Forward { loss_sum, correct: Some((right, examples.len() as u64)), tokens: 0 })
    }

    fn waited(&self) -> Option<f64> {
        Some(self.loader.borrow().waited)
    }

    fn validate(&self, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>> {
        if self.validation.images.is_empty() {
            return Ok(None);
        }
        self.evaluate(&self.validation, false, observer)
    }

    fn has_test(&self) -> bool {
        self.test.is_some()
    }

    fn test(&self, observer: &dyn Observer) -> Result<Option<Evaluation<'_>>> {
        self.test.as_ref().map_or(Ok(None), |part| self.evaluate(part, true, observer))
    }
}
