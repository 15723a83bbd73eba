//! Demonstrations for language models: conversations, in every way in which people have them, and texts that go on.

mod calls;
mod content;
pub(super) mod dialect;
mod extras;
pub(super) mod findings;
pub(super) mod forms;
pub(super) mod frame;
pub(super) mod messages;
pub(super) mod order;
pub(super) mod parse;
pub(super) mod path;
mod question;
pub(super) mod questions;
pub(super) mod remarks;
mod request;
pub(super) mod talk;
mod tools;

use std::io;

use serde::{Deserialize, Serialize};

pub use self::forms::LISTS as CONVERSATION_COLUMNS;
pub use self::question::{Question, questions};
pub use self::request::asked;

use self::findings::{Findings, Remarks};
use self::forms::{COMPLETION, Form, PROMPT, fit, settle};
use self::frame::Frame;
use self::order::{Part, check_beginning, check_example};
use self::path::Path;
use self::questions::column;

use super::entries::{Entries, Ledger, Step, good, settled};
use super::kind::{Kind, Watch};
use super::prints::of_texts;
use super::row::Row;
use super::tally::Tally;
use super::{Input, rows};
use crate::domain::chat::{Conversation, Message, Role};
use crate::domain::report::{ChatStatistics, Contents, DataFormat, ExamplesReport, UploadKind};

/// One example to imitate, and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demonstration {
    pub line: u64,
    pub sample: Sample,
}

impl Demonstration {
    /// What it is known by: equal ones have the same.
    pub fn print(&self) -> u64 {
        let said = talk::of_sample(&self.sample);
        of_texts(said.framing.iter().chain(&said.spoken).copied())
    }
}

/// What is imitated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// What the assistant says in it, where a message is learned.
    Conversation(Conversation),
    /// How a text goes on, without a chat template.
    Completion { prompt: String, completion: String },
}

/// The demonstrations of a file.
///
/// # Errors
/// The file cannot be opened.
pub fn read(input: &Input) -> io::Result<Entries<Demonstration>> {
    demonstrations(input, |_, demonstration| demonstration)
}

/// What `make` makes of the demonstrations of a file and their rows.
fn demonstrations<T: 'static>(
    input: &Input,
    make: impl Fn(&Row, Demonstration) -> T + 'static,
) -> io::Result<Entries<T>> {
    let remarks = Remarks::default();
    let counted = remarks.clone();
    let entries = settled(rows::read_whole(input)?, Row::weight, settle, move |&form, row| {
        let mut findings = Findings::new(row.line);
        let sample = sample(&row, form, &mut findings);
        let made = sample.map(|sample| make(&row, Demonstration { line: row.line, sample }));
        Ok(Step::To(findings.entry(made, &counted)))
    });
    Ok(remarks.told(entries))
}

/// What a row demonstrates; None where something is wrong with it, which is among the findings then.
fn sample(row: &Row, form: Form, findings: &mut Findings) -> Option<Sample> {
    match form {
        Form::Completions => {
            let (prompt, completion) = (column(row, PROMPT, findings), column(row, COMPLETION, findings));
            Some(Sample::Completion { prompt: prompt?, completion: completion? })
        }
        Form::Lists { column, dialect, system } => {
            let frame = Frame::of_row(row, system, findings);
            let at = Path::field(column);
            let messages = frame.column(row, dialect, &at, findings)?;
            check_example(&[Part { at, messages: &messages, from: 0 }], findings);
            Some(Sample::Conversation(frame.conversation(messages, findings)))
        }
        Form::Continued { dialect, system } => {
            let frame = Frame::of_row(row, system, findings);
            let (prompt, completion) = (Path::field(PROMPT), Path::field(COMPLETION));
            let given = frame.column(row, dialect, &prompt, findings);
            let next = frame.column(row, dialect, &completion, findings);
            let (mut given, next) = (given?, next?);
            given
                .iter_mut()
                .filter(|message| message.role == Role::Assistant)
                .for_each(|message| message.is_learned = false);
            let following = Part { at: completion, messages: &next, from: 0 };
            check_example(&[Part { at: prompt, messages: &given, from: 0 }, following], findings);
            check_beginning(following, findings);
            given.extend(next);
            Some(Sample::Conversation(frame.conversation(given, findings)))
        }
        Form::Questions { question, answer, system } => {
            let frame = Frame::of_question(row, system, findings);
            let messages = question.messages(row, findings);
            let answer = column(row, answer, findings);
            let mut messages = messages?;
            messages.push(Message::new(Role::Assistant, answer?));
            Some(Sample::Conversation(frame.conversation(messages, findings)))
        }
    }
}

