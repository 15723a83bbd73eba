//! Hyperparameters of the methods that train language models.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::error::Result;
use super::super::hyperparameters::Adapter;
use super::super::hyperparameters::definition::{DefaultValue, Definition, Rule};
use super::super::hyperparameters::own::Own;
use super::super::hyperparameters::shared;
use super::card::Description;

/// What their models are, whichever of the methods trained them.
pub const DESCRIPTION: Description = Description {
    library: "transformers",
    pipeline: "text-generation",
    loaders: "`AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`",
};

/// In place of the one that all methods have: "auto" adapts all linear layers, and "continue" goes on with the model's own adapter.
pub const ADAPTER: Definition = Definition {
    auto: true,
    default: DefaultValue::Word("auto"),
    rule: Rule::Object {
        check: Adapter::check_or_continue,
        fields: Adapter::fields,
        allowed: "\"none\", \"continue\" or an object {type: \"lora\", r, alpha, dropout, target_modules, rslora, quantization}",
    },
    ..shared::ADAPTER
};

/// Whether rows are filled with several texts.
pub const PACKING: Definition = Definition {
    name: "packing",
    rule: Rule::Flag,
    auto: false,
    default: DefaultValue::Flag(false),
    doc: "Fills rows of max_sequence_length tokens with several texts, none of which sees the others; a batch is so many rows. \
          Without it a batch is so many texts, laid end to end.",
    shapes_training: true,
    evaluates: false,
};

/// The same, on where nothing is said.
pub const fn packed(definition: Definition) -> Definition {
    Definition { default: DefaultValue::Flag(true), ..definition }
}

/// How many layers keep no activations.
pub const GRADIENT_CHECKPOINTING: Definition = Definition {
    name: "gradient_checkpointing",
    rule: Rule::Integer { min: 0, max: 10_000 },
    auto: true,
    default: DefaultValue::Word("auto"),
    doc: "How many layers, from the first, keep nothing but their inputs and are computed again in backward: less memory for up to half as \
          much time again. \"auto\" takes as few as the run fits with. What is computed is the same to the bit.",
    shapes_training: false,
    evaluates: false,
};

/// The settings of a method that has it: by itself no layer is computed again.
///
/// # Errors
/// The values are another method's.
pub fn settled<T: Serialize + DeserializeOwned>(own: Own, definitions: &[Definition]) -> Result<Own> {
    own.with_auto(GRADIENT_CHECKPOINTING.name, 0.into()).settled::<T>(definitions)
}

/// How many layers these settings have computed again.
pub fn computed_again(own: &Own) -> u32 {
    #[derive(Default, Deserialize)]
    struct Settings {
        #[serde(default)]
        gradient_checkpointing: u32,
    }
    own.read::<Settings>().unwrap_or_default().gradient_checkpointing
}

/// What a finished model is kept as.
pub const EXPORT: Definition = Definition {
    name: "export",
    rule: Rule::Word(&["both", "merged", "adapter", "gguf"]),
    auto: false,
    default: DefaultValue::Word("both"),
    doc: "What a finished model is kept as: its weights with the adapter merged into them, the adapter alone, or both; gguf is both and a \
          GGUF file for llama.cpp and Ollama.",
    shapes_training: false,
    evaluates: false,
};

/// How matrices of a GGUF file are written.
pub const GGUF_TYPE: Definition = Definition {
    name: "gguf_type",
    rule: Rule::Word(&["f16", "bf16", "q8_0"]),
    auto: false,
    default: DefaultValue::Word("f16"),
    doc: "How the GGUF file of export \"gguf\" keeps matrices; q8_0 takes half the room.",
    shapes_training: false,
    evaluates: false,
};

/// What a finished model is kept as, for whoever has these settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub export: ExportForm,
    pub gguf_type: GgufType,
}

/// See [`EXPORT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportForm {
    Both,
    Merged,
    Adapter,
    Gguf,
}

/// How matrices of a GGUF file are written. Norms, biases and embeddings of positions are always in F32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GgufType {
    #[serde(rename = "f16")]
    F16,
    #[serde(rename = "bf16")]
    Bf16,
    /// Eight bits a value; matrices whose rows are no whole blocks of 32 are in F16.
    #[serde(rename = "q8_0")]
    Q8_0,
}

impl GgufType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// Bytes of so many values.
    pub fn bytes(self, values: u64) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2 * values,
            Self::Q8_0 => values.div_ceil(32) * 34,
        }
    }
}

/// What a finished model is kept as, by settings that say so.
pub fn kept(own: &Own) -> Option<Kept> {
    own.read().ok()
}

/// What becomes of examples that are too long.
pub const TRUNCATION: Definition = Definition {
    name: "truncation",
    rule: Rule::Word(&["cut", "drop", "fail"]),
    auto: false,
    default: DefaultValue::Word("cut"),
    doc: "What becomes of an example of more than max_sequence_length tokens: its end is cut, it is left out, or the job fails.",
    shapes_training: true,
    evaluates: true,
};

/// The same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    Cut,
    Drop,
    Fail,
}
