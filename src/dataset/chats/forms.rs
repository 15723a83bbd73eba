//! How a file's conversations are written, settled over its first rows.

use super::dialect::{Dialect, are_messages};
use super::frame::{FRAME, SYSTEM};
use super::questions::{INSTRUCTION, PAIRS, Question};
use crate::dataset::columns::{self, DOUBLED, HEADER, Names, folded};
use crate::dataset::row::{Row, listed};
use crate::dataset::tree::Tree;
use crate::domain::report::{Fault, Note};

/// Columns of lists of messages.
pub const LISTS: [&str; 3] = ["messages", "conversations", "conversation"];

/// Columns of what is given and what comes next: texts, or lists of messages.
pub(super) const PROMPT: &str = "prompt";
pub(super) const COMPLETION: &str = "completion";

/// Columns that only preferences have.
const PREFERENCES: [&str; 4] = ["chosen", "rejected", "preferred_output", "preferred_completion"];

/// What KTO's data (Ethayarajh et al. 2024, arXiv:2402.01306) have beside an answer: whether it is wanted.
const VERDICT: &str = "label";
const IS_KTO: &str = "has whether each answer is wanted (true, false), as data for KTO have it, which is not supported: unwanted \
                      answers would be learned as well; keep the wanted ones and leave the column out, or give pairs of answers \
                      for the method dpo";

/// How rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Whole conversations in a column.
    Lists { column: &'static str, dialect: Dialect, system: Option<&'static str> },
    /// What is given and what comes next, both lists of messages.
    Continued { dialect: Dialect, system: Option<&'static str> },
    /// The same as texts, which no chat template is put around.
    Completions,
    /// A question and its answer.
    Questions { question: Question, answer: &'static str, system: Option<&'static str> },
}

impl Form {
    fn columns(self) -> Vec<&'static str> {
        let own: Vec<&str> = match self {
            Self::Lists { column, .. } => vec![column],
            Self::Continued { .. } | Self::Completions => vec![PROMPT, COMPLETION],
            Self::Questions { question, answer, .. } => question.columns().chain([answer]).collect(),
        };
        let framed = matches!(self, Self::Lists { .. } | Self::Continued { .. });
        let (Self::Lists { system, .. } | Self::Continued { system, .. } | Self::Questions { system, .. }) = self
        else {
            return own;
        };
        own.into_iter().chain(FRAME.into_iter().filter(|_| framed)).chain(system).collect()
    }

    fn note(self) -> Note {
        let message = match self {
            Self::Lists { column, dialect, .. } if dialect.is_sharegpt() => {
                format!("Read as ShareGPT: {column} with {}.", dialect.keys())
            }
            Self::Lists { column, dialect, .. } => format!("Read as OpenAI's chats: {column} with {}.", dialect.keys()),
            Self::Continued { .. } => format!(
                "Read as chats in two parts: of the messages in {COMPLETION} the assistant's are learned, of those in {PROMPT} \
                 none."
            ),
            Self::Completions => format!(
                "Read as texts without a chat template: {COMPLETION} is what comes next behind {PROMPT}; lists of messages \
                 would be chats."
            ),
            Self::Questions { question, answer, .. } => {
                let alpaca = if (question.column, answer) == PAIRS[0] { "Alpaca" } else { "questions and answers" };
                let columns: Vec<&str> = question.columns().collect();
                let are = if columns.len() > 1 { "are" } else { "is" };
                format!(
                    "Read as {alpaca}: {} {are} what the user says, {answer} what the assistant says.",
                    columns.join(", ")
                )
            }
        };
        Note::info("read_as", message)
    }
}

/// Settles how the rows are read.
///
/// # Errors
/// No form of conversations is there, or several are; in words for the file's owner.
pub(super) fn settle(rows: &[&Row]) -> Result<(Form, Vec<Note>), Fault> {
    let names = Names::of(rows);
    let there = names.listed();
    let form = form(&there, rows, names.are_headed()).map_err(|what| Fault::new(names.line(), Some(LISTS[0]), what))?;
    let read = form.columns();
    if let Some(name) = columns::doubled(&names, &read) {
        return Err(Fault::new(names.line(), Some(name), DOUBLED));
    }
    let verdicts = || rows.iter().filter_map(|row| row.tree(VERDICT));
    if verdicts().next().is_some() && verdicts().all(|tree| is_verdict(&tree)) {
        return Err(Fault::new(names.line(), Some(VERDICT), IS_KTO));
    }
    let notes = [form.note()].into_iter().chain(columns::not_read(rows, &there, &read));
    Ok((form, notes.collect()))
}

