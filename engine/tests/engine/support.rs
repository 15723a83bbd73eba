//! Golden values, tiny models, and how close is close enough.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Once;

use finetuned::domain::hyperparameters::Hyperparameters;
use finetuned_engine::device;
use finetuned_engine::models::text::{TextClassifier, TextConfig, Tokens};
use finetuned_engine::nn::Sequences;
use finetuned_engine::params::{self, Init, ParamTable};
use finetuned_engine::policy::{Anatomy, Policy};
use finetuned_engine::weights::{self, Weights};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The folder of the golden values. Cargo names the crate's folder when it runs tests, and so may others.
pub fn golden_path(name: &str) -> PathBuf {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&folder).join("tests/golden").join(name)
}

/// A copy of a golden model's folder.
pub fn copy_of(model: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden_path(model)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// The tensors of a golden file; all float32.
pub fn golden(name: &str) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(golden_path(&format!("{name}.safetensors"))).unwrap().into_iter().collect()
}

/// The device under test.
pub fn test_device() -> Device {
    static READY: Once = Once::new();
    let wanted = std::env::var("FINETUNED_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    READY.call_once(|| {
        device::prepare(&wanted, 1).unwrap();
    });
    if wanted == "cuda" { Device::Cuda(0) } else { Device::Cpu }
}

/// How far from PyTorch's float32 values on a CPU a result may be, relative to the largest value of its tensor.
pub struct Tolerance {
    pub kind: Kind,
    pub logits: f64,
    pub gradients: f64,
    pub losses: f64,
}

/// What this project promises for float32, on every device.
pub const FP32: Tolerance = Tolerance { kind: Kind::Float, logits: 1e-4, gradients: 1e-4, losses: 1e-4 };

/// bfloat16 keeps 8 bits of mantissa: about 4e-3 for each product, more once they add up.
pub const BF16: Tolerance = Tolerance { kind: Kind::BFloat16, logits: 3e-2, gradients: 8e-2, losses: 3e-2 };

/// The largest difference of two tensors, relative to the largest value of `expected`.
pub fn difference(actual: &Tensor, expected: &Tensor) -> f64 {
    let float = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    let (actual, expected) = (float(actual), float(expected));
    assert_eq!(actual.size(), expected.size());
    let largest = expected.abs().max().double_value(&[]).max(1e-8);
    (actual - &expected).abs().max().double_value(&[]) / largest
}

#[track_caller]
pub fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_within(difference(actual, expected), tolerance, what);
}

/// Fails when a difference is too large; prints it (`--nocapture`) when it is not, for reports.
#[track_caller]
pub fn assert_within(difference: f64, tolerance: f64, what: &str) {
    assert!(difference <= tolerance, "{what}: {difference:.2e} is more than {tolerance:.0e}");
    println!("difference {difference:.2e} of at most {tolerance:.0e}: {what}");
}

/// A model directory's weights, from the tensors of a golden file whose names start with `prefix`.
pub fn weights_of(golden: &HashMap<String, Tensor>, prefix: &str) -> Weights {
    let named: BTreeMap<String, Tensor> = golden
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone())))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    weights::write(&folder.path().join("model.safetensors"), &named).unwrap();
    Weights::open(folder.path(), "bert").unwrap()
}

pub const CLASSES: i64 = 5;

pub fn tiny_config(activation: &str) -> TextConfig {
    let json = fs::read_to_string(golden_path("tiny-bert/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&json).unwrap();
    config["hidden_act"] = activation.into();
    config["hidden_dropout_prob"] = 0.0.into();
    config["attention_probs_dropout_prob"] = 0.0.into();
    TextConfig::parse(&config.to_string()).unwrap()
}

/// A classifier with the `weight.` tensors of a golden file.
pub fn classifier(golden: &HashMap<String, Tensor>, config: &TextConfig, kind: Kind) -> (TextClassifier, ParamTable) {
    let weights = weights_of(golden, "weight.");
    let head = Init::Normal(0.02);
    let (model, table, report) = params::build(&weights, params::Placement::new(test_device(), kind, 0), |root| {
        TextClassifier::new(root, config, CLASSES, head)
    })
    .unwrap();
    assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
    (model, table)
}

/// Padded rows of ids, packed: sequence `s` is the first `lengths[s]` of row `s`.
pub fn packed(ids: &Tensor, lengths: &Tensor) -> Tokens {
    let device = test_device();
    let rows = Vec::<Vec<f32>>::try_from(ids).unwrap();
    let lengths: Vec<i64> = Vec::<f32>::try_from(lengths).unwrap().into_iter().map(|length| length as i64).collect();
    let (mut flat, mut positions) = (Vec::new(), Vec::new());
    for (row, &length) in rows.iter().zip(&lengths) {
        flat.extend(row[..length as usize].iter().map(|&id| id as i64));
        positions.extend(0..length);
    }
    Tokens {
        types: Tensor::zeros([flat.len() as i64], (Kind::Int64, device)),
        ids: Tensor::from_slice(&flat).to_device(device),
        positions: Tensor::from_slice(&positions).to_device(device),
        sequences: Rc::new(Sequences::from_lengths(lengths, device).unwrap()),
        past: None,
    }
}

/// Mean cross-entropy.
pub fn loss(logits: &Tensor, classes: &Tensor) -> Tensor {
    let classes = classes.to_kind(Kind::Int64).to_device(logits.device());
    logits.cross_entropy_loss(&classes, None::<Tensor>, tch::Reduction::Mean, -100, 0.0)
}

/// A policy for the golden model, from hyperparameters as a client writes them.
pub fn policy(more: Value) -> Policy {
    policy_for("bert", more)
}

/// The same for a model whose backbone has this name.
pub fn policy_for(backbone: &'static str, more: Value) -> Policy {
    let adapted = &["query", "value"];
    let anatomy = Anatomy { backbone, embeddings: &["embeddings"], layers: 2, adapted, ..Anatomy::default() };
    Policy::new(&hyperparameters(more), &anatomy)
}

/// Those of a run, some of them as a client writes them.
pub fn hyperparameters(more: Value) -> Hyperparameters {
    let spec: Value = serde_json::from_str(include_str!("../../../tests/fixtures/run_spec_v1.json")).unwrap();
    let mut h = spec["hyperparameters"].clone();
    h.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(h).unwrap()
}
