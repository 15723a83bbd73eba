//! What a family says of itself: one record of facts and heads, filled from its `config.json`.

use std::fmt;

use tch::Tensor;

use super::super::config::{self, number};
use super::super::heads::Step;
use super::Tokens;
use crate::error::{EngineError, Result};
use crate::nn::{Embedding, Hidden, Mode};
use crate::params::Builder;
use finetuned::domain::backbone::Backbone;
use finetuned::domain::model::ModelFacts;

/// A text encoder as its checked `config.json` describes it.
pub struct TextConfig {
    /// What Transformers' classes begin with: `Bert` of `BertForMaskedLM`.
    pub(super) class: &'static str,
    /// What task models put before the encoder's names, and checkpoints of the bare encoder leave out.
    pub(super) prefix: &'static str,
    /// Rows of the word table.
    pub(super) vocab_size: i64,
    /// Width of the hidden states, `D`.
    pub(super) hidden_size: i64,
    pub(super) intermediate_size: i64,
    pub(super) layers: i64,
    /// Tokens of the longest sequence it takes.
    pub(super) max_tokens: i64,
    /// Standard deviation of new weights.
    pub(super) initializer_range: f64,
    /// The layers that get adapters where nothing else is asked for: those of queries and values, as in PEFT.
    pub(super) adapted: &'static [&'static str],
    /// Whether it tells segments apart.
    pub(super) has_token_types: bool,
    /// Whether the output layer of a masked language model is the word table.
    pub(super) has_tied_words: bool,
    pub(super) classification: ClassificationHead,
    pub(super) words: WordHead,
    pub(super) encoder: MakeEncoder,
}

/// Builds the encoder at a path of a checkpoint.
pub(super) type MakeEncoder = Box<dyn Fn(&Builder<'_, '_>) -> Result<Box<dyn TextEncoder>>>;

/// An encoder of any family.
pub trait TextEncoder {
    /// The last hidden states of all tokens, `[T, D]`, or of those at `rows` (int64 `[R]`) alone, `[R, D]`.
    ///
    /// Where only some are asked for, the last layer transforms them alone; its attention still sees every token, and
    /// the result is the same.
    fn hidden(&self, tokens: &Tokens, rows: Option<&Tensor>, mode: &Mode) -> Result<Hidden>;

    /// The table of the words, to which output layers are tied.
    fn words(&self) -> &Embedding;
}

/// How one hidden state per sequence becomes logits, as in Transformers' `…ForSequenceClassification`.
#[derive(Clone, Debug)]
pub(super) struct ClassificationHead {
    pub pooling: Pooling,
    /// Steps that are part of the encoder's own checkpoint.
    pub pooler: Vec<Step>,
    pub steps: Vec<Step>,
    /// Path of the output layer.
    pub output: &'static str,
}

/// Which hidden state stands for a sequence.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pooling {
    /// That of the first token.
    #[default]
    Cls,
    /// The mean over its tokens.
    Mean,
}

/// What stands before the word table in Transformers' `…ForMaskedLM`.
#[derive(Clone, Debug)]
pub(super) struct WordHead {
    pub steps: Vec<Step>,
    /// Path of the bias that words have, if they have one.
    pub bias: Option<&'static str>,
}

/// What a model is for, as far as its class in Transformers goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextTask {
    Classification,
    MaskedLm,
    Embedding,
}

impl TextConfig {
    /// Reads and checks a `config.json` of a text encoder.
    ///
    /// # Errors
    /// A field is missing or asks for something that is not built; the message names it.
    pub fn parse(json: &str) -> Result<Self> {
        let family = config::model_type(json)?;
        super::parse(&family, json)
            .unwrap_or_else(|| config::refuse("model_type", &family, &super::families().collect::<Vec<_>>().join(", ")))
    }

    /// The encoder of a checkpoint, below its [`base_prefix`](Self::base_prefix) at `root`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn encoder(&self, root: &Builder<'_, '_>) -> Result<Box<dyn TextEncoder>> {
        (self.encoder)(&root.at(self.prefix))
    }

    /// Rows of the word table.
    pub fn vocab_size(&self) -> i64 {
        self.vocab_size
    }

    /// Width of the hidden states, `D`.
    pub fn hidden_size(&self) -> i64 {
        self.hidden_size
    }

    /// Tokens of the longest sequence it takes.
    pub fn max_tokens(&self) -> i64 {
        self.max_tokens
    }

    /// Layers of the encoder.
    pub fn layers(&self) -> u32 {
        number(self.layers)
    }

    /// The layers that get adapters where nothing else is asked for.
    pub fn adapted_layers(&self) -> &'static [&'static str] {
        self.adapted
    }

    /// Standard deviation of new weights.
    pub fn initializer_range(&self) -> f64 {
        self.initializer_range
    }

    /// Whether it tells segments apart.
    pub fn has_token_types(&self) -> bool {
        self.has_token_types
    }

    /// What task models put before the encoder's names, and checkpoints of the bare encoder leave out.
    pub fn base_prefix(&self) -> &'static str {
        self.prefix
    }

    /// The class in Transformers that loads the model of a task.
    pub fn architecture(&self, task: TextTask) -> String {
        let task = match task {
            TextTask::Classification => "ForSequenceClassification",
            TextTask::MaskedLm => "ForMaskedLM",
            TextTask::Embedding => "Model",
        };
        format!("{}{task}", self.class)
    }

    /// Refuses to train on sequences of more tokens than the model has positions for.
    ///
    /// # Errors
    /// `max_sequence_length` is larger than [`max_tokens`](Self::max_tokens).
    pub fn check_length(&self, max_sequence_length: u32) -> Result<()> {
        let longest = self.max_tokens;
        if i64::from(max_sequence_length) <= longest {
            return Ok(());
        }
        let message = format!("max_sequence_length is {max_sequence_length}; the model takes at most {longest} tokens");
        Err(EngineError::Hyperparameter { name: "max_sequence_length", message })
    }

    /// See [`ModelConfig::facts`](crate::models::ModelConfig::facts).
    pub fn facts(&self) -> ModelFacts {
        ModelFacts {
            backbone: Backbone::TextEncoder,
            hidden_size: number(self.hidden_size),
            max_positions: number(self.max_tokens),
            layers: self.layers(),
            intermediate_size: number(self.intermediate_size),
            vocab_size: number(self.vocab_size),
            ..ModelFacts::default()
        }
    }
}

impl fmt::Debug for TextConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts();
        f.debug_struct("TextConfig").field("class", &self.class).field("facts", &facts).finish_non_exhaustive()
    }
}
