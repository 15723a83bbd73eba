//! What a run will need, predicted before it starts: steps, memory, disk.
//!
//! The memory model counts what training holds at once: parameters, gradients, moments, the copy that a checkpoint is
//! written from, and activations of the largest batch. Its constants were fitted to measured peaks of BERT models of 22
//! and 110 million parameters (benches/README.md, "Memory").

mod activations;
mod images;
mod outputs;
mod tokens;

use serde::{Deserialize, Serialize};

pub use images::{OTHER_PIXELS, TRAINING_PIXELS};
pub use outputs::{EVALUATION_LOGITS, LISTED_LOGITS, MOST_LISTED_LABELS};
pub use tokens::truncated_share;

use super::backbone::Backbone;
use super::hyperparameters::{Freeze, Hyperparameters, Interval, Precision, Quantization, Subject, TargetModules};
use super::job::error::JobError;
use super::method::language::{self, ExportForm};
use super::model::ModelFacts;
use super::report::{DataReport, ExamplesReport};
use activations::{activation_bytes, activations};
use tokens::{Tokens, tokens};

/// What a run will need.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub training_examples: u64,
    pub validation_examples: u64,
    /// Tokens that one pass over the training data has, about.
    pub tokens_per_epoch: u64,
    pub steps_per_epoch: u64,
    pub total_steps: u64,
    /// Most memory of the device that it trains on, in bytes; the machine's own where that is the CPU. None where the
    /// model's size is not known.
    pub peak_memory_bytes: Option<u64>,
    /// Disk for checkpoints and artifacts, in bytes.
    pub disk_bytes: u64,
}

impl Estimate {
    /// What a run needs that does this and then `next`.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        Self {
            peak_memory_bytes: self.peak_memory_bytes.max(next.peak_memory_bytes),
            disk_bytes: self.disk_bytes + next.disk_bytes,
            ..self.clone()
        }
    }
}

/// Where a run computes, as far as memory is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub is_gpu: bool,
    /// Whether `auto` means bf16 there.
    pub has_bf16: bool,
}

/// What a worker's machine offers to one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub device: Device,
    /// Bytes of memory: of the GPU, or of the machine. None where it is not known.
    pub memory: Option<u64>,
    /// Bytes that runs may write now.
    pub free_disk: Option<u64>,
    /// Bytes that they could if nothing else were on the disk.
    pub disk: Option<u64>,
}

/// The device that a run would get: a GPU where there is one.
pub fn likely_device(machines: &[Machine]) -> Option<Device> {
    machines.iter().map(|machine| machine.device).max_by_key(|device| (device.is_gpu, device.has_bf16))
}

/// Why none of the machines has room for a run; None if one has, or if nothing is known of them.
pub fn shortage(needs: &Estimate, machines: &[Machine]) -> Option<JobError> {
    let most = |offer: fn(&Machine) -> Option<u64>| {
        machines.iter().map(offer).collect::<Option<Vec<u64>>>().and_then(|offers| offers.into_iter().max())
    };
    if let (Some(needed), Some(most)) = (needs.peak_memory_bytes, most(|machine| machine.memory))
        && needed > most
    {
        let message = format!(
            "The run needs about {} of memory, and the largest worker has {}. A smaller batch_size or \
             max_sequence_length, an adapter, optimizer \"adamw_8bit\" where all weights are trained, or a smaller model, needs less.",
            gib(needed),
            gib(most)
        );
        return Some(JobError::new("insufficient_memory", message));
    }
    // What is not free now may be so when the job's turn comes; an older worker says no more than that.
    let most = most(|machine| machine.disk.or(machine.free_disk))?;
    (needs.disk_bytes > most).then(|| {
        let message = format!(
            "The run needs about {} of disk for checkpoints and artifacts, and the largest disk of a worker has room for {}. \
             A smaller keep_checkpoints needs less.",
            gib(needs.disk_bytes),
            gib(most)
        );
        JobError::new("insufficient_storage", message)
    })
}

