//! What a family says of itself: one record of facts and heads, filled from its `config.json`.

use std::fmt;

use super::super::config::{self, number};
use super::super::heads::Step;
use super::backbone::TextBackbone;
use super::pooling::Pooling;
use crate::error::{EngineError, Result};
use crate::nn::Linear;
use crate::params::{Builder, Init};
use crate::policy::Anatomy;
use finetuned::domain::backbone::Backbone;
use finetuned::domain::model::ModelFacts;

/// A text encoder as its checked `config.json` describes it.
pub struct TextConfig {
    /// What Transformers' classes begin with: `Bert` of `BertForMaskedLM`.
    pub(super) class: &'static str,
    /// What jobs take it for.
    pub(super) backbone: Backbone,
    /// Rows of the word table.
    pub(super) vocab_size: i64,
    /// Width of the hidden states, `D`.
    pub(super) hidden_size: i64,
    pub(super) intermediate_size: i64,
    /// Tokens of the longest sequence it takes.
    pub(super) max_tokens: i64,
    /// Standard deviation of new weights.
    pub(super) initializer_range: f64,
    /// Whether it tells segments apart.
    pub(super) has_token_types: bool,
    /// What its names tell of where a parameter stands.
    pub(super) anatomy: Anatomy,
    pub(super) classification: ClassificationHead,
    /// What a masked language model puts upon it, or why it is none.
    pub(super) words: std::result::Result<WordHead, String>,
    /// What a causal language model puts upon it, or why it is none.
    pub(super) causal: std::result::Result<CausalHead, String>,
    pub(super) encoder: MakeEncoder,
}

/// Builds the encoder at a path of a checkpoint.
pub(super) type MakeEncoder = Box<dyn Fn(&Builder<'_, '_>) -> Result<Box<dyn TextBackbone>>>;

/// How one hidden state per sequence becomes logits, as in Transformers' `…ForSequenceClassification`.
pub(super) struct ClassificationHead {
    pub pooling: Pooling,
    /// Steps that are part of the backbone's own checkpoint.
    pub pooler: Vec<Step>,
    pub steps: Vec<Step>,
    pub output: MakeOutput,
}

/// Builds the output layer at the root of a checkpoint: from the backbone's width to so many outputs.
pub(super) type MakeOutput = fn(&Builder<'_, '_>, i64, i64, Init) -> Result<Linear>;

/// The output layer of most families: `torch.nn.Linear` at `classifier`.
pub(super) fn classifier(root: &Builder<'_, '_>, width: i64, outputs: i64, init: Init) -> Result<Linear> {
    Linear::with_init(&root.at("classifier"), width, outputs, init)
}

/// What stands before the word table in Transformers' `…ForMaskedLM`.
#[derive(Clone, Debug)]
pub(super) struct WordHead {
    pub steps: Vec<Step>,
    /// Path of the bias that words have, if they have one.
    pub bias: Option<&'static str>,
}

impl WordHead {
    /// This one, if the output layer is the word table, as it must be.
    pub(super) fn if_tied(self, tie_word_embeddings: bool) -> std::result::Result<Self, String> {
        if tie_word_embeddings { Ok(self) } else { Err(config::unsupported("tie_word_embeddings", false, "true")) }
    }
}

/// The layer that guesses the next word.
#[derive(Clone, Debug)]
pub(super) struct CausalHead {
    /// The class in Transformers.
    pub class: String,
    /// Whether it is the word table.
    pub is_tied: bool,
    /// Logits are squeezed to between minus this and this.
    pub softcap: Option<f64>,
}

/// Why an encoder guesses no next words.
pub(super) fn encoder_only() -> std::result::Result<CausalHead, String> {
    Err("the model sees the words behind each word, and so learns to guess none that follow; masked_lm adapts it"
        .to_owned())
}

/// What a model is for, as far as its class in Transformers goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextTask {
    Classification,
    MaskedLm,
    CausalLm,
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
    pub fn encoder(&self, root: &Builder<'_, '_>) -> Result<Box<dyn TextBackbone>> {
        (self.encoder)(&root.at(self.anatomy.backbone))
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

    /// What its names tell of where a parameter stands.
    pub fn anatomy(&self) -> &Anatomy {
        &self.anatomy
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
        self.anatomy.backbone
    }

    /// The class in Transformers that loads the model of a task.
    pub fn architecture(&self, task: TextTask) -> String {
        let task = match task {
            TextTask::Classification => "ForSequenceClassification",
            TextTask::MaskedLm => "ForMaskedLM",
            TextTask::CausalLm => match &self.causal {
                Ok(head) => return head.class.clone(),
                Err(_) => "ForCausalLM",
            },
            TextTask::Embedding => "Model",
        };
        format!("{}{task}", self.class)
    }

    /// Transformers' class for its tokenizer, where its files name none.
    pub fn tokenizer_class(&self) -> String {
        format!("{}Tokenizer", self.class)
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
            backbone: self.backbone,
            hidden_size: number(self.hidden_size),
            max_positions: number(self.max_tokens),
            layers: self.anatomy.layers,
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
