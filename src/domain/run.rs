//! The contract between worker and trainer: the spec that the worker writes, the messages that the trainer prints,
//! the commands it reads. One JSON value per line each way; nothing else is shared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::checkpoint::Metrics;
use super::grading::Grading;
use super::hyperparameters::{Hyperparameters, Precision};
use super::job::{JobError, Phase, ReadOptions};
use super::method::Method;
use super::report::{DataFormat, Part, TokenLengths};

/// The version of this contract. Version 1 named the hyperparameters of all methods, and is still read; a trainer refuses any
/// other.
pub const VERSION: u32 = 2;
pub const OLDEST_VERSION: u32 = 1;

/// Everything one run needs to know. Relative paths are taken from the folder of the spec's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    pub version: u32,
    /// For logs and the model card.
    pub job: String,
    pub method: Method,
    /// The directory of the base model.
    pub model: PathBuf,
    /// Name of the base model, for the model card.
    pub model_name: String,
    /// None for a run that trains nothing and evaluates the model on `test`.
    pub training: Option<DataFile>,
    pub validation: Option<DataFile>,
    /// Share of the training examples to hold out where `validation` is absent.
    pub validation_split: f64,
    /// Whether equal examples are held out together. Specs of before that was done have it not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grouped: bool,
    /// Whether what another file has is left out, by [`OverlapPolicy::Drop`](super::job::OverlapPolicy::Drop).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drops_overlap: bool,
    pub test: Option<DataFile>,
    /// How what the model writes is graded, of a run that evaluates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grading: Option<Grading>,
    /// The model that it is compared with there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineModel>,
    /// The labels in the order of their class numbers.
    pub labels: Vec<String>,
    pub hyperparameters: Hyperparameters,
    pub seed: i64,
    /// The checkpoint to go on from.
    pub resume: Option<PathBuf>,
    /// Where checkpoints are written, one folder each.
    pub checkpoints: PathBuf,
    /// Where the finished model is written.
    pub output: PathBuf,
    /// CPU threads to compute with; 0 means all cores.
    pub threads: usize,
    /// Bytes that it leaves free on the disk it writes to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_free_bytes: u64,
    /// Where a test makes the trainer die (`failpoint`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failpoints: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A model to compare with: its directory and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineModel {
    pub path: PathBuf,
    pub name: String,
}

/// A data file and how to read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    pub path: PathBuf,
    pub format: DataFormat,
    #[serde(flatten)]
    pub options: ReadOptions,
    pub sha256: String,
}

/// What the trainer reports, one message per line of its standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TrainerMessage {
    /// The model and the data are loaded.
    Started(Started),
    /// What it is doing now.
    Phase { phase: Phase },
    /// Something the job's owner should know.
    Notice { warning: bool, message: String },
    /// It gets on with something that takes long.
    Alive,
    /// One optimizer step is done.
    Step(Step),
    /// The validation data was evaluated after `step`.
    Evaluated { step: u64, metrics: Metrics },
    /// A checkpoint lies complete in `directory`, relative to the run's folder.
    Checkpoint { step: u64, directory: PathBuf, metrics: Metrics },
    /// The model lies complete in the output directory.
    Finished(Finished),
    /// It stopped as told.
    Stopped { step: u64 },
    /// It cannot go on; the message is for the job's owner.
    Failed { error: JobError },
}

/// What a run starts with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The device's name, for people.
    pub device: String,
    /// The precision in use: never `auto`.
    pub precision: Precision,
    /// Where it goes on from; 0 is the beginning.
    pub step: u64,
    pub total_steps: u64,
    pub training_examples: u64,
    pub validation_examples: u64,
    /// Texts that were cut to the maximal length.
    pub truncated: u64,
    pub mean_tokens: f64,
    /// Lengths of the texts of each file that there is. Trainers of before they were told have it not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub token_lengths: BTreeMap<Part, TokenLengths>,
    pub parameters: u64,
    /// Those that are trained. Trainers of before it was told have it not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_parameters: Option<u64>,
}

/// Measurements of one optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub step: u64,
    pub epoch: f64,
    /// Wall-clock time of the step. Metrics, by contrast, are the same in every run of the same spec.
    pub seconds: f64,
    /// Most bytes of GPU memory that tensors held so far; none on the CPU. Varies as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_memory: Option<u64>,
    pub metrics: Metrics,
}

