//! What a language model is asked to write, and what it writes, piece by piece.
//!
//! A text is made in slices. Each tells all that was written before it, so that a process that has seen nothing of it yet
//! goes on like the one that has, and the same seed gives the same text in however many slices.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::chat::Conversation;

/// After so long a slice ends with the token that is being made.
pub const SLICE: Duration = Duration::from_secs(1);

/// What a text goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// An assistant's answer follows, as the model's chat template has it.
    Chat(Box<Conversation>),
    Text(String),
    Tokens(Vec<u32>),
}

impl Prompt {
    /// About how many bytes it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Chat(chat) => chat.bytes(),
            Self::Text(text) => text.len(),
            Self::Tokens(tokens) => size_of_val(tokens.as_slice()),
        }
    }
}

/// A prompt as a model reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokens {
    pub ids: Vec<u32>,
    /// Tokens that prompt and text may have together.
    pub longest: usize,
}

/// A text to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// At least one token.
    pub prompt: Vec<u32>,
    /// What was written of it before.
    pub written: Vec<u32>,
    pub sampling: Sampling,
    /// Texts that end it and are no part of it.
    pub stop: Vec<String>,
    /// The most tokens of it.
    pub most: usize,
}

/// How tokens are chosen: the likeliest, or drawn with what a seed gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f64,
    /// Tokens are drawn from the likeliest that have this probability together (Holtzman et al. 2020, arXiv:1904.09751).
    pub top_p: f64,
    /// What draws are made with: the same seed gives the same text.
    pub seed: u64,
    /// Taken off a token's logit for each time that the text has it, as OpenAI defines it.
    pub frequency_penalty: f64,
    /// Taken off a token's logit if the text has it.
    pub presence_penalty: f64,
    /// Added to the logits of these tokens, each once. No object: JSON's keys are texts.
    pub logit_bias: Vec<(u32, f64)>,
    /// How many of the likeliest tokens are told with each choice; None where no probabilities are wanted.
    pub top_logprobs: Option<usize>,
}

impl Sampling {
    /// The likeliest token each time.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        seed: 0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        logit_bias: Vec::new(),
        top_logprobs: None,
    };
}

/// What a token adds to a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// Whole characters of which it is sure that they belong to the text; often none.
    pub text: String,
    /// The token; None of what was held back at the end.
    pub token: Option<Token>,
}

/// A token that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub id: u32,
    /// What the model thought of it, where that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likely: Option<Likely>,
    /// The likeliest tokens, likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<Likely>,
}

/// A token's text and the logarithm of its probability, whatever the temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likely {
    pub text: String,
    pub logprob: f64,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended it, or it came to a text that ends it.
    Stop,
    /// It has as many tokens as it may.
    Length,
}
