//! Rows of demonstrations and of preferences in every form that is read, and rows with something wrong in them.

use finetuned::dataset::chats::Sample;
use finetuned::dataset::preferences::Choice;
use finetuned::domain::chat::{Conversation, Message, Role};

use super::made::{Numbers, conversation, list, quoted, sharegpt, text, tools};

/// A row, and what it is to become; None of what is faulty.
pub(super) type Planted<T> = (String, Option<T>);

/// Demonstrations are written in as many forms; a file has one.
pub(super) const CHAT_FORMS: u64 = 5;

pub(super) fn demonstration(form: u64, numbers: &mut Numbers) -> Planted<Sample> {
    let with_tools = form < 3 && numbers.is_in(5);
    let mut made = conversation(numbers, with_tools);
    let row = match form {
        0 => {
            let ends = made.messages.len() - 1;
            made.messages[..ends]
                .iter_mut()
                .for_each(|one| one.is_learned = one.role != Role::Assistant || numbers.is_in(7));
            let messages = list(&made.messages, numbers);
            let messages = if numbers.is_in(2) { quoted(&messages) } else { messages };
            format!(r#"{{"messages":{messages}{}}}"#, tools(&made, numbers))
        }
        1 => {
            for message in &mut made.messages {
                message.tool_call_id = None;
                message.tool_calls.iter_mut().for_each(|call| call.id = None);
                message.content.take_if(|_| !message.tool_calls.is_empty());
            }
            let all: Vec<String> = made.messages.iter().map(sharegpt).collect();
            format!(r#"{{"conversations":[{}]{}}}"#, all.join(","), tools(&made, numbers))
        }
        2 => {
            let is_start =
                |at: &usize| made.messages[*at].role == Role::Assistant && made.messages[at - 1].role == Role::User;
            let starts: Vec<usize> = (1..made.messages.len()).filter(is_start).collect();
            let (given, next) = made.messages.split_at_mut(numbers.one_of(&starts));
            let (prompt, completion) = (list(given, numbers), list(next, numbers));
            for message in given {
                message.is_learned = message.role != Role::Assistant;
            }
            format!(r#"{{"prompt":{prompt},"completion":{completion}{}}}"#, tools(&made, numbers))
        }
        3 => {
            let said = |message: &Message| quoted(message.content.as_deref().unwrap());
            let system = made.messages.iter().find(|one| one.role == Role::System).map(said);
            let talk: Vec<String> = made.messages.iter().filter(|one| one.role != Role::System).map(said).collect();
            let (before, last) = talk.split_at(talk.len() - 2);
            let history: Vec<String> = before.chunks(2).map(|pair| format!("[{}]", pair.join(","))).collect();
            let system = system.unwrap_or_else(|| "\"\"".to_owned());
            format!(
                r#"{{"instruction":{},"input":"","output":{},"system":{system},"history":[{}]}}"#,
                last[0],
                last[1],
                history.join(",")
            )
        }
        _ => {
            let (prompt, completion) = (text(numbers), text(numbers));
            let row = format!(r#"{{"completion":{},"prompt":{}}}"#, quoted(&completion), quoted(&prompt));
            return (row, Some(Sample::Completion { prompt, completion }));
        }
    };
    (row, Some(Sample::Conversation(made)))
}

/// A row of the same form with something wrong in it.
pub(super) fn faulty_demonstration(form: u64, numbers: &mut Numbers) -> String {
    let (row, _) = demonstration(form, numbers);
    let bad: &[&str] = match form {
        0 => &[
            r#"{"messages":[]}"#,
            r#"{"messages":null,"tools":[]}"#,
            r#"{"messages":[{"role":"user","content":"a"}]}"#,
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":""}]}"#,
            r#"{"messages":[{"role":"user","content":"a"},{"role":"bot","content":"b"}]}"#,
            r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0}]}"#,
            r#"{"messages":[{"role":"tool","tool_call_id":"1","content":"a"},{"role":"assistant","content":"b"}]}"#,
        ],
        1 => &[
            r#"{"conversations":[{"from":"human","value":"a"},{"from":"alien","value":"b"}]}"#,
            r#"{"conversations":[{"from":"human","value":"a"},{"from":"function_call","value":"f"}]}"#,
            r#"{"conversations":[{"from":"gpt","value":"a"},{"from":"human","value":"b"}]}"#,
        ],
        2 => &[
            r#"{"prompt":[{"role":"user","content":"a"}]}"#,
            r#"{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"user","content":"a"}]}"#,
            r#"{"prompt":[{"role":"user","content":[]}],"completion":[{"role":"assistant","content":"a"}]}"#,
        ],
        3 => {
            &[r#"{"instruction":"","input":"a","output":"b"}"#, r#"{"instruction":"a","output":"b","history":[["a"]]}"#]
        }
        _ => &[r#"{"prompt":"a","completion":" "}"#, r#"{"prompt":["a"],"completion":"b"}"#],
    };
    match numbers.below(4) {
        0 => row[..row.len() - 1].to_owned(),
        1 => row.replacen('{', r#"{"id":1,"id":1,"#, 1),
        _ => numbers.one_of(bad).to_owned(),
    }
}

/// So are preferences.
pub(super) const PREFERENCE_FORMS: u64 = 5;

pub(super) fn preference(form: u64, numbers: &mut Numbers) -> Planted<Choice> {
    let with_tools = form < 3 && numbers.is_in(4);
    let mut input = conversation(numbers, with_tools);
    // What is answered ends before the last answer.
    input.messages.pop();
    let [preferred, non_preferred] = ["good", "bad"].map(|word| format!("{word} {}", text(numbers)));
    let answers = [&preferred, &non_preferred].map(|said| vec![Message::new(Role::Assistant, said.clone())]);
    let row = match form {
        0 => format!(
            r#"{{"input":{{"messages":{}{}}},"preferred_output":{},"non_preferred_output":{}}}"#,
            list(&input.messages, numbers),
            tools(&input, numbers),
            list(&answers[0], numbers),
            list(&answers[1], numbers)
        ),
        1 => format!(
            r#"{{"prompt":{},"chosen":{},"rejected":{}{}}}"#,
            list(&input.messages, numbers),
            list(&answers[0], numbers),
            list(&answers[1], numbers),
            tools(&input, numbers)
        ),
        2 => {
            let whole = |answer: &[Message], numbers: &mut Numbers| list(&[&input.messages, answer].concat(), numbers);
            let (chosen, rejected) = (whole(&answers[0], numbers), whole(&answers[1], numbers));
            format!(r#"{{"chosen":{chosen},"rejected":{rejected}{}}}"#, tools(&input, numbers))
        }
        3 => {
            input = Conversation { messages: vec![Message::new(Role::User, text(numbers))], ..Conversation::default() };
            let question = quoted(input.messages[0].content.as_ref().unwrap());
            format!(
                r#"{{"question":{question},"chosen":{},"rejected":{}}}"#,
                quoted(&preferred),
                quoted(&non_preferred)
            )
        }
        _ => {
            let prompt = text(numbers);
            let [one, good, bad] = [&prompt, &preferred, &non_preferred].map(|text| quoted(text));
            let row = format!(r#"{{"prompt":{one},"rejected":{bad},"chosen":{good}}}"#);
            return (row, Some(Choice::Completion { prompt, preferred, non_preferred }));
        }
    };
    let [preferred, non_preferred] = answers;
    (row, Some(Choice::Conversation { input, preferred, non_preferred }))
}

pub(super) fn faulty_preference(form: u64, numbers: &mut Numbers) -> String {
    let (row, _) = preference(form, numbers);
    let alike = match form {
        0 => {
            r#"{"input":{"messages":[{"role":"user","content":"a"}]},"preferred_output":[{"role":"assistant","content":"b"}],"non_preferred_output":[{"role":"assistant","content":"b"}]}"#
        }
        1 => {
            r#"{"prompt":[{"role":"user","content":"a"}],"chosen":[{"role":"assistant","content":"b"}],"rejected":[{"role":"assistant","content":"b"}]}"#
        }
        2 => {
            r#"{"chosen":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"rejected":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#
        }
        3 => r#"{"question":"a","chosen":"b","rejected":"b"}"#,
        _ => r#"{"prompt":"a","chosen":"b","rejected":"b"}"#,
    };
    match numbers.below(3) {
        0 => row.replacen("\"rejected\"", "\"other\"", 1).replacen("\"preferred_output\"", "\"other\"", 1),
        1 => row[..row.len() - 1].to_owned(),
        _ => alike.to_owned(),
    }
}
