//! Whole runs on a tiny model: what they report and write, and that going on after a stop gives the same bits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use finetuned::domain::example::columns::{CHECKPOINT_FILE, MODEL_FILE};
use finetuned::domain::hyperparameters::{Interval, Precision};
use finetuned::domain::job::Phase;
use finetuned::domain::job::ReadOptions;
use finetuned::domain::method::Method;
use finetuned::domain::report::{DataFormat, Part};
use finetuned::domain::run::{DataFile, Finished, RunSpec, Step, TrainerCommand, TrainerMessage};
use finetuned_engine::device::{self, ComputeDevice};
use finetuned_engine::error::EngineError;
use finetuned_engine::observer::Observer;
use finetuned_engine::run;
use tch::Tensor;

use super::support::{BF16, FP32, golden_path, test_device};

/// Keeps what a run reports, and stops it after a step.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) messages: RefCell<Vec<TrainerMessage>>,
    stop_after: Option<u64>,
    stop_in: Option<Phase>,
    checkpoint: bool,
    stopped: Cell<bool>,
}

impl Observer for Recorder {
    fn report(&self, message: TrainerMessage) {
        match &message {
            TrainerMessage::Step(step) if Some(step.step) == self.stop_after => self.stopped.set(true),
            TrainerMessage::Phase { phase } if Some(*phase) == self.stop_in => self.stopped.set(true),
            _ => {}
        }
        self.messages.borrow_mut().push(message);
    }

    fn stop(&self) -> Option<TrainerCommand> {
        self.stopped.get().then_some(TrainerCommand::Stop { checkpoint: self.checkpoint })
    }
}

impl Recorder {
    pub(super) fn steps(&self) -> Vec<Step> {
        let messages = self.messages.borrow();
        messages.iter().filter_map(|m| if let TrainerMessage::Step(s) = m { Some(s.clone()) } else { None }).collect()
    }

    /// Everything measured, by step: what must be the same in every run of the same spec.
    fn measured(&self) -> Vec<(u64, BTreeMap<String, f64>)> {
        let messages = self.messages.borrow();
        messages
            .iter()
            .filter_map(|message| match message {
                TrainerMessage::Step(step) => Some((step.step, step.metrics.clone())),
                TrainerMessage::Evaluated { step, metrics } => Some((*step, metrics.clone())),
                _ => None,
            })
            .collect()
    }

    pub(super) fn checkpoints(&self) -> Vec<(u64, PathBuf)> {
        let messages = self.messages.borrow();
        messages
            .iter()
            .filter_map(|message| match message {
                TrainerMessage::Checkpoint { step, directory, .. } => Some((*step, directory.clone())),
                _ => None,
            })
            .collect()
    }

    fn finished(&self) -> Option<Finished> {
        match self.messages.borrow().last() {
            Some(TrainerMessage::Finished(finished)) => Some(finished.clone()),
            _ => None,
        }
    }
}

const TOPICS: [(&str, &[&str]); 3] = [
    ("card", &["where is my new card", "has my card come", "how do i get a card", "my card has not come yet"]),
    ("rate", &["the exchange rate was wrong", "what rate", "can you tell me the rate", "why the wrong rate"]),
    ("top up", &["top up failed", "my top up failed now", "please cancel the top up", "why has the top up failed"]),
];

/// Forty examples a label would be, if people repeated themselves a little: 60 in all.
pub(super) fn data_file(folder: &Path, name: &str, repeats: usize) -> DataFile {
    let path = folder.join(name);
    let mut text = String::from("text,label\n");
    for repeat in 0..repeats {
        for (label, texts) in TOPICS {
            let question = texts[repeat % texts.len()];
            text.push_str(&format!("{question} {},{label}\n", ["", "?", "please", "now"][repeat / texts.len() % 4]));
        }
    }
    std::fs::write(&path, text).unwrap();
    let sha256 = name.to_owned();
    DataFile { path, format: DataFormat::Csv, options: ReadOptions::default(), sha256 }
}

pub(super) fn spec(folder: &Path) -> RunSpec {
    let mut spec: RunSpec = serde_json::from_str(include_str!("../../../tests/fixtures/run_spec_v1.json")).unwrap();
    spec.model = golden_path("tiny-bert");
    spec.training = Some(data_file(folder, "training.csv", 16));
    spec.test = Some(data_file(folder, "test.csv", 5));
    spec.labels = TOPICS.map(|(label, _)| label.to_owned()).to_vec();
    spec.checkpoints = folder.join("checkpoints");
    spec.output = folder.join("output");
    spec.hyperparameters.course.max_sequence_length = 64;
    spec.hyperparameters.optimizer.learning_rate = 5e-3;
    spec.hyperparameters.precision = Precision::Fp32;
    spec.hyperparameters.course.checkpoint_interval = Interval::Epoch;
    spec
}

