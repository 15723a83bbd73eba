//! Model families, each in one file: its `config.json`, its layers under their Hugging Face names, and its heads as data.
//!
//! `config.json` is read here alone. Importing a model asks the trainer (see [`crate::check`]), so what is imported is
//! what can be trained.

pub mod config;
pub mod heads;
pub mod text;
pub mod vision;

use std::path::Path;

use crate::error::{EngineError, Result};
use crate::weights::Weights;
use finetuned::domain::model::{ModelFacts, without_mark};
use text::TextConfig;
use vision::VisionConfig;

/// The checked `config.json` of a model.
pub enum ModelConfig {
    Text(TextConfig),
    Vision(VisionConfig),
}

impl ModelConfig {
    /// Reads and checks a `config.json` of any family.
    ///
    /// # Errors
    /// The family is not built, or a field is missing or asks for something that is not built; the message names it.
    pub fn parse(json: &str) -> Result<Self> {
        let family = config::model_type(json)?;
        if let Some(config) = text::parse(&family, json) {
            return config.map(Self::Text);
        }
        if let Some(config) = vision::parse(&family, json) {
            return config.map(Self::Vision);
        }
        let known: Vec<&str> = text::families().chain(vision::families()).collect();
        config::refuse("model_type", family, &known.join(", "))
    }

    /// Opens the weights in `directory` under the names in use today.
    ///
    /// # Errors
    /// There are none, or they are malformed.
    pub fn open_weights(&self, directory: &Path) -> Result<Weights> {
        match self {
            Self::Text(config) => Weights::open(directory, config.base_prefix()),
            Self::Vision(config) => config.open_weights(directory),
        }
    }

    /// What the service needs to know of the model, but for the number of its parameters.
    pub fn facts(&self) -> ModelFacts {
        match self {
            Self::Text(config) => config.facts(),
            Self::Vision(config) => config.facts(),
        }
    }
}

/// The text of a model's `config.json`.
///
/// # Errors
/// It cannot be read.
pub fn read_config(model: &Path) -> Result<String> {
    let path = model.join("config.json");
    let bytes = std::fs::read(&path).map_err(EngineError::io(&path))?;
    let text = std::str::from_utf8(without_mark(&bytes));
    text.map(str::to_owned).map_err(|_| EngineError::model("config.json is not UTF-8"))
}
