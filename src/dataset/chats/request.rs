//! The conversation of a request to a chat model.

use super::dialect::Dialect;
use super::findings::{Findings, Remarks};
use super::forms::LISTS;
use super::frame::Frame;
use super::order::{Part, check_question};
use super::path::Path;
use crate::dataset::entries::Entry;
use crate::dataset::row::MISSING;
use crate::dataset::tree::{Object, Tree};
use crate::domain::chat::Conversation;
use crate::domain::error::{Error, Result};

/// The field with the messages.
const MESSAGES: &str = LISTS[0];

/// Reads the conversation of a request's body, which is a JSON object: `messages`, `tools` and what goes with them are as in a
/// data file. The assistant speaks next, whoever spoke last.
///
/// # Errors
/// Something is wrong with it; the error names its place.
pub fn asked(body: &[u8]) -> Result<Conversation> {
    let text = String::from_utf8_lossy(body);
    let tree = Tree::parse(&text).map_err(|what| Error::invalid(MESSAGES, format!("The body {what}.")))?;
    let mut findings = Findings::new(0);
    let conversation = tree.as_object().and_then(|object| conversation(object, &mut findings));
    match findings.entry(conversation, &Remarks::default()) {
        Entry::Good(conversation) => Ok(conversation),
        Entry::Faulty(faults) => {
            let more = faults.len().saturating_sub(1);
            let first = faults.into_iter().next();
            let place = first.as_ref().and_then(|fault| fault.field.clone()).unwrap_or_else(|| MESSAGES.to_owned());
            let what = first.map_or_else(|| MISSING.to_owned(), |fault| fault.message);
            let others = if more > 0 { format!(" There are {more} more faults.") } else { String::new() };
            Err(Error::invalid(place.clone(), format!("{place} {what}.{others}")))
        }
        _ => Err(Error::internal("a conversation was neither good nor faulty")),
    }
}

fn conversation(object: &Object, findings: &mut Findings) -> Option<Conversation> {
    let frame = Frame::of_object(object, None, findings);
    let at = Path::field(MESSAGES);
    let Some(tree) = object.get(MESSAGES) else { return findings.refuse(at, MISSING) };
    let messages = frame.messages(tree, Dialect::of([].into_iter()), &at, findings)?;
    check_question(Part { at, messages: &messages, from: 0 }, findings);
    Some(frame.conversation(messages, findings))
}

#[cfg(test)]
mod tests {
    use super::asked;
    use crate::domain::chat::Role;

    #[test]
    fn a_conversation_is_read_with_its_tools() {
        let body = r#"{"model": "m", "temperature": 0, "parallel_tool_calls": false,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
            "messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": ""}]}"#;
        let found = asked(body.as_bytes()).unwrap();
        assert_eq!(
            found.messages.iter().map(|message| message.role).collect::<Vec<_>>()[..2],
            [Role::Developer, Role::User]
        );
        assert_eq!((found.messages.len(), found.tools.len(), found.parallel_tool_calls), (4, 1, Some(false)));
        assert_eq!(found.without_tools().tools.len(), 0);
        // As at OpenAI, it may have spoken last.
        let body = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
        assert_eq!(asked(body.as_bytes()).unwrap().messages.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        for (body, param, message) in [
            (r#"{"messages": []}"#, "messages", "messages is an empty list."),
            (r#"{"messages": null}"#, "messages", "messages is missing."),
            (r#"{"messages": "hi"}"#, "messages", "messages must be a list of messages, not a string."),
            (r#"{"messages": [{"role": "user", "content": ""}]}"#, "messages[0].content", "is empty"),
            (r#"{"messages": [{"role": "bot", "content": "a"}]}"#, "messages[0].role", "write \"assistant\""),
            (
                r#"{"messages": [{"role": "tool", "tool_call_id": "1", "content": "b"}]}"#,
                "messages[0]",
                "answers no call",
            ),
            (r#"{"messages": [{"role": "user", "content": "a"}], "tools": 3}"#, "tools", "tools must be a list"),
            (r#"{"messages": [{"role": "user"}, {"role": 1}]}"#, "messages[0].content", "There are 1 more faults."),
            (r#"{"messages": [{"role": "user", "content": "a", "role": "user"}]}"#, "messages", "duplicate"),
        ] {
            let error = asked(body.as_bytes()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{body}: {}", error.message);
            assert!(error.message.contains(message), "{body}: {}", error.message);
        }
    }
}
