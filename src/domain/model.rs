//! Base models, fine-tuned models, and how they are called.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::backbone::Backbone;
use super::hyperparameters::Lora;
use super::id::{JobId, ModelId, ProjectId};
use super::method::Method;

/// What a model is, besides its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// Imported by the operator; every project sees it.
    Base,
    /// The result of a job.
    FineTuned,
    /// A job's model as it was at some step.
    Checkpoint,
}

impl ModelKind {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::FineTuned => "fine_tuned",
            Self::Checkpoint => "checkpoint",
        }
    }
}

impl FromStr for ModelKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Base, Self::FineTuned, Self::Checkpoint].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// What job creation needs to know of a model, as the trainer found it on import.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    #[serde(default)]
    pub backbone: Backbone,
    pub hidden_size: u32,
    /// Tokens of the longest sequence it takes; 0 for models of images.
    pub max_positions: u32,
    #[serde(default)]
    pub layers: u32,
    /// Width of the layers' inner part.
    #[serde(default)]
    pub intermediate_size: u32,
    /// Values in all its weights; 0 where the model was imported before this was kept.
    #[serde(default)]
    pub parameters: u64,
    /// Rows of its table of word embeddings.
    #[serde(default)]
    pub vocab_size: u32,
    /// Pixels of a side of its images; 0 for models of texts.
    #[serde(default)]
    pub image_size: u32,
    /// Values that training keeps of one image until backward has used them.
    #[serde(default)]
    pub values_per_image: u64,
    /// Tokens that it cuts a sentence to as a model of sentence-transformers; 0 where it does not say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_seq_length: u32,
    /// The adapter that it is its base model with, where its weights are stored so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Lora>,
    /// The last parts of the names of its layers' matrices; empty where the model was imported before this was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linear_layers: Vec<String>,
    /// What its owner should know of how its files were read, each a sentence without a full stop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The methods that its backbone takes and this model does not, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unfit: BTreeMap<Method, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What the trainer says of a model's folder, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// At least one method can train it.
    Trainable {
        /// `model_type` of its `config.json`.
        family: String,
        facts: ModelFacts,
    },
    /// None can: why.
    Refused(String),
}

/// A model.
#[derive(Clone, Debug)]
pub struct Model {
    pub id: ModelId,
    /// None for base models.
    pub project: Option<ProjectId>,
    pub name: String,
    pub kind: ModelKind,
    /// `model_type` of its `config.json`.
    pub family: String,
    pub facts: ModelFacts,
    /// The job that made it.
    pub job: Option<JobId>,
    pub created_at: Timestamp,
}

/// One file of a model directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Relative, with forward slashes.
    pub path: String,
    pub bytes: u64,
    pub sha256: [u8; 32],
    pub object_key: String,
}

/// Files under this folder of a checkpoint serve resuming alone and are not part of the model.
pub const TRAINING_STATE_FOLDER: &str = "training/";

/// The folder of a model that holds its adapter, as PEFT has it.
pub const ADAPTER_FOLDER: &str = "adapter/";

/// PEFT's name for the weights of an adapter.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// PEFT's name for what an adapter's folder says of it.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Under this folder of a checkpoint that has no weights but an adapter's lie those of its base model. They are the very
/// objects of that model, and no part of what is downloaded.
pub const BASE_FOLDER: &str = "base/";

impl ModelFile {
    /// Whether it serves resuming alone.
    pub fn is_training_state(&self) -> bool {
        self.path.starts_with(TRAINING_STATE_FOLDER)
    }

    /// Whether it is the base model's.
    pub fn is_of_base(&self) -> bool {
        self.path.starts_with(BASE_FOLDER)
    }

    /// Whether it is weights of the model itself, not of an adapter or of its base.
    pub fn is_whole_weights(&self) -> bool {
        !self.path.contains('/')
            && (self.path.ends_with(".safetensors") || self.path.ends_with(".safetensors.index.json"))
    }

    fn is_adapted_weights(&self) -> bool {
        self.is_of_base() || self.path.starts_with(ADAPTER_FOLDER)
    }
}

/// Whether a model with these files has all its weights itself.
pub fn has_whole_weights(files: &[ModelFile]) -> bool {
    files.iter().any(ModelFile::is_whole_weights)
}

/// The files that the weights of a model with `files` are read from, as files of a checkpoint whose base it is.
pub fn as_base(files: &[ModelFile]) -> Vec<ModelFile> {
    let is_needed = if has_whole_weights(files) { ModelFile::is_whole_weights } else { ModelFile::is_adapted_weights };
    let below = |file: &ModelFile| ModelFile { path: format!("{BASE_FOLDER}{}", file.path), ..file.clone() };
    files.iter().filter(|file| is_needed(file)).map(below).collect()
}

