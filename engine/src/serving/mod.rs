//! A model at work: answers what it is asked, one request after the other.

mod classifier;
mod language_model;
mod shared_base;

use std::fs;
use std::path::Path;

use self::classifier::Classifier;
use self::shared_base::SharedBase;
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::models::{ModelConfig, read_config};
use finetuned::domain::hyperparameters::Precision;
use finetuned::domain::serving::{Answered, Asked, Question, Refusal, Reply, ServingSpec, VERSION};

/// What answers.
trait Model {
    /// The last answer to a question; those before it are told as they come. `name` is that of a model that was loaded, if it is
    /// to answer.
    ///
    /// # Errors
    /// The engine failed, which is no fault of the question.
    fn answer(&mut self, name: Option<&str>, question: &Question, tell: &mut dyn FnMut(Answered)) -> Result<Answered>;
}

/// A model that answers requests.
pub struct Server(Box<dyn Model>);

/// Reads a spec file. The model's path is taken from the file's own folder.
///
/// # Errors
/// The file is missing, malformed or of another version.
pub fn read_spec(path: &Path) -> Result<ServingSpec> {
    let text = fs::read(path).map_err(EngineError::io(path))?;
    let mut spec: ServingSpec = serde_json::from_slice(&text)
        .map_err(|error| EngineError::native(format!("the serving spec is malformed: {error}")))?;
    if spec.version != VERSION {
        return Err(EngineError::native(format!("the spec has version {}, this trainer {VERSION}", spec.version)));
    }
    spec.model = path.parent().unwrap_or(Path::new(".")).join(&spec.model);
    Ok(spec)
}

impl Server {
    /// Opens the model that `spec` names.
    ///
    /// # Errors
    /// It is neither a classifier nor a language model, or its files cannot be used.
    pub fn open(spec: &ServingSpec, device: ComputeDevice) -> Result<Self> {
        let json = read_config(&spec.model)?;
        let model: Box<dyn Model> = match ModelConfig::parse(&json)? {
            ModelConfig::Text(config) if config.facts().backbone.is_language_model() => {
                Box::new(SharedBase::open(&spec.model, &config, device, Precision::Auto)?)
            }
            config => Box::new(Classifier::open(spec, &json, config, device)?),
        };
        Ok(Self(model))
    }

    /// The language model in `directory`, which computes in that precision.
    ///
    /// # Errors
    /// It is none, or its files cannot be used.
    pub(crate) fn language_model(directory: &Path, device: ComputeDevice, precision: Precision) -> Result<Self> {
        match ModelConfig::parse(&read_config(directory)?)? {
            ModelConfig::Text(config) if config.facts().backbone.is_language_model() => {
                Ok(Self(Box::new(SharedBase::open(directory, &config, device, precision)?)))
            }
            _ => Err(EngineError::model("The model is no language model, and writes nothing.")),
        }
    }

    /// The last answer to a question; those before it are told as they come.
    ///
    /// # Errors
    /// The engine failed, which is no fault of the question.
    pub(crate) fn ask(&mut self, question: &Question, tell: &mut dyn FnMut(Answered)) -> Result<Answered> {
        self.0.answer(None, question, tell)
    }

    /// Answers a request, whatever becomes of it; what comes before the last answer is told.
    ///
    /// # Errors
    /// The engine failed; the error is no fault of the request.
    pub fn reply(&mut self, asked: &Asked, tell: &mut dyn FnMut(Reply)) -> Result<Reply> {
        let _guard = tch::no_grad_guard();
        let reply = |answer| Reply { id: asked.id, answer };
        Ok(reply(self.0.answer(asked.model.as_deref(), &asked.question, &mut |answer| tell(reply(answer)))?))
    }
}

/// The answer to a question that is none for this model.
fn not_asked(what: &str) -> Answered {
    let message = format!("The model answers {what} alone.");
    Answered::Error(Refusal { param: Some("model".to_owned()), message })
}
