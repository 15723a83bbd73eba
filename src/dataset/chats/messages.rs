//! The messages of a list, each by itself: who speaks, what is said, which tools are called. Whether they fit each other is
//! for `order.rs` to say.

use super::calls;
use super::content;
use super::dialect::{Dialect, Speaker};
use super::extras;
use super::findings::Findings;
use super::parse::{must_be, name, text};
use super::path::Path;
use crate::dataset::row::{EMPTY, MISSING};
use crate::dataset::tree::{Object, Tree};
use crate::domain::chat::{Message, Role, ToolCall};

/// What is said of an assistant's message without content.
const SAYS_NOTHING: &str = "; the assistant's message must have content or tool_calls";

/// How messages are read.
#[derive(Clone, Copy)]
pub(in crate::dataset) struct Reader<'a> {
    pub(super) dialect: Dialect,
    /// The names of the tools that may be called, where they are told.
    pub(super) tools: Option<&'a [String]>,
}

impl Reader<'_> {
    /// The messages of a list; None where something is wrong with one, which is among the findings then.
    pub(super) fn list(self, tree: &Tree, at: &Path<'_>, findings: &mut Findings) -> Option<Vec<Message>> {
        let Some(items) = tree.as_list() else {
            return findings.refuse(at, must_be("a list of messages", tree));
        };
        if items.is_empty() {
            return findings.refuse(at, "is an empty list");
        }
        let messages: Vec<Message> = items
            .iter()
            .enumerate()
            .filter_map(|(number, item)| self.message(item, &at.item(number), findings))
            .collect();
        (messages.len() == items.len()).then_some(messages)
    }

    /// One message; None likewise.
    pub(in crate::dataset) fn message(self, tree: &Tree, at: &Path<'_>, findings: &mut Findings) -> Option<Message> {
        let before = findings.count();
        let Some(object) = tree.as_object() else {
            return findings.refuse(at, must_be(&format!("an object with {}", self.dialect.keys()), tree));
        };
        let speaker = self.speaker(object, at, findings)?;
        let role = match speaker {
            Speaker::Role(role) => role,
            Speaker::Function => Role::Tool,
            Speaker::Call => Role::Assistant,
        };
        let mut field = |key: &str, read: fn(&Tree) -> Result<String, String>| {
            object.get(key).and_then(|tree| findings.keep(at.key(key), read(tree)))
        };
        let name = field("name", name);
        let tool_call_id = field("tool_call_id", text);
        let mut message = Message { name, tool_call_id, ..Message::new(role, "") };
        if speaker == Speaker::Call {
            message.content = None;
            message.tool_calls = self.spoken_calls(object, at, findings);
        } else {
            message.tool_calls = self.calls(object, role, at, findings);
            message.content = self.content(object, role, &message.tool_calls, at, findings);
        }
        if speaker == Speaker::Function && object.get("name").is_none() {
            findings.fault(at.key("name"), "is missing; it names the function that answers");
        }
        message.reasoning_content = extras::reasoning(object, role, at, findings);
        message.is_learned = extras::weight(object, role, at, findings);
        extras::check(object, role, [self.dialect.speaker, self.dialect.text], at, findings);
        (findings.count() == before).then_some(message)
    }

    fn speaker(self, object: &Object, at: &Path<'_>, findings: &mut Findings) -> Option<Speaker> {
        let key = self.dialect.speaker;
        let speaker = match object.get(key) {
            None => Err(format!("{}; it must {}", absent(object, key), self.dialect.speakers())),
            Some(Tree::Text(word)) => self.dialect.speaker(word),
            Some(other) => Err(must_be("a string", other)),
        };
        findings.keep(at.key(key), speaker)
    }

    /// What is said. The assistant may say nothing where it calls tools, and a tool's answer may be blank.
    fn content(
        self,
        object: &Object,
        role: Role,
        calls: &[ToolCall],
        at: &Path<'_>,
        findings: &mut Findings,
    ) -> Option<String> {
        let key = self.dialect.text;
        let hint = if role == Role::Assistant { SAYS_NOTHING } else { "" };
        // Calls that something is wrong with are told, and are no reason for content.
        let calls_tools =
            !calls.is_empty() || object.get("tool_calls").or(object.get("function_call")).is_some_and(has_any);
        let may_be_silent = role == Role::Assistant && calls_tools;
        let Some(tree) = object.get(key) else {
            if !may_be_silent {
                findings.fault(at.key(key), format!("{}{hint}", absent(object, key)));
            }
            return None;
        };
        let text = content::read(tree, &at.key(key), findings)?;
        if !text.trim().is_empty() || role == Role::Tool {
            return Some(text);
        }
        if !may_be_silent {
            findings.fault(at.key(key), format!("{EMPTY}{hint}"));
        }
        None
    }

    fn calls(self, object: &Object, role: Role, at: &Path<'_>, findings: &mut Findings) -> Vec<ToolCall> {
        let (calls, call) = (object.get("tool_calls").filter(|tree| has_any(tree)), object.get("function_call"));
        for (key, tree) in [("tool_calls", calls), ("function_call", call)] {
            if tree.is_some() && role != Role::Assistant {
                findings.fault(
                    at.key(key),
                    format!("stands on a message of the {}; only the assistant calls tools", role.as_str()),
                );
                return Vec::new();
            }
        }
        match (calls, call) {
            (Some(_), Some(_)) => {
                let what = "stands beside tool_calls; it is what calls were before, so give tool_calls alone";
                findings.fault(at.key("function_call"), what);
                Vec::new()
            }
            (Some(tree), None) => calls::list(tree, self.tools, &at.key("tool_calls"), findings),
            (None, Some(tree)) => {
                calls::function_call(tree, self.tools, &at.key("function_call"), findings).into_iter().collect()
            }
            (None, None) => Vec::new(),
        }
    }

    fn spoken_calls(self, object: &Object, at: &Path<'_>, findings: &mut Findings) -> Vec<ToolCall> {
        let key = self.dialect.text;
        let tree = object.get(key).ok_or_else(|| absent(object, key).to_owned());
        let found = findings.keep(at.key(key), tree);
        found.map(|tree| calls::spoken(tree, self.tools, &at.key(key), findings)).unwrap_or_default()
    }
}