/// Demonstrations.
pub struct Chats;

impl Kind for Chats {
    fn fits(&self, format: DataFormat, there: &[&str]) -> Result<(), String> {
        rows::fit(format)?;
        fit(there)
    }

    fn report(&self, input: &Input, watch: &mut dyn Watch) -> io::Result<ExamplesReport> {
        let (mut tally, mut ledger, mut chats) = (Tally::new(watch), Ledger::default(), ChatStatistics::default());
        for demonstration in good(read(input)?, &mut ledger) {
            let Demonstration { line, sample } = demonstration?;
            tally.add_talk(line, &talk::of_sample(&sample));
            talk::count(&mut chats, &sample, tally.examples());
        }
        Ok(tally.report(ledger, |_, text_lengths| Contents::Chats { chats: Box::new(chats), text_lengths }))
    }

    fn upload_kind(&self) -> Option<UploadKind> {
        Some(UploadKind::Chats)
    }

    fn inspect(&self, input: &Input, there: &[&str]) -> io::Result<Option<ExamplesReport>> {
        if self.fits(input.format, there).is_ok() { self.report(input, &mut ()).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Conversation, Input, Message, Role, Sample, read};
    use crate::dataset::entries::{Ledger, good};
    use crate::domain::chat::ToolCall;
    use crate::domain::report::DataFormat;

    pub(super) fn read_bytes(bytes: &[u8], format: DataFormat) -> (Vec<Sample>, Ledger) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut ledger = Ledger::default();
        let entries = read(&Input::new(file.path(), format)).unwrap();
        let samples = good(entries, &mut ledger).map(|one| one.unwrap().sample).collect();
        (samples, ledger)
    }

    pub(super) fn faults(ledger: &Ledger) -> Vec<String> {
        let shown = |fault: &crate::domain::report::Fault| {
            format!("{} {}: {}", fault.line, fault.field.as_deref().unwrap_or_default(), fault.message)
        };
        ledger.faults.listed.iter().map(shown).collect()
    }

    fn notes(ledger: &Ledger) -> Vec<&str> {
        ledger.notes.iter().map(|note| note.code.as_str()).collect()
    }

    /// The one conversation of a file with this row.
    #[track_caller]
    pub(super) fn one(row: &str) -> (Conversation, Ledger) {
        let (samples, ledger) = read_bytes(row.as_bytes(), DataFormat::Jsonl);
        assert_eq!(faults(&ledger), Vec::<String>::new());
        let [Sample::Conversation(conversation)] = &samples[..] else { panic!("{samples:?}") };
        (conversation.clone(), ledger)
    }

    pub(super) fn talk(messages: &[(Role, &str)]) -> Vec<Message> {
        messages.iter().map(|(role, said)| Message::new(*role, *said)).collect()
    }