/// Bytes as people read them.
pub fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

const MIB: u64 = 1 << 20;

/// Memory of a process that has loaded libtorch, a tokenizer and nothing else.
const CPU_BASE: u64 = 200 * MIB;
/// What oneDNN keeps for bf16 products of many shapes.
const CPU_BF16: u64 = 350 * MIB;
/// Workspaces of cuBLAS, and what the caching allocator leaves between tensors.
const GPU_BASE: u64 = 700 * MIB;
/// Bytes per parameter beside the optimizer's moments: gradient and low-precision copy 4, and the float32 master.
const TRAINED: u64 = 4 + WEIGHTS;
const WEIGHTS: u64 = 4;

/// Logits of a chunk of guesses, and their gradient by the hidden states.
const LOGITS: u64 = 200 * MIB;

/// Predicts what a run of `subject` on `device` needs whose classifier has `labels` labels.
pub fn estimate(subject: Subject<'_>, h: &Hyperparameters, data: &DataReport, labels: u64, device: Device) -> Estimate {
    let (method, model) = (subject.method.card(), &bounded(subject.facts));
    let is_varied = (method.varies_inputs)(&h.own);
    let training_examples = data.training_examples();
    let validation_examples = data.validation_examples();
    let per_step = u64::from(h.course.batch_size) * u64::from(h.course.gradient_accumulation_steps);
    let longest = h.course.max_sequence_length;
    let tokens = tokens(data.training.text_lengths(), longest).as_read_by(model, longest);
    let all_tokens = tokens.mean * training_examples as f64;
    let rows = (method.packs)(&h.own).then(|| (all_tokens / f64::from(longest.max(1))).ceil().max(1.0) as u64);
    let steps_per_epoch = rows.unwrap_or(training_examples).div_ceil(per_step.max(1));
    let total_steps = steps_per_epoch * u64::from(h.course.n_epochs);
    let tokens = if rows.is_some() { Tokens::of_rows(longest, all_tokens) } else { tokens };
    let bf16 = h.precision == Precision::Bf16 || (h.precision == Precision::Auto && device.has_bf16);
    let test_examples = data.test.as_ref().map_or(0, |report| report.examples);
    let evaluated = validation_examples.max(test_examples);
    let guesses = if model.backbone.is_language_model() { LOGITS + words(model, bf16) } else { 0 };
    let training = activations(model, h, tokens, bf16, device) + outputs::of_training(h, labels) + guesses;
    let activations = training.max(layer(model, bf16) + outputs::of_evaluation(evaluated, labels));
    let (head, body) = (outputs::head(model, labels), trained_parameters(model, h));
    let trained = head + body;
    let is_quantized = h.tuning.adapter.lora().is_some_and(|lora| lora.quantization != Quantization::None);
    let untrained = frozen(model, model.parameters - body, bf16);
    let untrained = if is_quantized { untrained.min(quantized(model, bf16)) } else { untrained };
    let moments = (h.optimizer.optimizer.bytes() * trained as f64) as u64;
    let parameters = TRAINED * trained + moments + untrained;
    // The copy that a checkpoint is written from, and the checkpoint.
    let state = WEIGHTS * trained + moments;
    // What is frozen is read from the base model on its way to a file; what is trained is there. A checkpoint of adapters has
    // nothing else.
    let has_adapters = h.tuning.adapter.lora().is_some();
    let saves = match h.course.checkpoint_interval {
        Interval::Epoch => true,
        Interval::Steps(steps) => steps <= total_steps,
    };
    let copied = if saves { state } else { 0 };
    let whole = copied + if body < model.parameters { written(model) } else { 0 };
    let snapshot = if has_adapters { state } else { whole };
    let (statistics, statistics_on_disk) = outputs::statistics(method, h, training_examples);
    let kept = outputs::kept(h, evaluated, labels) + texts(data, h) + statistics;
    // Batches of texts of which everything below the head is made once.
    let once = (h.tuning.freeze.is_backbone() && !is_varied)
        .then(|| training_examples as f64 * tokens.mean / EVALUATION_TOKENS as f64 + 2.0);
    // The copy stands beside the activations of later steps, unless there are none.
    let saves_early = match h.course.checkpoint_interval {
        Interval::Epoch => h.course.n_epochs > 1,
        Interval::Steps(steps) => steps < total_steps,
    };
    let peak = if device.is_gpu {
        GPU_BASE + parameters + activations
    } else {
        let transient = whole.max(activations + if saves_early { snapshot } else { 0 });
        let pixels = images::kept_pixels(model, is_varied, data);
        CPU_BASE + if bf16 { kept_products(model, h, tokens, once) } else { 0 } + parameters + transient + pixels + kept
    };
    // In the run's folder: the base model, two checkpoints on their way and the model. In the store: the model, kept checkpoints,
    // and two training states. A checkpoint of adapters has these twice, and no other weights.
    let (files, checkpoints) = (WEIGHTS * (model.parameters + head), 2 + u64::from(h.course.keep_checkpoints));
    let checkpoint = if has_adapters { 2 * WEIGHTS * trained } else { files };
    let gguf = language::kept(&h.own).filter(|kept| kept.export == ExportForm::Gguf);
    let disk_bytes = 3 * files
        + 2 * gguf.map_or(0, |kept| kept.gguf_type.bytes(model.parameters))
        + checkpoints * checkpoint
        + 4 * moments
        + STATISTICS_FILES * statistics_on_disk
        + LINE * (validation_examples + test_examples);
    Estimate {
        training_examples,
        validation_examples,
        tokens_per_epoch: all_tokens as u64,
        steps_per_epoch,
        total_steps,
        peak_memory_bytes: (model.parameters > 0).then_some(peak),
        disk_bytes,
    }
}

