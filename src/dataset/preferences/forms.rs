//! How a file's preferences are written, settled over its first rows.

use super::transcripts;
use crate::dataset::chats::dialect::{Dialect, are_messages};
use crate::dataset::chats::forms::{self, LISTS, dialect, mostly};
use crate::dataset::chats::frame::FRAME;
use crate::dataset::chats::questions::Question;
use crate::dataset::columns::{self, DOUBLED, HEADER, Names, folded};
use crate::dataset::row::{Row, listed};
use crate::dataset::tree::Tree;
use crate::domain::report::{Fault, Note};

/// The columns of the two outputs: OpenAI's, what its specification called them before, and everybody else's.
const OUTPUTS: [Outputs; 3] = [
    Outputs { preferred: "preferred_output", non_preferred: "non_preferred_output" },
    Outputs { preferred: "preferred_completion", non_preferred: "non_preferred_completion" },
    CHOSEN,
];
const CHOSEN: Outputs = Outputs { preferred: "chosen", non_preferred: "rejected" };

/// The column of what OpenAI's outputs answer.
pub(super) const INPUT: &str = "input";

/// The column of what others answer, a text or a list of messages, and what else it is called where it is a question.
pub(super) const PROMPT: &str = "prompt";
const QUESTIONS: [&str; 5] = ["question", "instruction", "query", "input", "user"];

/// Where a file has the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outputs {
    pub(super) preferred: &'static str,
    pub(super) non_preferred: &'static str,
}

impl Outputs {
    fn are_in(self, there: &[&str]) -> bool {
        there.contains(&self.preferred) && there.contains(&self.non_preferred)
    }
}

/// How rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenAI's: an object with messages, and lists of messages.
    Input { outputs: Outputs, dialect: Dialect },
    /// Something that is answered, and two answers.
    Given { given: Given, answers: Answers, system: Option<&'static str> },
    /// Whole conversations, which begin alike.
    Whole { dialect: Dialect, system: Option<&'static str> },
    /// The same as one text each, of which `prompt` may have the beginning.
    Transcripts { has_prompt: bool },
    /// Texts without a chat template.
    Texts,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    List { column: &'static str, dialect: Dialect },
    Question(Question),
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    Texts,
    Messages(Dialect),
}

impl Form {
    fn columns(self) -> Vec<&'static str> {
        let chosen = [CHOSEN.preferred, CHOSEN.non_preferred];
        let framed = |own: Vec<&'static str>, system: Option<&'static str>| -> Vec<&'static str> {
            own.into_iter().chain(FRAME).chain(system).chain(chosen).collect()
        };
        match self {
            Self::Input { outputs, .. } => vec![INPUT, outputs.preferred, outputs.non_preferred],
            Self::Given { given: Given::List { column, .. }, system, .. } => framed(vec![column], system),
            Self::Given { given: Given::Question(question), system, .. } => {
                question.columns().chain(system).chain(chosen).collect()
            }
            Self::Whole { system, .. } => framed(Vec::new(), system),
            Self::Transcripts { has_prompt: false } => chosen.to_vec(),
            Self::Transcripts { has_prompt: true } | Self::Texts => [PROMPT].into_iter().chain(chosen).collect(),
        }
    }

    fn note(self) -> Note {
        let message = match self {
            Self::Input { outputs, .. } => {
                format!("Read as OpenAI's preferences: {INPUT}, {} and {}.", outputs.preferred, outputs.non_preferred)
            }
            Self::Given { given, .. } => {
                let column = match given {
                    Given::List { column, .. } => column,
                    Given::Question(question) => question.column,
                };
                format!("Read as preferences in chats: chosen and rejected answer {column}.")
            }
            Self::Whole { .. } => {
                "Read as preferences in chats: what chosen and rejected have in common at their beginning is \
                                   answered by what they do not."
                    .to_owned()
            }
            Self::Transcripts { .. } => {
                "Read as transcripts: Human is the user, Assistant the assistant; what chosen and \
                                         rejected have in common at their beginning is answered by what they do not."
                    .to_owned()
            }
            Self::Texts => {
                "Read as texts without a chat template: chosen and rejected are what may come next behind prompt; \
                            lists of messages would be chats."
                    .to_owned()
            }
        };
        Note::info("read_as", message)
    }
}

/// Settles how the rows are read.
///
/// # Errors
/// No form of preferences is there, or several are; in words for the file's owner.
pub(super) fn settle(rows: &[&Row]) -> Result<(Form, Vec<Note>), Fault> {
    let names = Names::of(rows);
    let there = names.listed();
    let form = form(&there, rows, names.are_headed())
        .map_err(|what| Fault::new(names.line(), Some(CHOSEN.preferred), what))?;
    let read = form.columns();
    if let Some(name) = columns::doubled(&names, &read) {
        return Err(Fault::new(names.line(), Some(name), DOUBLED));
    }
    let notes = [form.note()].into_iter().chain(columns::not_read(rows, &there, &read));
    Ok((form, notes.collect()))
}

/// Whether a file whose rows have these fields can hold preferences.
///
/// # Errors
/// What is missing.
pub(super) fn fit(there: &[&str]) -> Result<(), String> {
    outputs(there).map_or_else(|| Err(none(there, false)), |_| Ok(()))
}

/// The columns of the outputs; OpenAI's need an input.
fn outputs(there: &[&str]) -> Option<Outputs> {
    let fits = |outputs: &Outputs| outputs.are_in(there) && (*outputs == CHOSEN || there.contains(&INPUT));
    OUTPUTS.into_iter().find(fits)
}

