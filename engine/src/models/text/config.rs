//! `config.json` of a text encoder, by its `model_type`.

use std::fmt::Display;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::Tensor;

use super::{BertConfig, BertFamily, DistilBertConfig, ModernBertConfig};
use crate::error::{EngineError, Result};

/// The checked `config.json` of a text encoder.
#[derive(Clone, Debug, PartialEq)]
pub enum TextConfig {
    /// BERT, RoBERTa, XLM-RoBERTa and MPNet.
    Bert(BertConfig),
    DistilBert(DistilBertConfig),
    ModernBert(ModernBertConfig),
}

/// What a model is for, as far as its class in Transformers goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextTask {
    Classification,
    MaskedLm,
    Embedding,
}

impl TextConfig {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// A field is missing or asks for something that is not built; the message names it.
    pub fn parse(json: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct ModelType {
            model_type: String,
        }
        let ModelType { model_type } = read(json)?;
        match model_type.as_str() {
            "bert" | "roberta" | "xlm-roberta" | "mpnet" => Ok(Self::Bert(BertConfig::parse(json)?)),
            "distilbert" => Ok(Self::DistilBert(DistilBertConfig::parse(json)?)),
            "modernbert" => Ok(Self::ModernBert(ModernBertConfig::parse(json)?)),
            other => refuse("model_type", other, "bert, roberta, xlm-roberta, mpnet, distilbert, modernbert"),
        }
    }

    /// Rows of the word table.
    pub fn vocab_size(&self) -> i64 {
        match self {
            Self::Bert(config) => config.vocab_size,
            Self::DistilBert(config) => config.vocab_size,
            Self::ModernBert(config) => config.vocab_size,
        }
    }

    /// Width of the hidden states, `D`.
    pub fn hidden_size(&self) -> i64 {
        match self {
            Self::Bert(config) => config.hidden_size,
            Self::DistilBert(config) => config.dim,
            Self::ModernBert(config) => config.hidden_size,
        }
    }

    /// Tokens of the longest sequence it takes.
    pub fn max_tokens(&self) -> i64 {
        match self {
            Self::Bert(config) => config.max_position_embeddings - config.first_position(),
            Self::DistilBert(config) => config.max_position_embeddings,
            Self::ModernBert(config) => config.max_position_embeddings,
        }
    }

    /// Layers of the encoder.
    pub fn layers(&self) -> u32 {
        let layers = match self {
            Self::Bert(config) => config.num_hidden_layers,
            Self::DistilBert(config) => config.n_layers,
            Self::ModernBert(config) => config.num_hidden_layers,
        };
        u32::try_from(layers).unwrap_or(u32::MAX)
    }

    /// The layers that get adapters where nothing else is asked for: those of queries and values, as in PEFT.
    pub fn adapted_layers(&self) -> &'static [&'static str] {
        match self {
            Self::Bert(config) if config.model_type == BertFamily::Mpnet => &["q", "v"],
            Self::Bert(_) => &["query", "value"],
            Self::DistilBert(_) => &["q_lin", "v_lin"],
            Self::ModernBert(_) => &["Wqkv"],
        }
    }

    /// Refuses to train on sequences of more tokens than the model has positions for.
    ///
    /// # Errors
    /// `max_sequence_length` is larger than [`max_tokens`](Self::max_tokens).
    pub fn check_length(&self, max_sequence_length: u32) -> Result<()> {
        let longest = self.max_tokens();
        if i64::from(max_sequence_length) <= longest {
            return Ok(());
        }
        let message = format!("max_sequence_length is {max_sequence_length}; the model takes at most {longest} tokens");
        Err(EngineError::Hyperparameter { name: "max_sequence_length", message })
    }

    /// Standard deviation of new weights.
    pub fn initializer_range(&self) -> f64 {
        match self {
            Self::Bert(config) => config.initializer_range,
            Self::DistilBert(config) => config.initializer_range,
            Self::ModernBert(config) => config.initializer_range,
        }
    }

    /// Whether it tells segments apart.
    pub fn has_token_types(&self) -> bool {
        matches!(self, Self::Bert(config) if config.type_vocab_size > 1)
    }

    /// Whether the output layer of a masked language model is the word table.
    pub fn tie_word_embeddings(&self) -> bool {
        match self {
            Self::Bert(config) => config.tie_word_embeddings,
            Self::DistilBert(config) => config.tie_word_embeddings,
            Self::ModernBert(config) => config.tie_word_embeddings,
        }
    }

    /// What task models put before the encoder's names, and checkpoints of the bare encoder leave out.
    pub fn base_prefix(&self) -> &'static str {
        match self {
            Self::Bert(config) => match config.model_type {
                BertFamily::Bert => "bert",
                BertFamily::Roberta | BertFamily::XlmRoberta => "roberta",
                BertFamily::Mpnet => "mpnet",
            },
            Self::DistilBert(_) => "distilbert",
            Self::ModernBert(_) => "model",
        }
    }

    /// The class in Transformers that loads the model of a task.
    pub fn architecture(&self, task: TextTask) -> String {
        let family = match self {
            Self::Bert(config) => match config.model_type {
                BertFamily::Bert => "Bert",
                BertFamily::Roberta => "Roberta",
                BertFamily::XlmRoberta => "XLMRoberta",
                BertFamily::Mpnet => "MPNet",
            },
            Self::DistilBert(_) => "DistilBert",
            Self::ModernBert(_) => "ModernBert",
        };
        let task = match task {
            TextTask::Classification => "ForSequenceClassification",
            TextTask::MaskedLm => "ForMaskedLM",
            TextTask::Embedding => "Model",
        };
        format!("{family}{task}")
    }
}

/// Reads the fields of `T`; an error names the field.
pub(super) fn read<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json))
        .map_err(|error| EngineError::model(format!("config.json: {error}")))
}

/// The error for a field that asks for something that is not built.
pub(super) fn refuse<T>(field: &str, value: impl Display, supported: &str) -> Result<T> {
    Err(EngineError::model(format!("config.json: {field} is {value}; supported: {supported}")))
}

/// Refuses a number below 1.
pub(super) fn check_positive(field: &str, value: i64) -> Result<()> {
    if value < 1 { refuse(field, value, "1 and more") } else { Ok(()) }
}

/// Refuses heads that do not share the width evenly.
pub(super) fn check_heads(field: &str, heads: i64, width_field: &str, width: i64) -> Result<()> {
    if heads < 1 || width % heads != 0 {
        return refuse(field, heads, &format!("a divisor of {width_field}"));
    }
    Ok(())
}

/// An activation function, element by element.
pub(super) type Activation = fn(&Tensor) -> Result<Tensor>;

/// The activation that Transformers calls `name`, from the config's `field`.
pub(super) fn activation(field: &str, name: &str) -> Result<Activation> {
    match name {
        "gelu" => Ok(gelu),
        "gelu_new" => Ok(|x| Ok(x.f_gelu("tanh")?)),
        "relu" => Ok(|x| Ok(x.f_relu()?)),
        _ => refuse(field, name, "gelu, gelu_new, relu"),
    }
}

/// GELU with the error function, not its approximation.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_gelu("none")?)
}

/// Defaults of Transformers' configuration classes, for serde.
pub(super) mod default {
    pub(in super::super) fn gelu() -> String {
        "gelu".to_owned()
    }
    pub(in super::super) fn tenth() -> f64 {
        0.1
    }
    pub(in super::super) fn initializer_range() -> f64 {
        0.02
    }
    pub(in super::super) fn yes() -> bool {
        true
    }
}