pub(super) fn device() -> ComputeDevice {
    ComputeDevice::new(test_device())
}

pub(super) fn train(spec: &RunSpec) -> Recorder {
    let recorder = Recorder::default();
    run::run(spec, device(), &recorder).unwrap();
    recorder
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_run_learns_and_leaves_a_model_directory() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.hyperparameters.course.n_epochs = 15;
    let recorder = train(&spec);
    let steps = recorder.steps();
    assert_eq!(steps.len(), 15 * 6, "42 kept examples in batches of 8");
    assert!(steps.last().unwrap().metrics["train_loss"] < 0.5 * steps[0].metrics["train_loss"]);
    let evaluation = recorder.finished().unwrap().evaluation;
    assert!(evaluation["test"]["accuracy"].as_f64().unwrap() > 0.9, "{evaluation}");
    assert_eq!(evaluation["validation"]["examples"], 6);
    assert_eq!(
        files(&spec.output),
        [
            "README.md",
            "config.json",
            "evaluation",
            "manifest.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    let read = |name: &str| std::fs::read_to_string(spec.output.join(name)).unwrap();
    let config: serde_json::Value = serde_json::from_str(&read("config.json")).unwrap();
    assert_eq!(config["architectures"][0], "BertForSequenceClassification");
    assert_eq!(config["id2label"]["2"], "top up");
    assert_eq!(config["label2id"]["rate"], 1);
    let manifest: serde_json::Value = serde_json::from_str(&read("manifest.json")).unwrap();
    let listed = manifest["files"].as_object().unwrap();
    assert!(listed.contains_key("evaluation/report.json") && listed.contains_key("model.safetensors"));
    let report: serde_json::Value = serde_json::from_str(&read("evaluation/report.json")).unwrap();
    assert_eq!(report["accuracy"], evaluation["test"]["accuracy"]);
    let predictions: Vec<serde_json::Value> =
        read("evaluation/predictions.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let right = predictions.iter().filter(|p| p["label"] == p["prediction"]).count();
    assert_eq!(right as f64 / predictions.len() as f64, report["accuracy"].as_f64().unwrap());
    assert_eq!((predictions.len(), &predictions[0]["line"]), (15, &2.into()));
    let names: Vec<String> =
        Tensor::read_safetensors(spec.output.join("model.safetensors")).unwrap().into_iter().map(|(n, _)| n).collect();
    assert!(names.contains(&"bert.encoder.layer.0.attention.self.key.weight".to_owned()));
}

#[test]
fn epochs_bring_evaluations_and_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path());
    let recorder = train(&spec);
    let steps: Vec<u64> = recorder.checkpoints().into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [6, 12, 18]);
    let evaluated = recorder.measured().into_iter().filter(|(_, m)| m.contains_key("full_valid_loss")).count();
    assert_eq!(evaluated, 3);
    let checkpoint = &recorder.checkpoints()[0].1;
    assert_eq!(
        files(checkpoint),
        ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training"]
    );
    assert_eq!(
        files(&checkpoint.join("training")),
        ["manifest.json", "optimizer.safetensors", "state.json", "training_examples.safetensors"]
    );
}

/// Stops a run, goes on in a second one, and compares everything with a run that was never stopped.
fn same_bits_after(stop: Recorder, precision: Precision) {
    let whole_folder = tempfile::tempdir().unwrap();
    let mut whole_spec = spec(whole_folder.path());
    whole_spec.hyperparameters.precision = precision;
    let whole = train(&whole_spec);

    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.hyperparameters.precision = precision;
    run::run(&spec, device(), &stop).unwrap();
    assert!(matches!(stop.messages.borrow().last(), Some(TrainerMessage::Stopped { .. })));
    spec.resume = stop.checkpoints().pop().map(|(_, directory)| directory);
    assert!(spec.resume.is_some());
    let rest = train(&spec);

    let mut rows: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
    for (step, metrics) in stop.measured().into_iter().chain(rest.measured()) {
        rows.entry(step).or_default().extend(metrics);
    }
    let mut expected: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
    for (step, metrics) in whole.measured() {
        expected.entry(step).or_default().extend(metrics);
    }
    assert_eq!(rows, expected);
    assert_eq!(rest.finished().unwrap(), whole.finished().unwrap());
    for name in ["model.safetensors", "evaluation/predictions.jsonl", MODEL_FILE] {
        let bytes = |spec: &RunSpec| std::fs::read(spec.output.join(name)).unwrap();
        assert!(bytes(&spec) == bytes(&whole_spec), "{name} differs");
    }
}

