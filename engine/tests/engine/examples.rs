//! What whole runs keep of their training examples.

use std::collections::BTreeMap;
use std::path::Path;

use finetuned::domain::example::ExampleStatistics;
use finetuned::domain::example::columns::{self, CHECKPOINT_FILE, LABEL, LINE, MODEL_FILE, values};
use finetuned::domain::run::{RunSpec, TrainerMessage};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::training::{data_file, spec, train, without_dropout};

/// The statistics in a file, by line.
fn kept(path: &Path) -> BTreeMap<u64, ExampleStatistics> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let found = file.iter().map(|(name, tensor)| (name, tensor.data().to_vec())).collect();
    let lines = values(file.tensor(LINE).unwrap().data()).iter().map(|&line| u64::from_le_bytes(line));
    assert_eq!(file.tensor(LABEL).unwrap().shape(), [lines.len()]);
    lines.zip(columns::read(&found).unwrap()).collect()
}

/// A run whose weights do not move, so that its passes say what an evaluation of the base model says.
fn still(folder: &Path) -> RunSpec {
    let mut spec = spec(folder);
    spec.model = without_dropout(folder);
    spec.hyperparameters.optimizer.learning_rate = 1e-12;
    // What is trained on is also what is tested with, so that each example has a line.
    spec.test = Some(data_file(folder, "training.csv", 16));
    spec
}

#[test]
fn each_pass_counts_for_the_example_that_it_is_of() {
    for (batch_size, accumulation, freeze) in [(8, 1, json!("none")), (3, 3, json!("none")), (5, 2, json!("backbone"))]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = still(folder.path());
        spec.hyperparameters.course.batch_size = batch_size;
        spec.hyperparameters.course.gradient_accumulation_steps = accumulation;
        spec.hyperparameters.tuning.freeze = serde_json::from_value(freeze).unwrap();
        let own = json!({"class_weights": "balanced", "label_smoothing": 0.2});
        spec.hyperparameters.own = serde_json::from_value(own).unwrap();
        train(&spec);
        let found = kept(&spec.output.join(MODEL_FILE));
        assert_eq!(found.len(), 42, "of 48, 6 are held out");
        let lines = std::fs::read_to_string(spec.output.join("evaluation/predictions.jsonl")).unwrap();
        let mut seen = 0;
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let Some(example) = found.get(&line["line"].as_u64().unwrap()) else { continue };
            seen += 1;
            let logits: Vec<f64> = line["logits"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect();
            let own = spec.labels.iter().position(|label| *label == line["label"]).unwrap();
            let others = (0..logits.len()).filter(|&class| class != own).map(|class| logits[class]);
            let margin = logits[own] - others.fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(example.epochs, 3);
            let close = |found: Option<f64>, expected: f64| {
                assert!((found.unwrap() - expected).abs() < 1e-4, "{found:?} for {expected}, {line}");
            };
            close(example.mean_loss(), line["loss"].as_f64().unwrap());
            close(example.margin(), margin);
            let is_right = line["label"] == line["prediction"];
            assert_eq!(example.correctness(), Some(f64::from(u8::from(is_right))), "{line}");
            assert_eq!(spec.labels[example.prediction as usize], line["prediction"]);
            assert_eq!(example.forgetting_events(), Some(0));
        }
        assert_eq!(seen, 42);
    }
}

#[test]
fn a_label_that_is_wrong_has_the_smallest_margin_and_the_largest_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    let path = &spec.training.as_ref().unwrap().path;
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("\nwhat rate now,rate\n"));
    std::fs::write(path, text.replace("\nwhat rate now,rate\n", "\nwhat rate now,card\n")).unwrap();
    let line = text.lines().position(|line| line == "what rate now,rate").unwrap() as u64 + 1;
    spec.validation = Some(data_file(folder.path(), "validation.csv", 4));
    spec.hyperparameters.course.n_epochs = 6;
    train(&spec);
    let found = kept(&spec.output.join(MODEL_FILE));
    assert_eq!(found.len(), 48);
    let by = |key: fn(&ExampleStatistics) -> f64| *found.iter().min_by(|a, b| key(a.1).total_cmp(&key(b.1))).unwrap().0;
    assert_eq!(by(|example| example.margin().unwrap()), line);
    assert_eq!(by(|example| -example.mean_loss().unwrap()), line);
}

#[test]
fn a_run_goes_on_from_a_checkpoint_without_statistics_and_counts_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    let checkpoint = train(&spec).checkpoints()[1].1.clone();
    // As a version left it that kept none.
    std::fs::remove_file(checkpoint.join(CHECKPOINT_FILE)).unwrap();
    let manifest = checkpoint.join("training/manifest.json");
    let mut hashes: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    hashes.remove(CHECKPOINT_FILE).unwrap();
    std::fs::write(&manifest, serde_json::to_vec(&hashes).unwrap()).unwrap();
    spec.resume = Some(checkpoint);
    let recorder = train(&spec);
    let said = recorder.messages.borrow().iter().any(|message| {
        matches!(message, TrainerMessage::Notice { message, .. } if message.ends_with("they count from step 13"))
    });
    assert!(said, "it says from where");
    assert!(kept(&spec.output.join(MODEL_FILE)).values().all(|example| example.epochs == 1), "one epoch of three");
}