/// The end of a successful run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub step: u64,
    /// Tokens seen by the forward pass in training, padding not counted.
    pub trained_tokens: u64,
    /// Scores on the validation and test data.
    pub evaluation: serde_json::Value,
}

/// What the worker tells the trainer, one command per line of its standard input. The end of the input means that the
/// worker is gone: the trainer exits at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TrainerCommand {
    /// The spec is there: begin. For a trainer that was started before it.
    Start,
    /// Stop after the current step, with a checkpoint if asked.
    Stop { checkpoint: bool },
    /// The lease was renewed: exit at this many milliseconds since boot, unless another one comes before. So the trainer
    /// ends in time even where its worker hangs.
    Lease { until: u64 },
}

/// The exit status of a trainer that ended because its worker went away or could not keep the lease.
pub const ABANDONED: i32 = 3;

/// What `finetuned-trainer devices` prints: one line of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// CUDA devices that libtorch can use.
    pub cuda: usize,
    /// Whether the processor computes in bfloat16 natively.
    pub cpu_bf16: bool,
    /// Bytes of memory of the smallest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_memory: Option<u64>,
    /// Folders of the libraries that it has loaded, and by themselves the program and what lies beside it: what it must be
    /// able to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::{OLDEST_VERSION, Part, RunSpec, TokenLengths, TrainerCommand, TrainerMessage, VERSION};
    use crate::domain::method::{ProblemType, text_classification};

    /// A spec and messages as version 1 writes them: later versions must still read them.
    const SPEC_V1: &str = include_str!("../../tests/fixtures/run_spec_v1.json");
    const MESSAGES_V1: &str = include_str!("../../tests/fixtures/trainer_messages_v1.jsonl");

    #[test]
    fn a_spec_of_version_1_still_reads() {
        let spec: RunSpec = serde_json::from_str(SPEC_V1).unwrap();
        assert!((OLDEST_VERSION..=VERSION).contains(&spec.version));
        let again = serde_json::to_value(&spec).unwrap();
        let mut first: serde_json::Value = serde_json::from_str(SPEC_V1).unwrap();
        // Of a data file, what is null is now absent.
        for file in ["training", "validation", "test"] {
            if let Some(file) = first[file].as_object_mut() {
                file.retain(|_, value| !value.is_null());
            }
        }
        // Hyperparameters that came later stand beside those of then.
        for (name, value) in first["hyperparameters"].as_object().unwrap() {
            assert_eq!(again["hyperparameters"][name], *value, "{name}");
        }
        // Nothing reads the model's family, which it named.
        let changed = |name: &str| ["hyperparameters", "family"].contains(&name);
        for (name, value) in first.as_object().unwrap().iter().filter(|(name, _)| !changed(name)) {
            assert_eq!(again[name], *value, "{name}");
        }
        assert_eq!(again.as_object().unwrap().len(), first.as_object().unwrap().len() - 1);
        let settings: text_classification::Settings = spec.method.settings(&spec.hyperparameters).unwrap();
        assert_eq!((settings.problem_type, settings.token_masking), (ProblemType::SingleLabelClassification, 0.0));
    }

    #[test]
    fn messages_of_version_1_still_read() {
        for line in MESSAGES_V1.lines() {
            let message: TrainerMessage = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            let again = serde_json::to_value(&message).unwrap();
            assert_eq!(again, serde_json::from_str::<serde_json::Value>(line).unwrap());
        }
        assert_eq!(MESSAGES_V1.lines().count(), 10, "one of each");
    }

    #[test]
    fn lengths_of_texts_pass_from_trainer_to_worker() {
        let mut lengths = TokenLengths { truncated: 1, ..TokenLengths::default() };
        [3, 5, 90].into_iter().zip(1..).for_each(|(length, count)| lengths.lengths.add(length, count));
        let mut message: TrainerMessage = serde_json::from_str(MESSAGES_V1.lines().next().unwrap()).unwrap();
        let TrainerMessage::Started(started) = &mut message else { panic!("{message:?}") };
        started.token_lengths.insert(Part::Test, lengths);
        let line = serde_json::to_string(&message).unwrap();
        assert!(line.contains(r#""token_lengths":{"test":{"min":3,"max":90,"#), "{line}");
        assert_eq!(serde_json::from_str::<TrainerMessage>(&line).unwrap(), message);
    }

    #[test]
    fn commands_are_tagged_objects() {
        let text = serde_json::to_string(&TrainerCommand::Stop { checkpoint: true }).unwrap();
        assert_eq!(text, r#"{"type":"stop","checkpoint":true}"#);
    }
}
