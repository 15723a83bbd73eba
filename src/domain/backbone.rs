//! What models compute with, as far as jobs go.

use serde::{Deserialize, Serialize};

/// What a model computes with, as far as jobs go; its family is the trainer's affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backbone {
    /// A transformer over the tokens of a text. Models that are stored have the word of a time when all were encoders.
    #[default]
    #[serde(rename = "text_encoder")]
    TextTransformer,
    /// A transformer over the tokens of a text, each of which sees those before it alone.
    TextDecoder,
    /// A transformer over the patches of an image.
    VisionTransformer,
    /// Convolutions over an image.
    Convolutional,
}

impl Backbone {
    /// Whether it looks at images, not at texts.
    pub fn is_vision(self) -> bool {
        matches!(self, Self::VisionTransformer | Self::Convolutional)
    }

    /// Whether it guesses the words that follow.
    pub fn is_language_model(self) -> bool {
        self == Self::TextDecoder
    }

    /// Whether its layers are linear ones, which take low-rank adapters.
    pub fn takes_adapters(self) -> bool {
        self != Self::Convolutional
    }

    /// The peak rate at which all of it fine-tunes well at this width: for transformers 5e-5 at BERT-base's 768 and more for
    /// narrower ones, in inverse proportion to the square of the width; for residual networks 1e-3.
    pub fn usual_learning_rate(self, width: u32) -> f64 {
        match self {
            Self::Convolutional => 1e-3,
            // A language model of 2,048 dimensions takes 2e-5.
            Self::TextDecoder => (2e-5 * 2048.0 / f64::from(width.max(1))).clamp(5e-6, 1e-4),
            Self::TextTransformer | Self::VisionTransformer => {
                let ratio = 768.0 / f64::from(width.max(1));
                (5e-5 * ratio * ratio).clamp(1e-6, 1e-3)
            }
        }
    }

    /// A backbone as people call it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::TextTransformer => "text transformer",
            Self::TextDecoder => "language model",
            Self::VisionTransformer => "vision transformer",
            Self::Convolutional => "convolutional network",
        }
    }
}