/// Bytes that no machine has: a run that needs more needs as much.
const MOST: f64 = (1_u64 << 56) as f64;

/// Facts of a size that every product of them here is a number. What was imported before there were bounds may claim
/// anything.
fn bounded(model: &ModelFacts) -> ModelFacts {
    const MOST_VALUES: u64 = 1 << 48;
    const MOST_WIDTH: u32 = 1 << 20;
    ModelFacts {
        hidden_size: model.hidden_size.min(MOST_WIDTH),
        intermediate_size: model.intermediate_size.min(MOST_WIDTH),
        layers: model.layers.min(1 << 12),
        vocab_size: model.vocab_size.min(1 << 23),
        max_positions: model.max_positions.min(1 << 21),
        parameters: model.parameters.min(MOST_VALUES),
        values_per_image: model.values_per_image.min(MOST_VALUES),
        ..model.clone()
    }
}

/// Tokens of one evaluation batch of texts, and images of one of images.
pub const EVALUATION_TOKENS: usize = 8192;
pub const EVALUATION_IMAGES: usize = 32;

/// Predicts what evaluating `subject` on `data.test` needs on `device`. Activations are kept of one layer at a time.
pub fn evaluation(
    subject: Subject<'_>,
    h: &Hyperparameters,
    data: &DataReport,
    labels: u64,
    device: Device,
) -> Estimate {
    let (method, model) = (subject.method.card(), &bounded(subject.facts));
    let bf16 = h.precision == Precision::Bf16 || (h.precision == Precision::Auto && device.has_bf16);
    let examples = data.test.as_ref().map_or(0, |report| report.examples);
    // Scores of every word, and their losses.
    let share = (method.scores_words)(&h.own);
    let words = (2.0 * 4.0 * EVALUATION_TOKENS as f64 * share * f64::from(model.vocab_size)) as u64;
    let words = words + outputs::of_evaluation(examples, labels);
    let base = if device.is_gpu {
        GPU_BASE
    } else {
        let kept = outputs::kept(h, examples, labels) + texts(data, h);
        CPU_BASE + if bf16 { CPU_BF16 } else { 0 } + images::kept_pixels(model, false, data) + kept
    };
    let peak = base + frozen(model, model.parameters, bf16) + layer(model, bf16) + words;
    Estimate {
        peak_memory_bytes: (model.parameters > 0).then_some(peak),
        // A copy of the model, and a line for each example.
        disk_bytes: WEIGHTS * model.parameters + examples * LINE,
        ..Estimate::default()
    }
}