    fn call(id: Option<&str>, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.map(str::to_owned), name: name.to_owned(), arguments: arguments.to_owned() }
    }

    #[test]
    fn openais_chats_are_read_with_all_that_they_have() {
        let (found, ledger) = one(
            r#"{"messages": [{"role": "developer", "content": "Be brief.", "name": null},
                {"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "in Bonn?"}], "name": "Ann"},
                {"role": "assistant", "content": "", "weight": 0, "reasoning_content": "A tool knows.", "tool_calls":
                    [{"id": "c1", "type": "function", "function": {"name": "get", "arguments": "{\"city\": \"Bonn\"}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "", "ts": 5}, {"role": "assistant", "content": "Fine.", "weight": 1}],
                "tools": [{"type": "function", "function": {"name": "get", "parameters": {"type": "object", "b": 1, "a": 2}}}],
                "parallel_tool_calls": false}"#
                .replace('\n', "")
                .as_str(),
        );
        let tool = r#"{"type":"function","function":{"name":"get","parameters":{"type":"object","b":1,"a":2}}}"#;
        let mut messages = talk(&[
            (Role::Developer, "Be brief."),
            (Role::User, "Weather\nin Bonn?"),
            (Role::Assistant, ""),
            (Role::Tool, ""),
            (Role::Assistant, "Fine."),
        ]);
        messages[1].name = Some("Ann".to_owned());
        messages[2].content = None;
        messages[2].is_learned = false;
        messages[2].reasoning_content = Some("A tool knows.".to_owned());
        messages[2].tool_calls = vec![call(Some("c1"), "get", r#"{"city": "Bonn"}"#)];
        messages[3].tool_call_id = Some("c1".to_owned());
        assert_eq!(found, Conversation { messages, tools: vec![tool.to_owned()], parallel_tool_calls: Some(false) });
        assert_eq!(notes(&ledger), ["read_as", "content_in_parts", "message_keys_not_read"]);
        assert_eq!(ledger.notes[0].message, "Read as OpenAI's chats: messages with role and content.");
    }

    #[test]
    fn functions_become_tools_and_function_calls_their_calls() {
        let (found, ledger) = one(concat!(
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null, "function_call": "#,
            r#"{"name": "f", "arguments": "{}"}}, {"role": "function", "name": "f", "content": "1"}, "#,
            r#"{"role": "assistant", "content": "b"}], "functions": [{"name": "f"}]}"#
        ));
        assert_eq!(found.tools, [r#"{"type":"function","function":{"name":"f"}}"#]);
        assert_eq!(found.messages[1].tool_calls, [call(None, "f", "{}")]);
        assert_eq!((found.messages[2].role, found.messages[2].name.as_deref()), (Role::Tool, Some("f")));
        assert_eq!(notes(&ledger), ["read_as", "calls_without_ids", "functions_as_tools"]);
    }

    #[test]
    fn data_as_people_have_it_becomes_the_same_conversation() {
        let messages = talk(&[(Role::System, "Be kind."), (Role::User, "Hi"), (Role::Assistant, "Hello")]);
        for (row, read_as) in [
            (
                r#"{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}"#,
                "Read as OpenAI's chats: messages with role and content.",
            ),
            (
                r#"{"system":"Be kind.","messages":"[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hello\"}]"}"#,
                "Read as OpenAI's chats: messages with role and content.",
            ),
            (
                r#"{"id":"1","conversations":[{"from":"system","value":"Be kind."},{"from":"human","value":"Hi"},{"from":"gpt","value":"Hello"}]}"#,
                "Read as ShareGPT: conversations with from and value.",
            ),
            (
                r#"{"conversations":[{"role":"human","content":"Hi"},{"role":"model","content":"Hello"}],"system":"Be kind."}"#,
                "Read as OpenAI's chats: conversations with role and content.",
            ),
            (
                r#"{"prompt":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"}],"completion":[{"role":"assistant","content":"Hello"}]}"#,
                "Read as chats in two parts: of the messages in completion the assistant's are learned, of those in prompt none.",
            ),
            (
                r#"{"instruction":"Hi","input":"","output":"Hello","system":"Be kind."}"#,
                "Read as Alpaca: instruction, input are what the user says, output what the assistant says.",
            ),
            (
                r#"{"system_prompt":"Be kind.","question":"Hi","response":"Hello"}"#,
                "Read as questions and answers: question is what the user says, response what the assistant says.",
            ),
        ] {
            let (found, ledger) = one(row);
            assert_eq!((found.messages, ledger.notes[0].message.as_str()), (messages.clone(), read_as), "{row}");
        }
    }

    #[test]
    fn sharegpts_tools_are_called_in_texts() {
        let (found, ledger) = one(concat!(
            r#"{"conversations":[{"from":"human","value":"a"},{"from":"function_call","value":"{\"name\": \"f\", \"arguments\": {\"b\": 1}}"},"#,
            r#"{"from":"observation","value":"3"},{"from":"gpt","value":"c","weight":1}],"tools":"[{\"name\": \"f\"}]"}"#
        ));
        assert_eq!(found.messages[1].tool_calls, [call(None, "f", r#"{"b":1}"#)]);
        assert_eq!((found.messages[1].content.as_ref(), found.tools.len()), (None, 1));
        assert_eq!(notes(&ledger), ["read_as", "calls_without_ids", "json_in_text"]);
    }

    #[test]
    fn completions_are_texts_as_they_stand() {
        let rows = "{\"prompt\":\" [1, 2\",\"completion\":\"] \"}\n{\"prompt\":\"\",\"completion\":null}\n";
        let (samples, ledger) = read_bytes(rows.as_bytes(), DataFormat::Jsonl);
        let sample = Sample::Completion { prompt: " [1, 2".to_owned(), completion: "] ".to_owned() };
        assert_eq!(samples, [sample]);
        assert_eq!(faults(&ledger), ["2 prompt: is empty", "2 completion: is missing"]);
        assert!(
            ledger.notes[0].message.starts_with("Read as texts without a chat template: completion is what comes next")
        );
    }

    #[test]
    fn prompts_of_messages_are_not_learned() {
        let (found, _) = one(concat!(
            r#"{"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"#,
            r#""completion":[{"role":"assistant","content":"d"}]}"#
        ));
        assert_eq!(
            found.messages.iter().map(|message| message.is_learned).collect::<Vec<_>>(),
            [true, false, true, true]
        );
    }

    #[test]
    fn tables_and_arrays_are_read_too() {
        let (samples, ledger) = read_bytes(b"instruction,input,output\na,,b\nc,d,\n", DataFormat::Csv);
        assert_eq!((samples.len(), faults(&ledger)), (1, vec!["3 output: is empty".to_owned()]));
        let cell = r#""[{""role"": ""user"", ""content"": ""a""}, {""role"": ""assistant"", ""content"": ""b""}]""#;
        let (samples, ledger) = read_bytes(format!("id,messages\n1,{cell}\n").as_bytes(), DataFormat::Csv);
        assert_eq!((samples.len(), notes(&ledger)), (1, vec!["read_as", "columns_not_read", "json_in_text"]));
        let array = "[{\"question\": \"a\",\n\"answer\": \"b\"},\n{\"question\": 3}]";
        let (samples, ledger) = read_bytes(array.as_bytes(), DataFormat::Json);
        let told = ["3 question: must be a string, not a number", "3 answer: is missing"];
        assert_eq!((samples.len(), faults(&ledger)), (1, told.map(str::to_owned).to_vec()));
        let (_, ledger) = read_bytes(b"question,answer,answer\na,b,c\n", DataFormat::Csv);
        assert_eq!(faults(&ledger), ["1 answer: stands more than once in the header"]);
    }

    pub(super) const USER: &str = r#"{"role":"user","content":"a"}"#;
    pub(super) const ASSISTANT: &str = r#"{"role":"assistant","content":"b"}"#;

    /// What is wrong with a row of a file of OpenAI's conversations.
    pub(super) fn wrong(row: &str) -> Vec<String> {
        let good = format!(r#"{{"messages":[{USER},{ASSISTANT}]}}"#);
        let (_, ledger) = read_bytes(format!("{good}\n{good}\n{row}\n").as_bytes(), DataFormat::Jsonl);
        assert_eq!((ledger.counts.rows, ledger.counts.faulty), (3, u64::from(!ledger.faults.is_empty())));
        assert!(ledger.faults.listed.iter().all(|fault| fault.line == 3));
        let shown = |fault: &crate::domain::report::Fault| {
            format!("{}: {}", fault.field.as_deref().unwrap_or_default(), fault.message)
        };
        ledger.faults.listed.iter().map(shown).collect()
    }

    #[test]
    fn rows_without_messages_say_what_is_there_instead() {
        for (row, expected) in [
            ("{}", "messages: is missing"),
            (r#"{"messages":null}"#, "messages: is missing"),
            (r#"{"messages":[]}"#, "messages: is an empty list"),
            (r#"{"messages":{}}"#, "messages: must be a list of messages, not an object"),
            (r#"{"messages":"Hi"}"#, "messages: must be a list of messages, not a string"),
            (
                r#"{"messages":"[{'role': 'user'}]"}"#,
                "messages: is a string that is not valid JSON (column 3: key must be a string); Python's str() writes no JSON, \
                 json.dumps does",
            ),
            (r#"{"messages":[{"role":"user","role":"user"}]}"#, ": has a duplicate key \"role\""),
            (r#"{"messages":[3,{"role":"user"}"#, ": is not valid JSON (column 30: EOF while parsing a list)"),
            ("[1]", ": expected a JSON object, found an array"),
        ] {
            assert_eq!(wrong(row), [expected], "{row}");
        }
    }
}
