//! Whether the messages of a conversation fit each other: answers and calls, who speaks first and last, what is learned.

use super::findings::Findings;
use super::path::Path;
use super::remarks::Remark;
use crate::dataset::row::listed;
use crate::domain::chat::{Message, Role};

/// Messages that stand in one list of a row.
#[derive(Clone, Copy)]
pub(in crate::dataset) struct Part<'a> {
    pub(in crate::dataset) at: Path<'a>,
    pub(in crate::dataset) messages: &'a [Message],
    /// The place of the first of them in the list.
    pub(in crate::dataset) from: usize,
}

/// A message and where it stands.
type Placed<'a> = (&'a Path<'a>, usize, &'a Message);

/// A call without an answer: its id and name, and its message.
struct Open<'a> {
    id: Option<&'a str>,
    name: &'a str,
    placed: Placed<'a>,
}

/// The calls that wait for an answer.
#[derive(Default)]
struct Calls<'a> {
    open: Vec<Open<'a>>,
    /// How many of them were meant by answers to no call, which were told already.
    excused: usize,
}

impl Calls<'_> {
    /// Tells of those that still wait, and of no other again.
    fn close(&mut self, findings: &mut Findings) {
        for call in self.open.drain(..).skip(std::mem::take(&mut self.excused)) {
            let (at, number, _) = call.placed;
            let what =
                format!("calls \"{}\", which no tool's message answers before the conversation goes on", call.name);
            findings.fault(at.item(number), what);
        }
    }
}

