//! The preference that a row is: what is answered, and the two answers.

use super::Choice;
use super::forms::{Answers, Form, Given, INPUT, Outputs, PROMPT};
use super::judgement::{Both, CHOSEN, REJECTED, Read, equal, judged};
use super::whole::{of_transcripts, of_whole};
use crate::dataset::chats::dialect::Dialect;
use crate::dataset::chats::findings::Findings;
use crate::dataset::chats::frame::Frame;
use crate::dataset::chats::order::Part;
use crate::dataset::chats::parse::{must_be, text};
use crate::dataset::chats::path::Path;
use crate::dataset::chats::questions::column;
use crate::dataset::row::{MISSING, Row};
use crate::dataset::tree::{Object, Tree};
use crate::domain::chat::{Message, Role};

/// What a row is.
pub(super) fn choice(row: &Row, form: Form, findings: &mut Findings) -> Read {
    Read::Choice(match form {
        Form::Input { outputs, dialect } => of_input(row, outputs, dialect, findings),
        Form::Given { given, answers, system } => of_given(row, given, answers, system, findings),
        Form::Whole { dialect, system } => of_whole(row, dialect, system, findings),
        Form::Transcripts { has_prompt } => return of_transcripts(row, has_prompt, findings),
        Form::Texts => {
            let [prompt, chosen, rejected] = [PROMPT, CHOSEN, REJECTED].map(|name| column(row, name, findings));
            prompt.zip(chosen.zip(rejected)).map(|(prompt, (preferred, non_preferred))| {
                if preferred == non_preferred {
                    findings.fault(REJECTED, equal(CHOSEN));
                }
                Choice::Completion { prompt, preferred, non_preferred }
            })
        }
    })
}

fn of_input(row: &Row, outputs: Outputs, dialect: Dialect, findings: &mut Findings) -> Option<Choice> {
    let (at, tree, none) = (Path::field(INPUT), row.tree(INPUT), Object::default());
    let input = match tree.as_deref() {
        Some(tree) => findings.unpacked(tree, &at),
        None => findings.refuse(at, MISSING),
    };
    let object = input
        .as_deref()
        .and_then(|tree| findings.keep(at, tree.as_object().ok_or_else(|| must_be("an object with messages", tree))));
    let frame = Frame::of_object(object.unwrap_or(&none), Some(&at), findings);
    let place = at.key("messages");
    let messages = object.and_then(|object| match object.get("messages") {
        Some(tree) => frame.messages(tree, Dialect::of([tree].into_iter()), &place, findings),
        None => findings.refuse(place, MISSING),
    });
    let mut output = |name: &'static str| {
        let at = Path::field(name);
        let messages = frame.column(row, dialect, &at, findings)?;
        for (number, message) in messages.iter().enumerate().filter(|(_, message)| message.role != Role::Assistant) {
            let what = format!("is a message of the {}; outputs are the assistant's alone", message.role.as_str());
            findings.fault(at.item(number), what);
        }
        Some((at, messages))
    };
    let (preferred, non_preferred) = (output(outputs.preferred), output(outputs.non_preferred));
    let both = Both { preferred: preferred?, non_preferred: non_preferred? };
    Some(judged(frame, Part { at: place, messages: &messages?, from: 0 }, both, 0, findings))
}

fn of_given(
    row: &Row,
    given: Given,
    answers: Answers,
    system: Option<&'static str>,
    findings: &mut Findings,
) -> Option<Choice> {
    let (frame, at, messages) = match given {
        Given::List { column, dialect } => {
            let (frame, at) = (Frame::of_row(row, system, findings), Path::field(column));
            let messages = frame.column(row, dialect, &at, findings);
            (frame, at, messages)
        }
        Given::Question(question) => {
            let frame = Frame::of_question(row, system, findings);
            (frame, Path::field(question.column), question.messages(row, findings))
        }
    };
    let mut answer = |name: &'static str| {
        let at = Path::field(name);
        let Some(tree) = row.tree(name) else { return findings.refuse(at, MISSING) };
        Some((at, messages_of(&tree, &frame, answers, &at, findings)?))
    };
    let (preferred, non_preferred) = (answer(CHOSEN), answer(REJECTED));
    let both = Both { preferred: preferred?, non_preferred: non_preferred? };
    Some(judged(frame, Part { at, messages: &messages?, from: 0 }, both, 0, findings))
}