/// The files that hold the weights of a model with `files`, its adapter aside, as [`as_base`] has them: models with the same
/// ones have these weights in common.
pub fn ground(files: &[ModelFile]) -> Vec<ModelFile> {
    if has_whole_weights(files) {
        return as_base(files);
    }
    files.iter().filter(|file| file.is_of_base()).cloned().collect()
}

/// A text file's bytes without the byte order mark that editors on Windows put before them.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

/// Whether `name` can be a base model's: one or two path-like segments, as on model hubs.
pub fn is_base_model_name(name: &str) -> bool {
    let segment = |part: &str| {
        (1..=96).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && !part.starts_with('.')
    };
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() <= 2 && parts.into_iter().all(segment)
}

/// A name for a base model that is near to `name`, such as that of a folder; None if nothing of it can be kept.
pub fn base_model_name_near(name: &str) -> Option<String> {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    let words = name.split(|c| !is_kept(c)).filter(|word| word.chars().any(|c| c != '.'));
    let words: Vec<&str> = words.collect();
    let near: String = words.join("-").trim_start_matches('.').chars().take(96).collect();
    Some(near).filter(|near| is_base_model_name(near))
}

/// More characters than any model's name has: base (193), project (40), suffix (64), tag and step together have fewer.
pub const MODEL_NAME_CHARS: usize = 400;

/// The name of a fine-tuned model: `ft:{base}:{project}:{suffix}:{tag}`; the suffix may be empty.
pub fn fine_tuned_name(base: &str, project: &str, suffix: Option<&str>, tag: &str) -> String {
    format!("ft:{base}:{project}:{}:{tag}", suffix.unwrap_or_default())
}

/// The name of a checkpoint of a fine-tuned model.
pub fn checkpoint_name(fine_tuned: &str, step: u64) -> String {
    format!("{fine_tuned}:ckpt-step-{step}")
}

/// The base model's name in a fine-tuned model's name; any other name is its own base.
pub fn root_of(name: &str) -> &str {
    name.strip_prefix("ft:").and_then(|rest| rest.split(':').next()).unwrap_or(name)
}

/// The eight letters and digits that end a fine-tuned model's name, from random bytes.
pub fn name_tag(random: [u8; 8]) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    random.iter().map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::{base_model_name_near, checkpoint_name, fine_tuned_name, is_base_model_name, name_tag, root_of};

    #[test]
    fn names_follow_the_openai_form() {
        assert_eq!(fine_tuned_name("m", "acme", Some("v1"), "7p4lURel"), "ft:m:acme:v1:7p4lURel");
        assert_eq!(fine_tuned_name("org/m", "acme", None, "7p4lURel"), "ft:org/m:acme::7p4lURel");
        assert_eq!(checkpoint_name("ft:m:acme::7p4lURel", 88), "ft:m:acme::7p4lURel:ckpt-step-88");
        assert_eq!(root_of("ft:org/m:acme:v1:7p4lURel:ckpt-step-88"), "org/m");
        assert_eq!(root_of("org/m"), "org/m");
    }

    #[test]
    fn base_model_names_cannot_leave_a_folder_or_look_fine_tuned() {
        assert!(is_base_model_name("all-MiniLM-L6-v2"));
        assert!(is_base_model_name("Qwen/Qwen2.5-0.5B"));
        for bad in ["", "/a", "a/", "a/b/c", "../a", ".a", "ft:a", "a b", "a\0", &"a".repeat(97)] {
            assert!(!is_base_model_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_has_one_near_to_it() {
        for (name, near) in [
            ("m14 my bert (v2)", Some("m14-my-bert-v2")),
            ("  .hidden model", Some("hidden-model")),
            ("../x ..", Some("x")),
            ("über/straße", Some("ber-stra-e")),
            ("a/b/c", Some("a-b-c")),
            ("日本", None),
            ("", None),
        ] {
            assert_eq!(base_model_name_near(name).as_deref(), near, "{name:?}");
        }
        assert!(base_model_name_near(&"x ".repeat(500)).is_some());
    }

    #[test]
    fn a_tag_is_eight_letters_or_digits() {
        let tag = name_tag([0, 61, 62, 255, 10, 36, 1, 2]);
        assert_eq!(tag.len(), 8);
        assert!(tag.bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}