/// Whether there is more than an empty list.
fn has_any(tree: &Tree) -> bool {
    tree.as_list().is_none_or(|items| !items.is_empty())
}

/// What is said of a key without a value.
fn absent(object: &Object, key: &str) -> &'static str {
    if object.keys().any(|name| name == key) { "is null" } else { MISSING }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ASSISTANT, USER, wrong};

    #[test]
    fn every_bad_message_says_what_is_wrong_and_what_is_allowed() {
        let roles = "must be one of \"system\", \"developer\", \"user\", \"assistant\", \"tool\"";
        let nothing = "the assistant's message must have content or tool_calls";
        let nul = "holds a NUL character, which no text has; the file may be damaged, or not in UTF-8";
        for (message, expected) in [
            ("\"a\"", "messages[1]: must be an object with role and content, not a string".to_owned()),
            ("{}", "messages[1].role: is missing; it must say who speaks, such as \"user\" or \"assistant\"".to_owned()),
            (
                r#"{"role":null,"content":"b"}"#,
                "messages[1].role: is null; it must say who speaks, such as \"user\" or \"assistant\"".to_owned(),
            ),
            (r#"{"role":1,"content":"b"}"#, "messages[1].role: must be a string, not a number".to_owned()),
            (r#"{"role":"bot","content":"b"}"#, format!("messages[1].role: is \"bot\", but {roles}; write \"assistant\"")),
            (r#"{"role":"human","content":"b"}"#, format!("messages[1].role: is \"human\", but {roles}; write \"user\"")),
            (r#"{"role":"model","content":"b"}"#, format!("messages[1].role: is \"model\", but {roles}; write \"assistant\"")),
            (r#"{"role":"ai","content":"b"}"#, format!("messages[1].role: is \"ai\", but {roles}; write \"assistant\"")),
            (r#"{"role":"System","content":"b"}"#, format!("messages[1].role: is \"System\", but {roles}; write \"system\"")),
            (r#"{"role":"narrator","content":"b"}"#, format!("messages[1].role: is \"narrator\", but {roles}")),
            (r#"{"role":"user"}"#, "messages[1].content: is missing".to_owned()),
            (r#"{"role":"user","content":null}"#, "messages[1].content: is null".to_owned()),
            (r#"{"role":"user","content":" \n"}"#, "messages[1].content: is empty".to_owned()),
            (r#"{"role":"system","content":""}"#, "messages[1].content: is empty".to_owned()),
            (
                r#"{"role":"user","content":{"a":1}}"#,
                "messages[1].content: must be a string or a list of parts, not an object".to_owned(),
            ),
            (r#"{"role":"user","content":"a\u0000b"}"#, format!("messages[1].content: {nul}")),
            (r#"{"role":"assistant"}"#, format!("messages[1].content: is missing; {nothing}")),
            (r#"{"role":"assistant","content":"","tool_calls":[]}"#, format!("messages[1].content: is empty; {nothing}")),
            (r#"{"role":"user","content":[]}"#, "messages[1].content: is an empty list".to_owned()),
            (
                r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}"#,
                "messages[1].content[1].type: is \"image_url\"; images in chats are not read; leave the part out".to_owned(),
            ),
            (
                r#"{"role":"user","content":[{"type":"input_audio"}]}"#,
                "messages[1].content[0].type: is \"input_audio\"; audio in chats is not read; leave the part out".to_owned(),
            ),
            (
                r#"{"role":"user","content":[{"type":"speech"}]}"#,
                "messages[1].content[0].type: is \"speech\", but must be \"text\"".to_owned(),
            ),
            (
                r#"{"role":"user","content":"b","weight":1}"#,
                "messages[1].weight: stands on a message of the user; only messages of the assistant are learned, so only they have one".to_owned(),
            ),
            (r#"{"role":"assistant","content":"b","weight":0.5}"#, "messages[1].weight: must be 0 or 1, not 0.5".to_owned()),
            (r#"{"role":"assistant","content":"b","weight":"1"}"#, "messages[1].weight: must be 0 or 1, not a string".to_owned()),
            (r#"{"role":"user","content":"b","name":5}"#, "messages[1].name: must be a string, not a number".to_owned()),
            (r#"{"role":"user","content":"b","name":" "}"#, "messages[1].name: is empty".to_owned()),
            (
                &format!(r#"{{"role":"user","content":"b","name":"{}"}}"#, "n".repeat(65)),
                "messages[1].name: is longer than 64 characters".to_owned(),
            ),
            (
                r#"{"role":"user","content":"b","tool_calls":[{}]}"#,
                "messages[1].tool_calls: stands on a message of the user; only the assistant calls tools".to_owned(),
            ),
            (
                r#"{"role":"user","content":"b","tool_call_id":"c"}"#,
                "messages[1].tool_call_id: stands on a message of the user; only tools answer calls".to_owned(),
            ),
            (
                r#"{"role":"user","content":"b","reasoning_content":"c"}"#,
                "messages[1].reasoning_content: stands on a message of the user; only the assistant reasons".to_owned(),
            ),
            (
                r#"{"role":"assistant","content":"b","thinking":"c","reasoning_content":"d"}"#,
                "messages[1].thinking: stands beside reasoning_content; give one of them".to_owned(),
            ),
            (
                r#"{"role":"assistant","content":"b","refusal":"no"}"#,
                "messages[1].refusal: is not trained; write what the assistant says as content".to_owned(),
            ),
            (
                r#"{"role":"assistant","content":"b","audio":{"id":"c"}}"#,
                "messages[1].audio: is not trained; leave the key out, and write what is said as content".to_owned(),
            ),
            (r#"{"role":"assistant","tool_calls":"f"}"#, "messages[1].tool_calls: must be a list, not a string".to_owned()),
            (
                r#"{"role":"assistant","tool_calls":[{"id":"1"}]}"#,
                "messages[1].tool_calls[0].function: is missing".to_owned(),
            ),
            (
                r#"{"role":"assistant","function_call":"auto"}"#,
                "messages[1].function_call: must be an object with name and arguments, not a string".to_owned(),
            ),
            (
                r#"{"role":"assistant","function_call":{"name":"f","arguments":"{}"},"tool_calls":[{"id":"1"}]}"#,
                "messages[1].function_call: stands beside tool_calls; it is what calls were before, so give tool_calls alone"
                    .to_owned(),
            ),
            (
                r#"{"role":"function","content":"b"}"#,
                "messages[1].name: is missing; it names the function that answers".to_owned(),
            ),
        ] {
            assert_eq!(wrong(&format!(r#"{{"messages":[{USER},{message},{ASSISTANT}]}}"#)), [expected], "{message}");
        }
    }
}
