//! What models compute with, as far as jobs go.

use serde::{Deserialize, Serialize};

/// What a model computes with, as far as jobs go; its family is the trainer's affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backbone {
    /// A transformer that sees a whole text at once.
    #[default]
    TextEncoder,
    /// A transformer over the patches of an image.
    VisionTransformer,
    /// Convolutions over an image.
    Convolutional,
}

impl Backbone {
    /// Whether it looks at images, not at texts.
    pub fn is_vision(self) -> bool {
        self != Self::TextEncoder
    }

    /// Whether its layers are linear ones, which take low-rank adapters.
    pub fn takes_adapters(self) -> bool {
        self != Self::Convolutional
    }

    /// A backbone as people call it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::TextEncoder => "text encoder",
            Self::VisionTransformer => "vision transformer",
            Self::Convolutional => "convolutional network",
        }
    }
}