/// An answer: a text, a message, or a list of messages.
fn messages_of(
    tree: &Tree,
    frame: &Frame,
    answers: Answers,
    at: &Path<'_>,
    findings: &mut Findings,
) -> Option<Vec<Message>> {
    match answers {
        Answers::Texts => Some(vec![Message::new(Role::Assistant, findings.keep(at, text(tree))?)]),
        Answers::Messages(dialect) => {
            let tree = findings.unpacked(tree, at)?;
            match &*tree {
                Tree::Object(_) => frame.reader(dialect).message(&tree, at, findings).map(|message| vec![message]),
                _ => frame.messages(&tree, dialect, at, findings),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ANSWER, OTHER, USER, wrong};

    #[test]
    fn every_bad_preference_says_what_is_wrong_and_what_is_allowed() {
        let row = |input: &str, preferred: &str, non_preferred: &str| {
            format!(r#"{{"input":{input},"preferred_output":{preferred},"non_preferred_output":{non_preferred}}}"#)
        };
        let (input, good) =
            (format!(r#"{{"messages":[{USER}]}}"#), [ANSWER, OTHER].map(|answer| format!("[{answer}]")));
        let fine = row(&input, &good[0], &good[1]);
        for (row, expected) in [
            (
                "{}".to_owned(),
                &["input: is missing", "preferred_output: is missing", "non_preferred_output: is missing"][..],
            ),
            (row("[]", &good[0], &good[1]), &["input: must be an object with messages, not an array"]),
            (row("{}", &good[0], &good[1]), &["input.messages: is missing"]),
            (row(r#"{"messages":[]}"#, &good[0], &good[1]), &["input.messages: is an empty list"]),
            (
                row(r#"{"messages":[{"role":"bot","content":"a"}]}"#, &good[0], &good[1]),
                &[
                    "input.messages[0].role: is \"bot\", but must be one of \"system\", \"developer\", \"user\", \"assistant\", \
                   \"tool\"; write \"assistant\"",
                ],
            ),
            (
                row(&format!(r#"{{"messages":[{USER},{ANSWER}]}}"#), &good[0], &good[1]),
                &["input.messages: ends with a message of the assistant; what it says next is for the two outputs"],
            ),
            (
                row(&format!(r#"{{"messages":[{USER}],"tools":3,"parallel_tool_calls":1}}"#), &good[0], &good[1]),
                &[
                    "input.tools: must be a list, not a number",
                    "input.parallel_tool_calls: must be true or false, not a number",
                ],
            ),
            (row(&input, "null", &good[1]), &["preferred_output: is missing"]),
            (row(&input, "[]", &good[1]), &["preferred_output: is an empty list"]),
            (row(&input, "\"b\"", &good[1]), &["preferred_output: must be a list of messages, not a string"]),
            (
                row(&input, &format!("[{USER}]"), &good[1]),
                &[
                    "preferred_output[0]: is a message of the user; outputs are the assistant's alone",
                    "preferred_output: begins with a message of the user; what comes next must begin with one of the assistant",
                    "preferred_output: ends with a message of the user; the last one must be the assistant's",
                ],
            ),
            (
                row(&input, r#"[{"role":"assistant","content":""}]"#, &good[1]),
                &["preferred_output[0].content: is empty; the assistant's message must have content or tool_calls"],
            ),
            (
                row(&input, &good[0], &good[0]),
                &["non_preferred_output: equals preferred_output; a preference needs two that differ"],
            ),
        ] {
            assert_eq!(wrong(&fine, &row), expected, "{row}");
        }
    }

    #[test]
    fn preferences_of_other_forms_name_their_own_columns() {
        let texts = r#"{"prompt":"a","chosen":"b","rejected":"c"}"#;
        for (row, expected) in [
            (
                r#"{"prompt":"","chosen":"b","rejected":3}"#,
                &["prompt: is empty", "rejected: must be a string, not a number"][..],
            ),
            (
                r#"{"prompt":"a","chosen":"b","rejected":"b"}"#,
                &["rejected: equals chosen; a preference needs two that differ"],
            ),
        ] {
            assert_eq!(wrong(texts, row), expected);
        }
        let asked = r#"{"question":"a","chosen":"b","rejected":"c"}"#;
        let row = r#"{"question":" ","chosen":["b"],"rejected":null}"#;
        let expected = ["question: is empty", "chosen: must be a string, not an array", "rejected: is missing"];
        assert_eq!(wrong(asked, row), expected);
    }
}
