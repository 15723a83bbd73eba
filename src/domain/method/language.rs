//! Hyperparameters of the methods that train language models.

use serde::{Deserialize, Serialize};

use super::super::hyperparameters::definition::{DefaultValue, Definition, Rule};
use super::super::hyperparameters::shared;
use super::card::Description;

/// What their models are, whichever of the methods trained them.
pub const DESCRIPTION: Description = Description {
    library: "transformers",
    pipeline: "text-generation",
    loaders: "`AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`",
};

/// In place of the one that all methods have: "auto" adapts all linear layers.
pub const ADAPTER: Definition = Definition { auto: true, default: DefaultValue::Word("auto"), ..shared::ADAPTER };

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
