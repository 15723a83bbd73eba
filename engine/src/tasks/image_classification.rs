//! Image classification, as in Transformers' `…ForImageClassification`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::ahead::Ahead;
use super::classification::{ClassificationTask, FeatureClassifier, Inputs, Labelled};
use super::loss::Loss;
use super::{DataSummary, Loaded};
use crate::data::examples::Targets;
use crate::data::images::{ImageSet, Images, batch_tensor};
use crate::data::splits::Splits;
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::export::{AdapterFiles, ModelFiles};
use crate::models::read_config;
use crate::models::vision::{ImageClassifier, VisionConfig};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::params::{self, Builder, Placement};
use crate::vision::mix::Mix;
use crate::vision::processor::ImageProcessor;
use finetuned::domain::estimate::{EVALUATION_IMAGES, OTHER_PIXELS, TRAINING_PIXELS};
use finetuned::domain::hyperparameters::Augmentation;
use finetuned::domain::method::image_classification::Settings;
use finetuned::domain::random::mix_all;
use finetuned::domain::report::Place;
use finetuned::domain::run::{DataFile, RunSpec};
use finetuned::domain::split::Splitting;

/// Labelled images.
struct Pictures {
    images: ImageSet,
    targets: Targets,
    seed: i64,
}

/// Normalised pixels of some images, three planes each.
struct Pixels {
    values: Vec<f32>,
    /// Width and height.
    size: (u32, u32),
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
        Pictures::new(ImageSet::new(Arc::clone(images), members, processor, augmentation, spec.seed, budget), spec.seed)
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
    let validation = spec.validation.as_ref().map(|file| load(file, "validation_file")).transpose()?;
    let (kept, held) = split(spec, &all, chosen, validation.as_deref(), test.as_deref(), observer)?;
    let validation = part(validation.as_ref().unwrap_or(&all), held, Augmentation::default(), OTHER_PIXELS);
    let training = part(&all, kept, own.augmentation.clone(), TRAINING_PIXELS);
    let (images, members) = test.map_or_else(|| (all, Vec::new()), |images| (Arc::clone(&images), everything(&images)));
    let test = part(&images, members, Augmentation::default(), OTHER_PIXELS);
    let policy = super::policy(spec, config.anatomy());
    let placement = Placement { device: device.device, compute, seed: spec.seed, policy: &policy };
    let head = super::head_init(&json, &spec.labels, config.initializer_range());
    let classes = spec.labels.len();
    let (model, table, report) = ImageClassifier::open(&spec.model, &config, classes, head, placement)?;
    let loss = Loss::new(own.class_weights, own.label_smoothing, classes, &training.targets, device.device)?;
    let data =
        DataSummary { training: training.images.len(), validation: validation.images.len(), ..DataSummary::default() };
    let splits = Splits { training, validation, test };
    let mut task = ClassificationTask::new(model, device.device, &spec.labels, Labelled::new(splits, classes), loss);
    if h.tuning.freeze.is_backbone() {
        task = task.frozen(!own.augmentation.is_none(), usize::MAX, observer)?;
    }
    let adapter = AdapterFiles::new(&policy, &spec.model_name, None);
    let preprocessor = BTreeMap::from([("preprocessor_config.json".to_owned(), processor.config().clone())]);
    let files = ModelFiles::new(&spec.model, config.architecture())?
        .with_labels(h.problem_type().as_str(), &spec.labels)
        .with_adapter(adapter.map(|adapter| adapter.with_module_names(config.module_name())))
        .with_files(preprocessor);
    Ok(Loaded { task: Box::new(Ahead::new(task)), table, policy, report, data, files })
}

