//! Conversations, as OpenAI's chat format has them (<https://platform.openai.com/docs/api-reference/fine-tuning/chat-input>).
//!
//! They are checked by whoever reads them; a value here is one that a chat template can be asked to render.

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    /// What OpenAI calls the system's part for its newer models.
    Developer,
    User,
    Assistant,
    Tool,
}

/// All roles.
pub const ROLES: [Role; 5] = [Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool];

impl Role {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        ROLES.into_iter().find(|role| role.as_str() == word)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    /// None where an assistant calls tools and says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What an assistant thought before it spoke, as models that reason keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Of an assistant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Whether an assistant's message is learned: OpenAI's `weight`.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub is_learned: bool,
}

/// A function that an assistant calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub name: String,
    /// The text of a JSON object, its keys in their order.
    pub arguments: String,
}

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    pub messages: Vec<Message>,
    /// The tools that are there: each the text of a JSON object, its keys in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
}

impl Conversation {
    /// The same with nothing to call.
    #[must_use]
    pub fn without_tools(self) -> Self {
        Self { tools: Vec::new(), parallel_tool_calls: None, ..self }
    }

    /// About how many bytes its texts hold.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(Message::bytes).sum::<usize>() + self.tools.iter().map(String::len).sum::<usize>()
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_yes(value: &bool) -> bool {
    *value
}

impl Message {
    fn bytes(&self) -> usize {
        let texts = [&self.content, &self.name, &self.reasoning_content, &self.tool_call_id].into_iter().flatten();
        let calls = self.tool_calls.iter().map(|call| call.name.len() + call.arguments.len());
        texts.map(String::len).sum::<usize>() + calls.sum::<usize>()
    }

    /// One that says `content`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(content.into()),
            name: None,
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            is_learned: true,
        }
    }
}
