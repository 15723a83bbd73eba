//! What stands around the messages of a conversation: its tools, and instructions that have a column of their own.

use std::borrow::Cow;

use super::dialect::Dialect;
use super::findings::Findings;
use super::messages::Reader;
use super::parse::{any_text, must_be};
use super::path::Path;
use super::remarks::Remark;
use super::tools::{self, Tools};
use crate::dataset::row::{MISSING, Row};
use crate::dataset::tree::{Object, Tree};
use crate::domain::chat::{Conversation, Message, Role};

/// The keys that are read beside a list of messages, whatever the list is called.
pub(in crate::dataset) const FRAME: [&str; 3] = ["tools", "functions", "parallel_tool_calls"];

/// Columns of instructions, which stand in front of all messages.
pub(in crate::dataset) const SYSTEM: [&str; 2] = ["system", "system_prompt"];

/// A conversation without its messages.
#[derive(Default)]
pub(in crate::dataset) struct Frame {
    system: Option<Message>,
    tools: Tools,
    parallel_tool_calls: Option<bool>,
}

impl Frame {
    /// What the columns of a row say, `system` being that of instructions. What is wrong is among the findings.
    pub(in crate::dataset) fn of_row(row: &Row, system: Option<&str>, findings: &mut Findings) -> Self {
        let [tools, functions, parallel] = FRAME.map(|name| row.tree(name));
        let frame = Self::of(tools.as_deref(), functions.as_deref(), parallel.as_deref(), None, findings);
        Self { system: system.and_then(|name| instructions(row, name, findings)), ..frame }
    }

    /// The same of a row with a question, which has no tools.
    pub(in crate::dataset) fn of_question(row: &Row, system: Option<&str>, findings: &mut Findings) -> Self {
        Self { system: system.and_then(|name| instructions(row, name, findings)), ..Self::default() }
    }

    /// What the keys of an object say that stands at this place; None is one that stands in nothing else.
    pub(in crate::dataset) fn of_object(object: &Object, at: Option<&Path<'_>>, findings: &mut Findings) -> Self {
        let [tools, functions, parallel] = FRAME.map(|name| object.get(name));
        Self::of(tools, functions, parallel, at, findings)
    }

    fn of(
        tools: Option<&Tree>,
        functions: Option<&Tree>,
        parallel: Option<&Tree>,
        above: Option<&Path<'_>>,
        findings: &mut Findings,
    ) -> Self {
        let tools = tools::read(tools, functions, above, findings);
        let parallel_tool_calls = parallel.and_then(|tree| match tree {
            Tree::Bool(flag) => Some(*flag),
            other => {
                let at = above.map_or_else(|| Path::field(FRAME[2]), |above| above.key(FRAME[2]));
                findings.refuse(at, must_be("true or false", other))
            }
        });
        Self { system: None, tools, parallel_tool_calls }
    }

    /// Who reads messages that stand in this frame.
    pub(in crate::dataset) fn reader(&self, dialect: Dialect) -> Reader<'_> {
        Reader { dialect, tools: self.tools.names() }
    }

    /// The messages of the list in a column.
    pub(in crate::dataset) fn column(
        &self,
        row: &Row,
        dialect: Dialect,
        at: &Path<'_>,
        findings: &mut Findings,
    ) -> Option<Vec<Message>> {
        let Some(tree) = row.tree(&at.to_string()) else { return findings.refuse(at, MISSING) };
        self.messages(&tree, dialect, at, findings)
    }

    /// The messages of a list, which may stand in a string.
    pub(in crate::dataset) fn messages(
        &self,
        tree: &Tree,
        dialect: Dialect,
        at: &Path<'_>,
        findings: &mut Findings,
    ) -> Option<Vec<Message>> {
        let tree: Cow<'_, Tree> = findings.unpacked(tree, at)?;
        self.reader(dialect).list(&tree, at, findings)
    }

    /// The conversation that these messages are, with the instructions in front.
    pub(in crate::dataset) fn conversation(self, messages: Vec<Message>, findings: &mut Findings) -> Conversation {
        let Self { system, tools, parallel_tool_calls } = self;
        if system.is_some() && messages.first().is_some_and(|first| first.role == Role::System) {
            findings.remark(Remark::SystemSeveral);
        }
        if tools.texts.is_empty() && messages.iter().any(|message| !message.tool_calls.is_empty()) {
            findings.remark(Remark::CallsWithoutTools);
        }
        let messages = system.into_iter().chain(messages).collect();
        Conversation { messages, tools: tools.texts, parallel_tool_calls }
    }
}

fn instructions(row: &Row, name: &str, findings: &mut Findings) -> Option<Message> {
    let text = any_text(&*row.tree(name)?);
    let said = findings.keep(name, text).filter(|text| !text.trim().is_empty())?;
    Some(Message::new(Role::System, said))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ASSISTANT, USER, faults, read_bytes, wrong};
    use crate::domain::report::DataFormat;

    #[test]
    fn what_stands_around_messages_is_checked_and_all_faults_of_a_row_are_told() {
        let calling = r#"{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]}"#;
        let answering = r#"{"role":"tool","tool_call_id":"1","content":"1"}"#;
        let talk = format!(r#""messages":[{USER},{calling},{answering},{ASSISTANT}]"#);
        for (around, expected) in [
            (r#""tools":{}"#, "tools: must be a list, not an object"),
            (
                r#""tools":[{"name":"g"}]"#,
                "messages[1].tool_calls[0].function.name: is \"f\", which is none of the tools: \"g\"",
            ),
            (r#""tools":[{"type":"function","function":{}}]"#, "tools[0].function.name: is missing"),
            (
                r#""tools":[{"name":"f","parameters":[]}]"#,
                "tools[0].parameters: must be an object, a JSON schema, not an array",
            ),
            (r#""tools":"[{""#, "tools: is a string that is not valid JSON (column 2: EOF while parsing an object)"),
            (r#""parallel_tool_calls":"yes""#, "parallel_tool_calls: must be true or false, not a string"),
            (r#""system":3"#, "system: must be a string, not a number"),
            (
                r#""tools":[],"functions":[]"#,
                "functions: stands beside tools; functions are what tools were called before, so give tools alone",
            ),
        ] {
            let good = format!(r#"{{"messages":[{USER},{ASSISTANT}],"system":"c"}}"#);
            let rows = format!("{good}\n{good}\n{{{talk},{around}}}\n");
            let (_, ledger) = read_bytes(rows.as_bytes(), DataFormat::Jsonl);
            assert_eq!(faults(&ledger), [format!("3 {expected}")], "{around}");
        }
        let many = r#"{"messages":[{"role":"me"},{"role":"user","content":3},{"role":"assistant"}],"tools":[1]}"#;
        assert_eq!(wrong(many).len(), 4);
    }
}