/// Whether a file whose rows have these fields can hold conversations.
///
/// # Errors
/// What is missing.
pub(in crate::dataset) fn fit(there: &[&str]) -> Result<(), String> {
    let has_list = LISTS.into_iter().any(|name| there.contains(&name));
    if has_list || !pairs(there).is_empty() { Ok(()) } else { Err(none(there, false)) }
}

fn form(there: &[&str], rows: &[&Row], headed: bool) -> Result<Form, String> {
    let system = system(there);
    let most_have = |name: &str| 2 * rows.iter().filter(|row| row.tree(name).is_some()).count() >= rows.len();
    let mut lists: Vec<&'static str> = LISTS.into_iter().filter(|name| there.contains(name)).collect();
    let mut pairs = pairs(there);
    // Columns that few rows have decide where no others are there.
    if lists.iter().any(|name| most_have(name)) || pairs.iter().any(|(one, other)| most_have(one) && most_have(other)) {
        lists.retain(|name| most_have(name));
        pairs.retain(|(one, other)| most_have(one) && most_have(other));
    }
    if !pairs.is_empty() || lists.iter().any(|name| mostly(rows, name, are_messages)) {
        lists.retain(|name| mostly(rows, name, are_messages));
    }
    if let Some(column) = columns::fullest(&lists, rows).and_then(|name| LISTS.into_iter().find(|list| *list == name)) {
        let dialect = dialect(rows, &[column]);
        let dialect = if column == LISTS[0] { dialect } else { dialect.named() };
        return Ok(Form::Lists { column, dialect, system });
    }
    match pairs[..] {
        [] => Err(none(there, headed)),
        [(PROMPT, COMPLETION)] if mostly(rows, PROMPT, are_messages) || mostly(rows, COMPLETION, are_messages) => {
            Ok(Form::Continued { dialect: dialect(rows, &[PROMPT, COMPLETION]), system })
        }
        [(PROMPT, COMPLETION)] => Ok(Form::Completions),
        [(question, answer)] => Ok(Form::Questions { question: Question::new(question, there), answer, system }),
        [(question, answer), (other, another), ..] => Err(format!(
            "can be read in two ways: \"{question}\" and \"{answer}\", or \"{other}\" and \"{another}\"; leave out the columns \
             that are not meant"
        )),
    }
}

/// Whether it is a truth value, in JSON or as CSV has them.
fn is_verdict(tree: &Tree) -> bool {
    matches!(tree, Tree::Bool(_))
        || matches!(tree, Tree::Text(text) if matches!(text.to_lowercase().as_str(), "true" | "false"))
}

/// The column of instructions, where there is one.
pub(in crate::dataset) fn system(there: &[&str]) -> Option<&'static str> {
    SYSTEM.into_iter().find(|name| there.contains(name))
}

/// How the lists in these columns are written.
pub(in crate::dataset) fn dialect(rows: &[&Row], columns: &[&str]) -> Dialect {
    let lists: Vec<_> = rows.iter().flat_map(|row| columns.iter().filter_map(|name| row.tree(name))).collect();
    Dialect::of(lists.iter().map(|tree| &**tree))
}

/// Whether `is_so` holds of most of the rows that have this column.
pub(in crate::dataset) fn mostly(rows: &[&Row], name: &str, is_so: fn(&Tree) -> bool) -> bool {
    let there: Vec<_> = rows.iter().filter_map(|row| row.tree(name)).collect();
    2 * there.iter().filter(|tree| is_so(tree)).count() > there.len()
}

/// The pairs of columns that are there; the input of an instruction is no question of its own.
fn pairs(there: &[&str]) -> Vec<(&'static str, &'static str)> {
    let all = [(PROMPT, COMPLETION)].into_iter().chain(PAIRS);
    let mut found: Vec<_> = all.filter(|(one, other)| there.contains(one) && there.contains(other)).collect();
    if found.iter().any(|(question, _)| *question == INSTRUCTION) {
        found.retain(|(question, _)| *question != "input");
    }
    found
}