/// The images that are trained on, of those that are `chosen`, and those that the run is validated with.
fn split(
    spec: &RunSpec,
    all: &Images,
    chosen: Vec<usize>,
    validation: Option<&Images>,
    test: Option<&Images>,
    observer: &dyn Observer,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let prints = |images: Option<&Images>| images.map_or_else(|| Ok(Vec::new()), |images| images.prints(observer));
    let all_prints =
        if spec.drops_overlap || (spec.grouped && validation.is_none()) { all.prints(observer)? } else { Vec::new() };
    let mut others = HashSet::new();
    let mut held: Vec<usize> = (0..validation.map_or(0, Images::len)).collect();
    let mut kept = chosen;
    if spec.drops_overlap {
        others.extend(prints(test)?);
        let of_validation = prints(validation)?;
        held.retain(|&index| !others.contains(&of_validation[index]));
        others.extend(of_validation);
        kept.retain(|&index| !others.contains(&all_prints[index]));
    }
    if validation.is_none() {
        let classes: Vec<usize> = kept.iter().map(|&index| all.classes[index]).collect();
        let prints = spec.grouped.then(|| kept.iter().map(|&index| all_prints[index]).collect::<Vec<_>>());
        let is_held =
            Splitting { classes: &classes, prints: prints.as_deref() }.held_out(spec.validation_split, spec.seed);
        let mut is_held = is_held.into_iter();
        (held, kept) = kept.into_iter().partition(|_| is_held.next().unwrap_or(false));
    }
    Ok((kept, held))
}

/// What makes of images what the model takes.
fn processor(model: &Path, config: &VisionConfig) -> Result<ImageProcessor> {
    let processor = ImageProcessor::open(model, config.usual_side(), config.processor_class())?;
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
    let json = read_config(directory)?;
    let config = VisionConfig::parse(&json)?;
    processor(directory, &config)?;
    let placement = Placement::new(Device::Cpu, Kind::Float, 0);
    let (outputs, head) = super::described_head(&json);
    let model = |root: &Builder<'_, '_>| ImageClassifier::new(root, &config, outputs as i64, head);
    params::build(&config.open_weights(directory)?.outline(), placement, model).map(drop)
}

impl Pictures {
    fn new(images: ImageSet, seed: i64) -> Self {
        let targets = Targets::Classes(images.classes());
        Self { images, targets, seed }
    }
}

impl Inputs for Pictures {
    type Packed = Pixels;

    fn targets(&self) -> &Targets {
        &self.targets
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn tokens(&self, _examples: &[usize]) -> u64 {
        0
    }

    fn groups(&self, most: usize) -> Vec<Vec<usize>> {
        let all: Vec<usize> = (0..self.images.len()).collect();
        all.chunks(EVALUATION_IMAGES.min(most)).map(<[usize]>::to_vec).collect()
    }

    fn pack(&self, examples: &[usize], epoch: Option<u64>) -> Result<Pixels> {
        let size = self.images.size();
        let Some(epoch) = epoch else {
            let mut values = Vec::new();
            for &example in examples {
                values.extend(self.images.pixels(example)?);
            }
            return Ok(Pixels { values, size, mix: None });
        };
        let varied = |&example: &usize| self.images.varied_pixels(example, epoch);
        let rows = examples.iter().map(varied).collect::<Result<Vec<_>>>()?;
        let first = examples.first().map_or(0, |&example| example as u64);
        let mix = Mix::draw(self.images.augmentation(), self.seed.cast_unsigned(), mix_all(&[epoch, first]), size);
        let rows = match mix {
            Some(mix) => mix.apply(&rows, size.0 as usize),
            None => rows,
        };
        Ok(Pixels { values: rows.concat(), size, mix })
    }

    fn place(&self, example: usize) -> Place {
        self.images.place(example).clone()
    }

    /// Decoding takes long: as many as leave half the cores to the training.
    fn threads() -> usize {
        std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 8))
    }

    fn mix(packed: &Pixels) -> Option<Mix> {
        packed.mix
    }
}

impl FeatureClassifier<Pixels> for ImageClassifier {
    type OnDevice = Tensor;

    fn on_device(packed: &Pixels, device: Device) -> Result<Tensor> {
        batch_tensor(&packed.values, packed.size, device)
    }

    fn features(&self, inputs: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.features(inputs, mode)
    }

    fn head(&self, features: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.head(features, mode)
    }
}
