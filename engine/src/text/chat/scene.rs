//! Conversations as the values that templates are given.

use finetuned::domain::chat::{Conversation, Message, Role, ToolCall};
use minijinja::Value;

use super::json;

/// What a template does not take as Hugging Face documents it, and is given otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialect {
    /// A call's arguments are the text of an object, not the object.
    pub(super) text_arguments: bool,
    /// A message without content has an empty one, not None.
    pub(super) empty_content: bool,
    /// The role `developer` is called `system`.
    pub(super) system_developer: bool,
}

/// A conversation, ready to be rendered.
pub(super) struct Scene {
    pub(super) messages: Vec<Value>,
    /// None where there are none.
    pub(super) tools: Value,
    pub(super) parallel_tool_calls: Option<bool>,
}

impl Scene {
    /// What a template that speaks a dialect is given of a conversation.
    ///
    /// # Errors
    /// There are no messages, or a tool or the arguments of a call are no JSON.
    pub(super) fn new(conversation: &Conversation, dialect: Dialect) -> Result<Self, String> {
        if conversation.messages.is_empty() {
            return Err("the conversation has no messages; give it at least one".to_owned());
        }
        let messages =
            conversation.messages.iter().enumerate().map(|(place, message)| {
                dialect.value_of(message).map_err(|error| format!("messages[{place}].{error}"))
            });
        let tools = conversation.tools.iter().enumerate().map(|(place, tool)| {
            json::read(tool).map_err(|error| format!("tools[{place}] is no JSON object: {error}"))
        });
        let tools = tools.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            messages: messages.collect::<Result<_, _>>()?,
            tools: if tools.is_empty() { Value::from(()) } else { Value::from(tools) },
            parallel_tool_calls: conversation.parallel_tool_calls,
        })
    }
}

impl Dialect {
    /// A message, its keys in the order of OpenAI's documentation.
    ///
    /// # Errors
    /// The arguments of a call are no JSON.
    pub(super) fn value_of(self, message: &Message) -> Result<Value, String> {
        let role = match message.role {
            Role::Developer if self.system_developer => Role::System,
            role => role,
        };
        let content = match &message.content {
            None if self.empty_content => Value::from(""),
            content => content.as_deref().map_or(Value::from(()), Value::from),
        };
        let mut entries = vec![("role", Value::from(role.as_str())), ("content", content)];
        for (key, text) in [("name", &message.name), ("reasoning_content", &message.reasoning_content)] {
            entries.extend(text.as_deref().map(|text| (key, Value::from(text))));
        }
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.iter().enumerate().map(|(place, call)| {
                self.value_of_call(call)
                    .map_err(|error| format!("tool_calls[{place}].function.arguments is no JSON object: {error}"))
            });
            entries.push(("tool_calls", Value::from(calls.collect::<Result<Vec<_>, _>>()?)));
        }
        entries.extend(message.tool_call_id.as_deref().map(|id| ("tool_call_id", Value::from(id))));
        Ok(Value::from_pairs(entries))
    }

    fn value_of_call(self, call: &ToolCall) -> serde_json::Result<Value> {
        let arguments = json::read(&call.arguments)?;
        let arguments = if self.text_arguments { Value::from(call.arguments.as_str()) } else { arguments };
        let function = [("name", Value::from(call.name.as_str())), ("arguments", arguments)];
        let id = call.id.as_deref().map(|id| ("id", Value::from(id)));
        let rest = [("type", Value::from("function")), ("function", Value::from_pairs(function))];
        Ok(Value::from_pairs(id.into_iter().chain(rest)))
    }
}
