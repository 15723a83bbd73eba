//! Questions and answers in columns of their own: `instruction`, `input` and `output`, as Alpaca has them, and their like. They
//! are a user's message and the assistant's.

use super::findings::Findings;
use super::parse::{any_text, must_be, text};
use super::path::Path;
use crate::dataset::row::{MISSING, Row, blemish};
use crate::dataset::tree::Tree;
use crate::domain::chat::{Message, Role};

/// Columns of a question and of its answer that belong together.
pub(in crate::dataset) const PAIRS: [(&str, &str); 9] = [
    (INSTRUCTION, "output"),
    (INSTRUCTION, "response"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("input", "output"),
    ("user", "assistant"),
    ("query", "answer"),
];

/// The column of questions that others add to: what the instruction is about, and what was said before.
pub(in crate::dataset) const INSTRUCTION: &str = "instruction";
const ABOUT: [&str; 2] = ["input", "context"];
const HISTORY: &str = "history";

/// Where a file has its questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataset) struct Question {
    pub(in crate::dataset) column: &'static str,
    /// What stands behind an instruction, after a blank line.
    about: Option<&'static str>,
    has_history: bool,
}

impl Question {
    /// That of a file with these columns.
    pub(in crate::dataset) fn new(column: &'static str, there: &[&str]) -> Self {
        let is_instruction = column == INSTRUCTION;
        let about = ABOUT.into_iter().find(|name| is_instruction && there.contains(name));
        Self { column, about, has_history: is_instruction && there.contains(&HISTORY) }
    }

    /// The columns that it is read from.
    pub(in crate::dataset) fn columns(self) -> impl Iterator<Item = &'static str> {
        [Some(self.column), self.about, self.has_history.then_some(HISTORY)].into_iter().flatten()
    }

    /// What was said before, and the user's message; None where something is wrong with it, which is among the findings then.
    pub(in crate::dataset) fn messages(self, row: &Row, findings: &mut Findings) -> Option<Vec<Message>> {
        let before = findings.count();
        let question = column(row, self.column, findings);
        let about = self.about.and_then(|name| {
            let text = any_text(&*row.tree(name)?);
            findings.keep(name, text).filter(|text| !text.trim().is_empty())
        });
        let mut messages = Vec::new();
        if let Some(tree) = row.tree(HISTORY).filter(|_| self.has_history) {
            messages = history(&tree, findings);
        }
        let question = question.filter(|_| findings.count() == before)?;
        let said = about.map_or_else(|| question.clone(), |about| format!("{question}\n\n{about}"));
        messages.push(Message::new(Role::User, said));
        Some(messages)
    }
}

/// The text of a column, which must not be blank.
pub(in crate::dataset) fn column(row: &Row, name: &str, findings: &mut Findings) -> Option<String> {
    let read = row.tree(name).map_or_else(|| Err(MISSING.to_owned()), |tree| text(&tree));
    findings.keep(name, read)
}

/// Earlier questions and answers, each a list of two texts.
fn history(tree: &Tree, findings: &mut Findings) -> Vec<Message> {
    let at = Path::field(HISTORY);
    let Some(tree) = findings.unpacked(tree, &at) else { return Vec::new() };
    let Some(turns) = tree.as_list() else {
        findings.fault(at, must_be("a list of pairs of texts", &tree));
        return Vec::new();
    };
    let mut messages = Vec::new();
    for (number, turn) in turns.iter().enumerate() {
        let at = at.item(number);
        match turn
            .as_list()
            .map(|texts| [texts.first(), texts.get(1), texts.get(2)].map(|text| text.and_then(Tree::as_text)))
        {
            Some([Some(question), Some(answer), None]) => {
                for (number, (role, said)) in
                    [(Role::User, question), (Role::Assistant, answer)].into_iter().enumerate()
                {
                    match blemish(said) {
                        Some(what) => findings.fault(at.item(number), what),
                        None => messages.push(Message::new(role, said)),
                    }
                }
            }
            _ => findings.fault(at, "must be a list of two texts, a question and its answer"),
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::super::tests::{one, talk};
    use super::{PAIRS, Role};

    #[test]
    fn questions_and_answers_have_many_names() {
        let (question, answer) = ("Hi", "Hello");
        for (asked, answered) in PAIRS {
            let row = format!(r#"{{"{asked}":"{question}","{answered}":"{answer}","id":7}}"#);
            let (found, _) = one(&row);
            assert_eq!(found.messages, talk(&[(Role::User, question), (Role::Assistant, answer)]), "{row}");
        }
        let (found, _) =
            one(r#"{"instruction":"Sum up.","input":"A text.","output":"Text.","history":[["a","b"],["c","d"]]}"#);
        let mut expected =
            talk(&[(Role::User, "a"), (Role::Assistant, "b"), (Role::User, "c"), (Role::Assistant, "d")]);
        expected.extend(talk(&[(Role::User, "Sum up.\n\nA text."), (Role::Assistant, "Text.")]));
        assert_eq!(found.messages, expected);
        let (found, _) = one(r#"{"instruction":"Who?","context":"It was Ann.","response":"Ann.","category":"qa"}"#);
        assert_eq!(found.messages[0].content.as_deref(), Some("Who?\n\nIt was Ann."));
    }
}
