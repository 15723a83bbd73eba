//! What conversations and preferences are like.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lengths::Lengths;

/// What the demonstrations of a file are like. Texts without a chat template have no messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatStatistics {
    /// How many messages a conversation has, but for its instructions.
    pub turns: Lengths,
    /// How many messages each role has.
    pub messages: BTreeMap<String, u64>,
    /// Messages of the assistant that are learned, and their characters; of texts the characters of completions.
    pub learned_messages: u64,
    pub learned_characters: u64,
    /// Conversations that describe tools.
    pub with_tools: u64,
    pub tool_calls: u64,
}

/// What the preferences of a file are like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PreferenceStatistics {
    /// How many messages stand before the two outputs, but for instructions.
    pub turns: Lengths,
    /// The outputs in characters.
    pub preferred_lengths: Lengths,
    pub non_preferred_lengths: Lengths,
    /// Conversations that describe tools.
    pub with_tools: u64,
}