/// Checks what is to be learned: it ends with the assistant, of whose messages one at least is learned.
pub(in crate::dataset) fn check_example(parts: &[Part<'_>], findings: &mut Findings) {
    check_calls(parts, findings);
    let Some(learned) = parts.last() else { return };
    let all = || parts.iter().flat_map(|part| part.messages);
    let last = all().next_back().map(|message| message.role);
    if !all().any(|message| message.role == Role::Assistant) {
        findings.fault(learned.at, "has no message of the assistant, so there is nothing to learn");
    } else if let Some(role) = last.filter(|role| *role != Role::Assistant) {
        findings.fault(learned.at, ends_with(role));
    } else if !all().any(|message| message.role == Role::Assistant && message.is_learned) {
        findings.fault(learned.at, "has weight 0 on every message of the assistant, so there is nothing to learn");
    }
    remark_order(parts, findings);
}

/// Checks what comes next: it begins and ends with the assistant.
pub(in crate::dataset) fn check_output(part: Part<'_>, findings: &mut Findings) {
    check_calls(&[part], findings);
    check_beginning(part, findings);
    if let Some(role) = part.messages.last().map(|message| message.role).filter(|role| *role != Role::Assistant) {
        findings.fault(part.at, ends_with(role));
    }
}

/// Checks that the assistant speaks first in what comes next.
pub(in crate::dataset) fn check_beginning(part: Part<'_>, findings: &mut Findings) {
    if let Some(role) = part.messages.first().map(|message| message.role).filter(|role| *role != Role::Assistant) {
        let what = format!(
            "begins with a message of the {}; what comes next must begin with one of the assistant",
            role.as_str()
        );
        findings.fault(part.at, what);
    }
}

fn ends_with(role: Role) -> String {
    format!("ends with a message of the {}; the last one must be the assistant's", role.as_str())
}

/// Checks what is to be answered: no call is open.
pub(in crate::dataset) fn check_question(part: Part<'_>, findings: &mut Findings) {
    check_calls(&[part], findings).close(findings);
}

/// Checks what two answers are given to: it ends with anybody else, and no call is open.
pub(in crate::dataset) fn check_input(part: Part<'_>, findings: &mut Findings) {
    check_question(part, findings);
    if part.messages.last().is_some_and(|message| message.role == Role::Assistant) {
        findings.fault(part.at, "ends with a message of the assistant; what it says next is for the two outputs");
    }
}

/// Checks that calls are answered, and answers belong to calls; gives those that are open at the end.
fn check_calls<'a>(parts: &'a [Part<'a>], findings: &mut Findings) -> Calls<'a> {
    let all = || {
        parts.iter().flat_map(|part| part.messages.iter().enumerate().map(|(i, one)| (&part.at, part.from + i, one)))
    };
    let has_id =
        |message: &Message| message.tool_call_id.is_some() || message.tool_calls.iter().any(|call| call.id.is_some());
    let has_ids = all().any(|(.., message)| has_id(message));
    let mut calls = Calls::default();
    for placed in all() {
        let (at, number, message) = placed;
        if message.role == Role::Tool {
            answer(placed, has_ids, &mut calls, findings);
            continue;
        }
        calls.close(findings);
        for (place, call) in message.tool_calls.iter().enumerate() {
            if has_ids && call.id.is_none() {
                let what = "is missing, though others of the conversation have one";
                findings.fault(at.item(number).key("tool_calls").item(place).key("id"), what);
            }
            calls.open.push(Open { id: call.id.as_deref(), name: &call.name, placed });
        }
    }
    if !has_ids && all().any(|(.., message)| !message.tool_calls.is_empty()) {
        findings.remark(Remark::CallsWithoutIds);
    }
    calls
}

/// Takes the call that a tool's message answers off the open ones.
fn answer(placed: Placed<'_>, has_ids: bool, calls: &mut Calls<'_>, findings: &mut Findings) {
    let (at, number, message) = placed;
    let (at, open) = (at.item(number), &mut calls.open);
    if open.is_empty() {
        findings.fault(
            at,
            "answers no call: before it there must be a message of the assistant with tool_calls, not yet answered",
        );
        return;
    }
    let found = match (&message.tool_call_id, &message.name) {
        (Some(id), _) => open.iter().position(|call| call.id == Some(id)).ok_or_else(|| {
            let ids: Vec<&str> = open.iter().filter_map(|call| call.id).collect();
            ("tool_call_id", format!("is the id of no open call; found {}", listed(&ids)))
        }),
        (None, _) if has_ids => Err(("tool_call_id", "is missing; it says which call is answered".to_owned())),
        (None, Some(name)) => open.iter().position(|call| call.name == name).ok_or_else(|| {
            let names: Vec<&str> = open.iter().map(|call| call.name).collect();
            ("name", format!("is the name of no open call; found {}", listed(&names)))
        }),
        (None, None) => Ok(0),
    };
    match found {
        Ok(place) => drop(open.remove(place)),
        Err((key, what)) => {
            calls.excused += 1;
            findings.fault(at.key(key), what);
        }
    }
}

/// Remarks what of the order is not every model's.
pub(in crate::dataset) fn remark_order(parts: &[Part<'_>], findings: &mut Findings) {
    let is_system = |role: Role| matches!(role, Role::System | Role::Developer);
    let roles: Vec<Role> = parts.iter().flat_map(|part| part.messages).map(|message| message.role).collect();
    let talk: Vec<Role> = roles.iter().copied().filter(|role| !is_system(*role)).collect();
    if roles.iter().skip_while(|role| is_system(**role)).any(|role| is_system(*role)) {
        findings.remark(Remark::SystemLater);
    }
    if roles.len() > talk.len() + 1 {
        findings.remark(Remark::SystemSeveral);
    }
    if talk.first() == Some(&Role::Assistant) {
        findings.remark(Remark::AssistantFirst);
    }
    if talk.windows(2).any(|pair| pair[0] == pair[1] && pair[0] != Role::Tool) {
        findings.remark(Remark::SameSpeaker);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ASSISTANT, USER, read_bytes, wrong};
    use crate::domain::report::DataFormat;

    /// An assistant's message that calls `f` under this id, and a tool's answer to it.
    fn calling(id: &str) -> String {
        let call = format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#);
        format!(r#"{{"role":"assistant","content":null,"tool_calls":[{call}]}}"#)
    }

    fn answering(id: &str) -> String {
        format!(r#"{{"role":"tool","tool_call_id":"{id}","content":"1"}}"#)
    }

    #[test]
    fn messages_that_do_not_fit_each_other_say_where() {
        let (call, answer) = (calling("1"), answering("1"));
        let unlearned = r#"{"role":"assistant","content":"b","weight":0}"#;
        let no_id = calling("1").replace(r#""id":"1","#, "");
        let again = |answer: &str| format!("{USER},{call},{answer},{ASSISTANT}");
        for (messages, expected) in [
            (USER.to_owned(), "messages: has no message of the assistant, so there is nothing to learn".to_owned()),
            (
                format!("{USER},{ASSISTANT},{USER}"),
                "messages: ends with a message of the user; the last one must be the assistant's".to_owned(),
            ),
            (
                format!("{USER},{call},{answer}"),
                "messages: ends with a message of the tool; the last one must be the assistant's".to_owned(),
            ),
            (
                format!("{USER},{unlearned},{USER},{unlearned}"),
                "messages: has weight 0 on every message of the assistant, so there is nothing to learn".to_owned(),
            ),
            (
                format!("{USER},{call},{ASSISTANT}"),
                "messages[1]: calls \"f\", which no tool's message answers before the conversation goes on".to_owned(),
            ),
            (
                format!("{USER},{call},{USER},{ASSISTANT}"),
                "messages[1]: calls \"f\", which no tool's message answers before the conversation goes on".to_owned(),
            ),
            (
                format!("{USER},{answer},{ASSISTANT}"),
                "messages[1]: answers no call: before it there must be a message of the assistant with tool_calls, not yet \
                 answered"
                    .to_owned(),
            ),
            (
                format!("{USER},{call},{answer},{answer},{ASSISTANT}"),
                "messages[3]: answers no call: before it there must be a message of the assistant with tool_calls, not yet \
                 answered"
                    .to_owned(),
            ),
            (
                again(&answering("2")),
                "messages[2].tool_call_id: is the id of no open call; found \"1\"".to_owned(),
            ),
            (
                again(r#"{"role":"tool","content":"1"}"#),
                "messages[2].tool_call_id: is missing; it says which call is answered".to_owned(),
            ),
            (
                again(r#"{"role":"tool","tool_call_id":7,"content":"1"}"#),
                "messages[2].tool_call_id: must be a string, not a number".to_owned(),
            ),
            (
                again(r#"{"role":"tool","tool_call_id":"1"}"#),
                "messages[2].content: is missing".to_owned(),
            ),
            (
                format!("{USER},{call},{answer},{no_id}"),
                "messages[3].tool_calls[0].id: is missing, though others of the conversation have one".to_owned(),
            ),
            (
                format!(r#"{USER},{no_id},{{"role":"tool","name":"g","content":"1"}},{ASSISTANT}"#),
                "messages[2].name: is the name of no open call; found \"f\"".to_owned(),
            ),
        ] {
            assert_eq!(wrong(&format!(r#"{{"messages":[{messages}]}}"#)), [expected], "{messages}");
        }
        // Answered in another order, by name or place where there are no ids, and at the end not at all.
        let two = calling("1").replace("}}]}", r#"}},{"id":"2","function":{"name":"g","arguments":{}}}]}"#);
        let unnamed = r#"{"role":"tool","content":"1"}"#;
        for messages in [
            format!("{USER},{two},{},{},{ASSISTANT},{USER},{call}", answering("2"), answering("1")),
            format!("{USER},{no_id},{unnamed},{no_id},{unnamed},{ASSISTANT}"),
        ] {
            assert_eq!(wrong(&format!(r#"{{"messages":[{messages}]}}"#)), Vec::<String>::new(), "{messages}");
        }
    }

    #[test]
    fn what_templates_may_refuse_is_told_and_kept() {
        let rows = [
            r#"{"messages":[{"role":"user","content":"a"},{"role":"system","content":"b"},{"role":"assistant","content":"c"}]}"#,
            r#"{"messages":[{"role":"system","content":"a"},{"role":"system","content":"b"},{"role":"assistant","content":"c"}]}"#,
            r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":"c"}]}"#,
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":{}}}]}]}"#,
        ];
        let (samples, ledger) = read_bytes(rows.join("\n").as_bytes(), DataFormat::Jsonl);
        let told: Vec<_> = ledger.notes[1..].iter().map(|note| (note.code.as_str(), &note.lines[..])).collect();
        let expected = [
            ("system_later", &[1][..]),
            ("system_several", &[2]),
            ("assistant_first", &[2]),
            ("same_speaker", &[3]),
            ("calls_without_tools", &[4]),
        ];
        assert_eq!((samples.len(), told), (4, expected.to_vec()));
    }
}