fn form(there: &[&str], rows: &[&Row], headed: bool) -> Result<Form, String> {
    let outputs = outputs(there).ok_or_else(|| none(there, headed))?;
    let both = [outputs.preferred, outputs.non_preferred];
    let system = forms::system(there).filter(|name| !mostly(rows, name, is_blank));
    let of_outputs = dialect(rows, &both);
    if outputs != CHOSEN {
        return Ok(Form::Input { outputs, dialect: of_outputs });
    }
    let are_texts = !mostly(rows, CHOSEN.preferred, are_messages);
    if are_texts && mostly(rows, CHOSEN.preferred, transcripts::is_one) {
        return Ok(Form::Transcripts { has_prompt: false });
    }
    let answers = rows.iter().filter_map(|row| row.tree(CHOSEN.preferred));
    let begin_with_answer = answers.clone().filter(|tree| of_outputs.is_answer(tree)).count();
    if !are_texts && 2 * begin_with_answer <= answers.count() {
        return Ok(Form::Whole { dialect: of_outputs, system });
    }
    if are_texts && there.contains(&PROMPT) && mostly(rows, PROMPT, transcripts::is_one) {
        return Ok(Form::Transcripts { has_prompt: true });
    }
    match given(there, rows)? {
        None if are_texts => Err(format!(
            "has texts in \"chosen\" and \"rejected\", but nothing that they answer; give it in \"prompt\"; found {}",
            listed(there)
        )),
        None => Ok(Form::Whole { dialect: of_outputs, system }),
        Some(Given::Question(question)) if are_texts && question.column == PROMPT && system.is_none() => {
            Ok(Form::Texts)
        }
        Some(given) => {
            let answers = if are_texts { Answers::Texts } else { Answers::Messages(of_outputs) };
            Ok(Form::Given { given, answers, system })
        }
    }
}

/// What is answered, where it has a column of its own.
fn given(there: &[&str], rows: &[&Row]) -> Result<Option<Given>, String> {
    let list = |column| Given::List { column, dialect: dialect(rows, &[column]) };
    if there.contains(&PROMPT) {
        let are_lists = mostly(rows, PROMPT, are_messages);
        return Ok(Some(if are_lists { list(PROMPT) } else { Given::Question(Question::new(PROMPT, there)) }));
    }
    if let Some(column) = LISTS.into_iter().find(|name| there.contains(name) && mostly(rows, name, are_messages)) {
        return Ok(Some(list(column)));
    }
    let has_instruction = there.contains(&"instruction");
    let questions = QUESTIONS.into_iter().filter(|name| there.contains(name) && !(has_instruction && *name == INPUT));
    match questions.collect::<Vec<_>>()[..] {
        [] => Ok(None),
        [column] => Ok(Some(Given::Question(Question::new(column, there)))),
        [one, other, ..] => Err(format!(
            "can be read in two ways: \"{one}\" or \"{other}\" may be what is answered; leave out the one that is not meant"
        )),
    }
}

fn is_blank(tree: &Tree) -> bool {
    tree.as_text().is_some_and(|text| text.trim().is_empty())
}

fn none(there: &[&str], headed: bool) -> String {
    let lower: Vec<String> = there.iter().map(|name| folded(name)).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let hint = if outputs(&lower).is_some() {
        "; names of columns stand in lower case, without white space"
    } else if forms::fit(there).is_ok() {
        "; these look like conversations to imitate, which are another kind of data"
    } else if headed {
        HEADER
    } else {
        ""
    };
    format!(
        "there are no preferences: neither \"input\", \"preferred_output\" and \"non_preferred_output\", nor \"chosen\" and \
         \"rejected\"; found {}{hint}",
        listed(there)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{faults, read_bytes};
    use crate::domain::report::DataFormat;

    #[test]
    fn what_is_no_preference_or_two_is_told_once_with_what_helps() {
        let none = "there are no preferences: neither \"input\", \"preferred_output\" and \"non_preferred_output\", nor \
                    \"chosen\" and \"rejected\"; found";
        for (bytes, format, told) in [
            ("{\"text\":\"a\"}\n", DataFormat::Jsonl, format!("{none} \"text\"")),
            (
                "{\"preferred_output\":[],\"non_preferred_output\":[]}\n",
                DataFormat::Jsonl,
                format!("{none} \"preferred_output\", \"non_preferred_output\""),
            ),
            (
                "Prompt,Chosen,Rejected\na,b,c\n",
                DataFormat::Csv,
                format!(
                    "{none} \"Prompt\", \"Chosen\", \"Rejected\"; names of columns stand in lower case, without white space"
                ),
            ),
            (
                "{\"messages\":[]}\n",
                DataFormat::Jsonl,
                format!("{none} \"messages\"; these look like conversations to imitate, which are another kind of data"),
            ),
            ("a,b\n1,2\n", DataFormat::Csv, format!("{none} \"a\", \"b\" (the first line must name the columns)")),
            (
                "chosen,rejected\nb,c\n",
                DataFormat::Csv,
                "has texts in \"chosen\" and \"rejected\", but nothing that they answer; give it in \"prompt\"; found \
                 \"chosen\", \"rejected\""
                    .to_owned(),
            ),
            (
                "question,query,chosen,rejected\na,a,b,c\n",
                DataFormat::Csv,
                "can be read in two ways: \"question\" or \"query\" may be what is answered; leave out the one that is not meant"
                    .to_owned(),
            ),
        ] {
            let (found, ledger) = read_bytes(bytes.as_bytes(), format);
            assert_eq!((found.len(), faults(&ledger)), (0, vec![format!("1 chosen: {told}")]));
        }
        let (_, ledger) = read_bytes(b"prompt,chosen,rejected,chosen\na,b,c,d\n", DataFormat::Csv);
        assert_eq!(faults(&ledger), ["1 chosen: stands more than once in the header"]);
    }
}