/// Files of statistics of examples: of the model and of two training states, in the run's folder and in the store.
const STATISTICS_FILES: u64 = 6;

/// Bytes of an example's line in what an evaluation leaves behind: logits, above all.
const LINE: u64 = 4 << 10;

/// Bytes of the table of words as the output layer computes with it, which mostly is stored in bf16.
fn words(model: &ModelFacts, bf16: bool) -> u64 {
    if bf16 {
        return 0;
    }
    WEIGHTS * u64::from(model.vocab_size).saturating_mul(u64::from(model.hidden_size))
}

/// Values in the tables of words and positions.
fn tables(model: &ModelFacts) -> u64 {
    (u64::from(model.vocab_size) + u64::from(model.max_positions)).saturating_mul(u64::from(model.hidden_size))
}

/// Bytes of so many parameters that are not trained: matrices in the type that they compute in, tables as they are stored.
fn frozen(model: &ModelFacts, parameters: u64, bf16: bool) -> u64 {
    let tables = tables(model).min(parameters);
    WEIGHTS * tables + if bf16 { 2 } else { 4 } * (parameters - tables)
}

/// Bytes of a model whose matrices are in 4 bits, with a scale of a byte for 64 values and one of four for 256 of those: and of the
/// largest matrix in the type that it computes in, once forward and once backward.
fn quantized(model: &ModelFacts, bf16: bool) -> u64 {
    let tables = tables(model).min(model.parameters);
    let matrices = model.parameters - tables;
    let largest = 2 * u64::from(model.hidden_size) * u64::from(model.intermediate_size);
    WEIGHTS * tables + matrices / 2 + matrices / 64 + matrices / 4096 + 2 * if bf16 { 2 } else { 4 } * largest
}

/// Bytes of the largest tensor on its way to a file, twice.
fn written(model: &ModelFacts) -> u64 {
    2 * WEIGHTS * tables(model).min(model.parameters)
}

/// Bytes of what one layer makes of an evaluation batch.
fn layer(model: &ModelFacts, bf16: bool) -> u64 {
    let all = if model.image_size > 0 {
        EVALUATION_IMAGES as f64 * model.values_per_image as f64 * 4.0
    } else {
        EVALUATION_TOKENS as f64 * activation_bytes(model, bf16)
    };
    (all / f64::from(model.layers.max(1))) as u64
}

/// Bytes of a token that is kept, with its word, twice while examples are held out; of a text besides its tokens; and of
/// a character of the longest row while it is read and cut.
const TOKEN: f64 = 16.0;
const TEXT: u64 = 128;
const READ: u64 = 8;

/// Bytes of the texts that a run keeps: their tokens, as many as the model is shown, and one row as it stands in its file.
fn texts(data: &DataReport, h: &Hyperparameters) -> u64 {
    let of = |report: &ExamplesReport| {
        let tokens = tokens(report.text_lengths(), h.course.max_sequence_length).mean * report.examples as f64;
        (TOKEN * tokens) as u64 + TEXT * report.examples
    };
    let files = [Some(&data.training), data.validation.as_ref(), data.test.as_ref()];
    let longest = files.into_iter().flatten().map(|report| report.text_lengths().max).max();
    files.into_iter().flatten().map(of).sum::<u64>() + READ * longest.unwrap_or_default()
}