fn none(there: &[&str], headed: bool) -> String {
    let lower: Vec<String> = there.iter().map(|name| folded(name)).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let is_named_otherwise = LISTS.into_iter().any(|name| lower.contains(&name)) || !pairs(&lower).is_empty();
    let hint = if is_named_otherwise {
        "; names of columns stand in lower case, without white space"
    } else if PREFERENCES.into_iter().any(|name| there.contains(&name)) {
        "; these look like preferences, which are another kind of data"
    } else if headed {
        HEADER
    } else {
        ""
    };
    format!(
        "there are no conversations: neither \"messages\" nor \"conversations\", nor two columns such as \"prompt\" and \
         \"completion\", \"question\" and \"answer\" or \"instruction\" and \"output\"; found {}{hint}",
        listed(there)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{faults, read_bytes};
    use crate::domain::report::DataFormat;

    #[test]
    fn what_is_no_conversation_or_two_is_told_once_with_what_helps() {
        let none = "there are no conversations: neither \"messages\" nor \"conversations\", nor two columns such as \"prompt\" \
                    and \"completion\", \"question\" and \"answer\" or \"instruction\" and \"output\"; found";
        for (bytes, format, told) in [
            ("{\"text\":\"a\"}\n", DataFormat::Jsonl, format!("{none} \"text\"")),
            ("a\n", DataFormat::Text, format!("{none} \"text\"")),
            (
                "Prompt,Completion\na,b\n",
                DataFormat::Csv,
                format!("{none} \"Prompt\", \"Completion\"; names of columns stand in lower case, without white space"),
            ),
            (
                "{\"chosen\":\"a\",\"rejected\":\"b\"}\n",
                DataFormat::Jsonl,
                format!("{none} \"chosen\", \"rejected\"; these look like preferences, which are another kind of data"),
            ),
            (
                "a,b\n1,2\n",
                DataFormat::Csv,
                format!("{none} \"a\", \"b\" (the first line must name the columns)"),
            ),
            (
                "{\"question\":\"a\",\"answer\":\"b\",\"response\":\"c\"}\n",
                DataFormat::Jsonl,
                "can be read in two ways: \"question\" and \"answer\", or \"question\" and \"response\"; leave out the \
                 columns that are not meant"
                    .to_owned(),
            ),
        ] {
            let (samples, ledger) = read_bytes(bytes.as_bytes(), format);
            assert_eq!((samples.len(), faults(&ledger)), (0, vec![format!("1 messages: {told}")]));
        }
    }

    #[test]
    fn most_rows_decide_which_columns_are_read() {
        let list = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
        let pair = r#"{"question":"a","answer":"b"}"#;
        let text = r#"{"conversation":"number 7","question":"a","answer":"b"}"#;
        let both = r#"{"prompt":"a","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"completion":"b"}"#;
        for (rows, read_as, faults) in [
            ([list, list, pair], "Read as OpenAI's chats", 1),
            ([list, pair, pair], "Read as questions and answers: question is what the user says", 1),
            ([text, text, text], "Read as questions and answers", 0),
            ([both, both, both], "Read as OpenAI's chats", 0),
        ] {
            let (_, ledger) = read_bytes(rows.join("\n").as_bytes(), DataFormat::Jsonl);
            assert!(ledger.notes[0].message.starts_with(read_as), "{}", ledger.notes[0].message);
            assert_eq!(ledger.counts.faulty, faults, "{}", ledger.faults.summary());
        }
    }

    #[test]
    fn other_forms_name_their_own_columns() {
        for (good, row, expected) in [
            (
                r#"{"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]}"#,
                r#"{"conversations":[{"from":"alien","value":"a"},{"from":"gpt","value":""},{"value":"c"}]}"#,
                &[
                    "conversations[0].from: is \"alien\", but must be one of \"human\", \"gpt\", \"function_call\", \"system\", \
                     \"developer\", \"user\", \"assistant\", \"tool\"",
                    "conversations[1].value: is empty; the assistant's message must have content or tool_calls",
                    "conversations[2].from: is missing; it must say who speaks, such as \"human\" or \"gpt\"",
                ][..],
            ),
            (
                r#"{"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]}"#,
                r#"{"conversations":[{"from":"human","value":"a"},{"from":"function_call","value":"f()"}]}"#,
                &["conversations[1].value: must be a call as JSON, with name and arguments, not a string"],
            ),
            (
                r#"{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"assistant","content":"b"}]}"#,
                r#"{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"user","content":"b"},{"role":"assistant","content":"b"}]}"#,
                &[
                    "completion: begins with a message of the user; what comes next must begin with one of the assistant",
                ],
            ),
            (
                r#"{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"assistant","content":"b"}]}"#,
                r#"{"prompt":"a","completion":[{"role":"assistant","content":"b"}]}"#,
                &["prompt: must be a list of messages, not a string"],
            ),
            (
                r#"{"instruction":"a","input":"","output":"b","history":[]}"#,
                r#"{"instruction":" ","input":3,"output":["b"],"history":[["a"],["a",""],3]}"#,
                &[
                    "instruction: is empty",
                    "input: must be a string, not a number",
                    "history[0]: must be a list of two texts, a question and its answer",
                    "history[1][1]: is empty",
                    "history[2]: must be a list of two texts, a question and its answer",
                    "output: must be a string, not an array",
                ],
            ),
        ] {
            let (samples, ledger) = read_bytes(format!("{good}\n{good}\n{row}\n").as_bytes(), DataFormat::Jsonl);
            let expected: Vec<String> = expected.iter().map(|what| format!("3 {what}")).collect();
            assert_eq!((samples.len(), faults(&ledger)), (2, expected), "{row}");
        }
    }
}