#[test]
fn going_on_after_a_stop_gives_the_same_bits() {
    for precision in [Precision::Fp32, Precision::Bf16] {
        same_bits_after(Recorder { stop_after: Some(8), checkpoint: true, ..Recorder::default() }, precision);
    }
}

#[test]
fn so_does_going_on_after_a_stop_in_an_evaluation() {
    let stop = Recorder { stop_in: Some(Phase::Evaluating), checkpoint: true, ..Recorder::default() };
    same_bits_after(stop, Precision::Fp32);
}

#[test]
fn a_stop_without_checkpoint_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder { stop_after: Some(3), checkpoint: false, ..Recorder::default() };
    run::run(&spec(folder.path()), device(), &recorder).unwrap();
    assert_eq!(recorder.messages.borrow().last(), Some(&TrainerMessage::Stopped { step: 3 }));
    assert!(recorder.checkpoints().is_empty());
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.resume = train(&spec).checkpoints().pop().map(|(_, directory)| directory);
    spec.hyperparameters.optimizer.learning_rate *= 2.0;
    let error = run::run(&spec, device(), &Recorder::default()).unwrap_err();
    assert!(matches!(error, EngineError::Checkpoint { .. }), "{error}");
    assert!(error.to_string().contains("other data or hyperparameters"));
}

#[test]
fn a_checkpoint_with_a_flipped_bit_is_refused_whichever_file_it_is_in() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    let checkpoint = train(&spec).checkpoints().pop().unwrap().1;
    spec.resume = Some(checkpoint.clone());
    let state = ["training/optimizer.safetensors", "training/state.json", CHECKPOINT_FILE];
    for name in ["model.safetensors", "config.json"].into_iter().chain(state) {
        let path = checkpoint.join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let error = run::run(&spec, device(), &Recorder::default()).unwrap_err();
        assert!(matches!(error, EngineError::Checkpoint { .. }), "{name}: {error}");
        std::fs::write(&path, good).unwrap();
    }
    run::run(&spec, device(), &Recorder::default()).unwrap();
}

#[test]
fn accumulating_small_batches_is_the_same_as_one_large_batch() {
    let losses = |precision, batch_size, accumulation| {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path());
        spec.model = without_dropout(folder.path());
        spec.hyperparameters.precision = precision;
        spec.hyperparameters.course.batch_size = batch_size;
        spec.hyperparameters.course.gradient_accumulation_steps = accumulation;
        let own = serde_json::json!({"class_weights": "balanced", "label_smoothing": 0.1});
        spec.hyperparameters.own = serde_json::from_value(own).unwrap();
        let steps = train(&spec).steps();
        steps.into_iter().map(|step| step.metrics["train_loss"]).collect::<Vec<_>>()
    };
    for (precision, tolerance) in [(Precision::Fp32, FP32.losses), (Precision::Bf16, BF16.losses)] {
        let (large, small) = (losses(precision, 9, 1), losses(precision, 3, 3));
        assert_eq!(large.len(), small.len());
        for (large, small) in large.iter().zip(&small) {
            assert!((large - small).abs() / large < tolerance, "{precision:?}: {large} for {small}");
        }
    }
}

/// The tiny model with its dropout turned off.
pub(super) fn without_dropout(folder: &Path) -> PathBuf {
    let model = folder.join("model");
    std::fs::create_dir_all(&model).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(golden_path("tiny-bert").join(name), model.join(name)).unwrap();
    }
    let path = model.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("_prob\": 0.1", "_prob\": 0.0");
    std::fs::write(&path, text).unwrap();
    model
}

/// The device, whose numbers are read so many steps later.
fn reading_late(unread_steps: usize) -> ComputeDevice {
    ComputeDevice { unread_steps, ..device() }
}

#[test]
fn what_is_read_late_is_the_same() {
    let [at_once, one, several] = [0, 1, 4].map(|unread_steps| {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path());
        spec.hyperparameters.course.eval_interval = Interval::Steps(4);
        spec.hyperparameters.course.checkpoint_interval = Interval::Steps(5);
        let recorder = Recorder::default();
        run::run(&spec, reading_late(unread_steps), &recorder).unwrap();
        let written = ["model.safetensors", MODEL_FILE].map(|name| std::fs::read(spec.output.join(name)).unwrap());
        let checkpoints: Vec<u64> = recorder.checkpoints().into_iter().map(|(step, _)| step).collect();
        assert_eq!(recorder.steps().len(), 18);
        assert_eq!(checkpoints, [5, 10, 15]);
        (recorder.measured(), recorder.finished(), written)
    });
    assert!(at_once == one && at_once == several);
}

