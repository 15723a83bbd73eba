//! What is said in conversations, as reports count and compare it.

use super::Sample;
use crate::dataset::tally::Talk;
use crate::domain::chat::{Conversation, Message, Role};
use crate::domain::report::ChatStatistics;

/// The talk of an example to imitate.
pub(super) fn of_sample(sample: &Sample) -> Talk<'_> {
    match sample {
        Sample::Conversation(conversation) => of_conversation(conversation, &[]),
        Sample::Completion { prompt, completion } => {
            Talk { framing: Vec::new(), spoken: vec![prompt, completion], language: Some(completion) }
        }
    }
}

/// That of a conversation and of what comes next in it. Instructions and tools frame it: those of many examples are the same.
pub(in crate::dataset) fn of_conversation<'a>(conversation: &'a Conversation, next: &[&'a [Message]]) -> Talk<'a> {
    let all = || conversation.messages.iter().chain(next.iter().copied().flatten());
    let is_framing = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    let tools = conversation.tools.iter().map(String::as_str);
    Talk {
        framing: all().filter(is_framing).flat_map(texts).chain(tools).collect(),
        spoken: all().filter(|message| !is_framing(message)).flat_map(texts).collect(),
        language: all().filter(|message| message.role == Role::User).find_map(|message| message.content.as_deref()),
    }
}

/// The texts of a message, in order.
pub(in crate::dataset) fn texts(message: &Message) -> impl Iterator<Item = &str> {
    let said = [&message.reasoning_content, &message.content].into_iter().filter_map(Option::as_deref);
    said.chain(message.tool_calls.iter().flat_map(|call| [call.name.as_str(), call.arguments.as_str()]))
}

/// The characters of a message.
pub(in crate::dataset) fn characters(message: &Message) -> u64 {
    texts(message).map(|text| text.chars().count() as u64).sum()
}

/// Messages of a conversation, but for its instructions.
pub(in crate::dataset) fn turns(messages: &[Message]) -> u64 {
    messages.iter().filter(|message| !matches!(message.role, Role::System | Role::Developer)).count() as u64
}

/// Counts an example; `count` is the number of examples with it.
pub(super) fn count(chats: &mut ChatStatistics, sample: &Sample, count: u64) {
    match sample {
        Sample::Completion { completion, .. } => chats.learned_characters += completion.chars().count() as u64,
        Sample::Conversation(conversation) => {
            chats.turns.add(turns(&conversation.messages), count);
            chats.with_tools += u64::from(!conversation.tools.is_empty());
            for message in &conversation.messages {
                *chats.messages.entry(message.role.as_str().to_owned()).or_default() += 1;
                chats.tool_calls += message.tool_calls.len() as u64;
                if message.role == Role::Assistant && message.is_learned {
                    chats.learned_messages += 1;
                    chats.learned_characters += characters(message);
                }
            }
        }
    }
}