/// Parameters that are trained, those of the last layer aside.
fn trained_parameters(model: &ModelFacts, h: &Hyperparameters) -> u64 {
    let (width, inner) = (u64::from(model.hidden_size), u64::from(model.intermediate_size));
    let layers = u64::from(model.layers);
    if let Some(lora) = h.tuning.adapter.lora() {
        let adapted = match &lora.target_modules {
            Some(TargetModules::Named(names)) => 2 * width * names.len() as u64,
            None if model.backbone == Backbone::TextTransformer => 4 * width,
            // Four layers of attention, and a network with a gate.
            None | Some(TargetModules::All(_)) => 8 * width + 3 * (width + inner),
        };
        return (u64::from(lora.r) * adapted * layers).min(model.parameters);
    }
    match h.tuning.freeze {
        Freeze::Off(_) => model.parameters,
        Freeze::Backbone(_) => 0,
        Freeze::Layers(frozen) => {
            let of_layer = 4 * width * width + 2 * width * inner;
            let open = layers.saturating_sub(u64::from(frozen.layers));
            if of_layer == 0 { model.parameters } else { (open * of_layer).min(model.parameters) }
        }
    }
}

/// Bytes of what oneDNN keeps for bf16 products: as much as it may for batches of many sizes, less where the texts are of
/// so even a length that their batches have few.
fn kept_products(model: &ModelFacts, h: &Hyperparameters, tokens: Tokens, once: Option<f64>) -> u64 {
    const MANY: f64 = 128.0;
    let sizes =
        if model.image_size > 0 { MANY } else { 6.0 * f64::from(h.course.batch_size).sqrt() * tokens.deviation + 1.0 };
    let sizes = once.map_or(sizes, |batches| sizes.min(batches));
    (CPU_BF16 as f64 * (sizes / MANY).min(1.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::{Device, Estimate, MIB, Machine, estimate, shortage, truncated_share};
    use crate::domain::backbone::Backbone;
    use crate::domain::hyperparameters::{DataFacts, Requested, Subject, resolve};
    use crate::domain::method::{Method, ProblemType};
    use crate::domain::model::ModelFacts;
    use crate::domain::report::{Contents, DataReport, ExamplesReport, Labels, Lengths};
    use serde_json::{Value, json};

    const CPU: Device = Device { is_gpu: false, has_bf16: true };

    /// As of a data set of 9,000 texts of 60 characters with 77 labels.
    fn of(parameters: u64, wide: u32, layers: u32, values: Value, device: Device) -> Estimate {
        of_labels(77, (parameters, wide, layers), values, device)
    }

    fn of_labels(labels: u64, (parameters, wide, layers): (u64, u32, u32), values: Value, device: Device) -> Estimate {
        let facts = ModelFacts {
            hidden_size: wide,
            max_positions: 512,
            layers,
            intermediate_size: 4 * wide,
            parameters,
            ..ModelFacts::default()
        };
        let mut text_lengths = Lengths::default();
        (1..=9000).for_each(|count| text_lengths.add(20 + count % 80, count));
        let contents = Contents::Labelled { labels: Labels::default(), text_lengths };
        let training = ExamplesReport { examples: 9000, contents, ..ExamplesReport::default() };
        let data = DataReport { training, ..DataReport::default() };
        let Value::Object(values) = values else { panic!("an object") };
        let requested = Requested::parse(Method::TextClassification, values, "h").unwrap();
        let subject = Subject { method: Method::TextClassification, facts: &facts };
        let problem = ProblemType::SingleLabelClassification;
        let h = resolve(&requested, subject, DataFacts { training_examples: 9000, problem }, "h").unwrap();
        estimate(subject, &h, &data, labels, device)
    }

    #[test]
    fn steps_and_tokens_follow_from_the_data() {
        let small = of(22_713_216, 384, 6, json!({"n_epochs": 3, "batch_size": 32}), CPU);
        assert_eq!((small.steps_per_epoch, small.total_steps), (282, 846));
        assert!((130_000..160_000).contains(&small.tokens_per_epoch), "{}", small.tokens_per_epoch);
    }

    #[test]
    fn the_share_of_cut_texts_follows_from_their_lengths() {
        let lengths = |all: &[u64]| {
            let mut lengths = Lengths::default();
            all.iter().enumerate().for_each(|(index, &length)| lengths.add(length, index as u64 + 1));
            lengths
        };
        assert_eq!(truncated_share(&Lengths::default(), 8), 0.0);
        let mixed = lengths(&[100, 100, 100, 4000]);
        // The three are taken as even from 64 to 128 characters, the long one from 2,048 to 4,000; 28 tokens have 4.2 each.
        let cases = [
            (8, 1.0),
            (30, 0.75 * (128.0 - 28.0 * 4.2) / 64.0 + 0.25),
            (128, 0.25),
            (512, 0.25 * (4000.0 - 510.0 * 4.2) / 1952.0),
        ];
        for (longest, share) in cases {
            let found = truncated_share(&mixed, longest);
            assert!((found - share).abs() < 1e-9, "{longest}: {found}");
        }
        assert_eq!(truncated_share(&mixed, 1024), 0.0);
    }

    /// Peaks of whole runs on two CPU cores (benches/README.md).
    #[test]
    fn predicted_peaks_are_near_measured_ones() {
        let mini = |values| of(22_713_216, 384, 6, values, CPU).peak_memory_bytes.unwrap() / MIB;
        let many =
            |labels, values| of_labels(labels, (22_713_216, 384, 6), values, CPU).peak_memory_bytes.unwrap() / MIB;
        let base = |values| of(109_482_240, 768, 12, values, CPU).peak_memory_bytes.unwrap() / MIB;
        for (predicted, measured) in [
            (mini(json!({"n_epochs": 1, "batch_size": 8, "precision": "fp32"})), 834),
            (mini(json!({"n_epochs": 1, "batch_size": 128, "precision": "fp32"})), 858),
            (mini(json!({"n_epochs": 1, "batch_size": 8, "precision": "bf16"})), 1195),
            (mini(json!({"n_epochs": 3, "batch_size": 32, "precision": "bf16"})), 1534),
            (mini(json!({"n_epochs": 3, "batch_size": 256, "precision": "bf16"})), 1445),
            (many(1700, json!({"n_epochs": 1, "batch_size": 32, "precision": "fp32"})), 882),
            (base(json!({"n_epochs": 1, "batch_size": 8, "precision": "fp32"})), 2941),
            (base(json!({"n_epochs": 3, "batch_size": 64, "precision": "bf16"})), 3937),
        ] {
            let ratio = predicted as f64 / f64::from(measured);
            assert!((0.75..1.25).contains(&ratio), "{predicted} MiB for {measured} MiB");
        }
    }

    /// Llama 3.1 8B on texts of 8,000 characters.
    fn of_8b(values: Value) -> Estimate {
        let facts = ModelFacts {
            backbone: Backbone::TextDecoder,
            hidden_size: 4096,
            intermediate_size: 14336,
            layers: 32,
            vocab_size: 128_256,
            max_positions: 131_072,
            parameters: 8_030_261_248,
            ..ModelFacts::default()
        };
        let subject = Subject { method: Method::default_for(Backbone::TextDecoder, &[]), facts: &facts };
        let Value::Object(values) = values else { panic!("an object") };
        let requested = Requested::parse(subject.method, values, "h").unwrap();
        let data = DataFacts { training_examples: 1000, problem: ProblemType::default() };
        let h = resolve(&requested, subject, data, "h").unwrap();
        let mut lengths = Lengths::default();
        (0..1000).for_each(|count| lengths.add(8000, count + 1));
        let contents = Contents::Chats { chats: Box::default(), text_lengths: lengths };
        let training = ExamplesReport { examples: 1000, contents, ..ExamplesReport::default() };
        let report = DataReport { training, ..DataReport::default() };
        estimate(subject, &h, &report, 0, Device { is_gpu: true, has_bf16: true })
    }

    #[test]
    fn adapters_of_8b_fit_one_card() {
        let card = |gigabytes: u64| Machine {
            device: Device { is_gpu: true, has_bf16: true },
            memory: Some(gigabytes * 1_000_000_000),
            free_disk: None,
            disk: None,
        };
        let needs = |quantization: &str, layers: u32| {
            let lora = json!({"type": "lora", "r": 16, "target_modules": "all-linear", "quantization": quantization});
            of_8b(
                json!({"adapter": lora, "batch_size": 2, "gradient_checkpointing": layers, "max_sequence_length": 2048}),
            )
        };
        assert_eq!(shortage(&needs("nf4", 32), &[card(24)]), None);
        assert_eq!(shortage(&needs("none", 32), &[card(40)]), None);
        assert!(
            shortage(&needs("none", 32), &[card(16)]).is_some() && shortage(&needs("none", 0), &[card(24)]).is_some()
        );
        let peak = |quantization, layers| needs(quantization, layers).peak_memory_bytes.unwrap();
        assert!(peak("none", 0) > peak("none", 16) && peak("none", 16) > peak("none", 32));
        assert!(peak("nf4", 32) < peak("none", 32) / 3 * 2, "{} and {}", peak("nf4", 32), peak("none", 32));
    }

    #[test]
    fn what_is_frozen_needs_less() {
        let peak = |values| of(109_482_240, 768, 12, values, CPU).peak_memory_bytes.unwrap();
        let full = peak(json!({"batch_size": 8}));
        let half = peak(json!({"batch_size": 8, "freeze": {"layers": 6}}));
        let lora = peak(json!({"batch_size": 8, "adapter": {"type": "lora"}}));
        let head = peak(json!({"batch_size": 8, "freeze": "backbone"}));
        assert!(full > half && half > lora && lora > head, "{full} {half} {lora} {head}");
        // Two moments of a byte each and their scales in the place of eight bytes, and in the copy that is saved.
        let eight_bit = peak(json!({"batch_size": 8, "optimizer": "adamw_8bit"}));
        let saved = (full - eight_bit) as f64 / 109_482_240.0;
        assert!((11.9..12.0).contains(&saved), "{saved}");
    }

    #[test]
    fn a_run_that_fits_nowhere_is_told_with_figures() {
        let needs = Estimate { peak_memory_bytes: Some(3 << 30), disk_bytes: 1 << 30, ..Estimate::default() };
        let machine = |memory: u64, disk: u64| Machine {
            device: CPU,
            memory: Some(memory << 30),
            free_disk: Some(disk << 30),
            disk: None,
        };
        assert_eq!(shortage(&needs, &[machine(2, 9), machine(4, 9)]), None);
        assert_eq!(shortage(&needs, &[]), None);
        assert_eq!(shortage(&needs, &[Machine { memory: None, ..machine(1, 9) }]), None);
        let error = shortage(&needs, &[machine(2, 9)]).unwrap();
        assert_eq!(error.code, "insufficient_memory");
        assert!(
            error.message.contains("about 3.00 GiB") && error.message.contains("has 2.00 GiB"),
            "{}",
            error.message
        );
        let error = shortage(&needs, &[machine(4, 0)]).unwrap();
        assert_eq!(error.code, "insufficient_storage");
        let full = |disk: u64| Machine { disk: Some(disk << 30), ..machine(9, 0) };
        assert_eq!(shortage(&needs, &[full(9)]), None, "room may come");
        let more = Estimate { disk_bytes: 2 << 30, ..needs };
        assert_eq!(shortage(&more, &[full(1)]).unwrap().code, "insufficient_storage");
    }

    #[test]
    fn a_gpu_keeps_the_copy_in_the_machines_memory_and_an_unknown_size_predicts_none() {
        let gpu = Device { is_gpu: true, has_bf16: true };
        let values = || json!({"n_epochs": 3, "batch_size": 32});
        assert!(
            of(1 << 30, 384, 6, values(), gpu).peak_memory_bytes < of(1 << 30, 384, 6, values(), CPU).peak_memory_bytes
        );
        assert_eq!(of(0, 384, 6, values(), CPU).peak_memory_bytes, None);
    }
}