/// The tiny model without dropout, where `is_broken` of a tensor's name says that these rows of it are no numbers.
fn broken_model(folder: &Path, rows: std::ops::Range<i64>, is_broken: impl Fn(&str) -> bool) -> PathBuf {
    let model = without_dropout(folder);
    let path = model.join("model.safetensors");
    let tensors = Tensor::read_safetensors(&path).unwrap();
    for (_, tensor) in tensors.iter().filter(|(name, _)| is_broken(name)) {
        let _ = tensor.narrow(0, rows.start, rows.end - rows.start).fill_(f64::NAN);
    }
    Tensor::write_safetensors(&tensors, &path).unwrap();
    model
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_before_the_update() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.model = broken_model(folder.path(), 0..32, |name| name.ends_with("pooler.dense.weight"));
    let error = run::run(&spec, device(), &Recorder::default()).unwrap_err();
    assert!(matches!(error, EngineError::NonFinite { what: "loss", step: 1, .. }), "{error}");
    assert_eq!(error.job_error().code, "non_finite_loss");
}

/// Only one text is so long that it comes to what is no number: the run ends at the step that has it, and up to there
/// everything is as it would be if each step were read at once.
#[test]
fn a_run_ends_at_the_step_that_was_no_number_however_late_it_is_read() {
    let ends = [0, 1, 3].map(|unread_steps| {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path());
        spec.model = broken_model(folder.path(), 40..64, |name| name.contains("position_embeddings"));
        let training = spec.training.as_ref().unwrap();
        let rows = std::fs::read_to_string(&training.path).unwrap();
        std::fs::write(&training.path, format!("{rows}{},rate\n", "what rate ".repeat(25))).unwrap();
        spec.hyperparameters.course.checkpoint_interval = Interval::Steps(4);
        spec.hyperparameters.course.batch_size = 4;
        spec.seed = 9;
        let recorder = Recorder::default();
        let error = run::run(&spec, reading_late(unread_steps), &recorder).unwrap_err();
        let EngineError::NonFinite { what: "loss", step, .. } = error else { panic!("{error}") };
        let checkpoints = recorder.checkpoints();
        assert!(checkpoints.iter().map(|(step, _)| *step).eq((4..step).step_by(4)));
        let last = std::fs::read(checkpoints.last().unwrap().1.join("model.safetensors")).unwrap();
        assert_eq!(recorder.steps().last().unwrap().step, step - 1);
        (step, recorder.measured(), last)
    });
    assert!(ends[0].0 > 6 && ends[0].0 % 4 > 1, "{}", ends[0].0);
    assert!(ends[0] == ends[1] && ends[0] == ends[2]);
}

#[test]
fn a_model_goes_on_with_its_own_head_when_the_labels_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = spec(folder.path());
    first.hyperparameters.course.n_epochs = 15;
    let before = train(&first).finished().unwrap().evaluation["test"]["loss"].as_f64().unwrap();
    let second_folder = tempfile::tempdir().unwrap();
    let mut second = spec(second_folder.path());
    second.model = first.output.clone();
    let recorder = train(&second);
    let loss = recorder.steps()[0].metrics["train_loss"];
    assert!(loss < 2.0 * before + 0.2, "{loss} after {before}: the head was kept");
    second.labels.push("other".to_owned());
    let recorder = train(&second);
    let announced = recorder.messages.borrow().iter().any(
        |message| matches!(message, TrainerMessage::Notice { message, .. } if message.contains("classifier.weight")),
    );
    assert!(announced, "a head for other labels starts anew, and says so");
}

#[test]
fn long_texts_are_cut_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.hyperparameters.course.max_sequence_length = 8;
    let recorder = train(&spec);
    let messages = recorder.messages.borrow();
    let Some(TrainerMessage::Started(started)) = messages.iter().find(|m| matches!(m, TrainerMessage::Started(_)))
    else {
        panic!("no start")
    };
    assert!(started.truncated > 0);
    let lengths = &started.token_lengths[&Part::Training];
    assert_eq!((lengths.truncated, lengths.lengths.max), (started.truncated, 8));
    assert_eq!(lengths.lengths.histogram.values().sum::<u64>(), started.training_examples);
    assert!((lengths.lengths.mean - started.mean_tokens).abs() < 1e-9);
    let held_out = &started.token_lengths[&Part::Validation];
    assert_eq!(held_out.lengths.histogram.values().sum::<u64>(), started.validation_examples);
    assert!(messages.iter().any(|message| {
        matches!(message, TrainerMessage::Notice { warning: true, message } if message.contains("were cut to 8 tokens"))
    }));
}

#[test]
fn bf16_without_units_for_it_is_announced_as_slow() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.hyperparameters.precision = Precision::Bf16;
    let recorder = train(&spec);
    let announced = recorder.messages.borrow().iter().any(
        |message| matches!(message, TrainerMessage::Notice { warning: true, message } if message.contains("bf16")),
    );
    assert_eq!(announced, device().precision(Precision::Auto) == Precision::Fp32);
}

/// What is asked of a GPU alone changes nothing on a processor, and the run says so.
#[test]
fn a_processor_computes_the_same_bits_whatever_a_gpu_might_do() {
    let [plain, tf32, free] = [(Precision::Fp32, true), (Precision::Tf32, true), (Precision::Fp32, false)].map(
        |(precision, deterministic)| {
            let folder = tempfile::tempdir().unwrap();
            let mut spec = spec(folder.path());
            spec.hyperparameters.precision = precision;
            spec.hyperparameters.deterministic = deterministic;
            let recorder = Recorder::default();
            run::run(&spec, device::prepare("cpu", 1).unwrap(), &recorder).unwrap();
            let told =
                |part: &str| {
                    recorder.messages.borrow().iter().any(
                        |message| matches!(message, TrainerMessage::Notice { message, .. } if message.contains(part)),
                    )
                };
            assert_eq!(told("TF32"), precision == Precision::Tf32);
            (recorder.measured(), std::fs::read(spec.output.join("model.safetensors")).unwrap())
        },
    );
    assert!(plain == tf32 && plain == free);
}

#[test]
fn auto_precision_is_settled_by_the_device() {
    let settled = device().precision(Precision::Auto);
    assert_ne!(settled, Precision::Auto);
    assert_eq!(device().precision(Precision::Fp32), Precision::Fp32);
    let tf32 = if device().name() == "cuda" { Precision::Tf32 } else { Precision::Fp32 };
    assert_eq!(device().precision(Precision::Tf32), tf32);
    assert_eq!(settled == Precision::Bf16, device::available().cpu_bf16 || device().name() == "cuda");
}

#[test]
fn every_family_trains_and_is_exported_under_its_own_class() {
    for (model, class, name) in [
        ("tiny-roberta", "RobertaForSequenceClassification", "classifier.out_proj.weight"),
        ("tiny-distilbert", "DistilBertForSequenceClassification", "pre_classifier.weight"),
        ("tiny-modernbert", "ModernBertForSequenceClassification", "head.dense.weight"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path());
        spec.model = golden_path(model);
        spec.hyperparameters.course.n_epochs = 4;
        let recorder = train(&spec);
        let steps = recorder.steps();
        assert!(steps.last().unwrap().metrics["train_loss"] < steps[0].metrics["train_loss"], "{model} learns");
        let config = std::fs::read(spec.output.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["architectures"][0], class);
        let tensors = Tensor::read_safetensors(spec.output.join("model.safetensors")).unwrap();
        assert!(tensors.iter().any(|(found, _)| found == name), "{model} has {name}");
    }
}

#[test]
fn longer_sequences_than_a_model_has_positions_for_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.model = golden_path("tiny-roberta");
    spec.hyperparameters.course.max_sequence_length = 65;
    let error = run::run(&spec, device(), &Recorder::default()).unwrap_err();
    // 66 rows of positions, of which RoBERTa leaves two to padding.
    assert_eq!(error.to_string(), "max_sequence_length is 65; the model takes at most 64 tokens");
    assert_eq!(error.job_error().param.as_deref(), Some("hyperparameters.max_sequence_length"));
}

#[test]
fn a_run_that_is_stopped_while_it_asks_its_reference_has_not_failed() {
    let folder = tempfile::tempdir().unwrap();
    let row = r#"{"prompt": "my card", "chosen": " has come", "rejected": " is wrong"}"#;
    let path = folder.path().join("preferences.jsonl");
    std::fs::write(&path, format!("{row}\n").repeat(8)).unwrap();
    let mut spec = spec(folder.path());
    (spec.method, spec.model) = (Method::Dpo, golden_path("tiny-llama"));
    let options = ReadOptions::default();
    spec.training = Some(DataFile { path, format: DataFormat::Jsonl, options, sha256: String::new() });
    (spec.test, spec.labels) = (None, Vec::new());
    let recorder = Recorder { stop_in: Some(Phase::Loading), ..Recorder::default() };
    run::run(&spec, device(), &recorder).unwrap();
    assert_eq!(recorder.messages.borrow().last(), Some(&TrainerMessage::Stopped { step: 0 }));
}
