//! Preferences between whole conversations: what they have in common at their beginning is answered by what they do not.

use super::Choice;
use super::forms::PROMPT;
use super::judgement::{Both, CHOSEN, REJECTED, Read, equal, judged};
use super::transcripts;
use crate::dataset::chats::dialect::Dialect;
use crate::dataset::chats::findings::Findings;
use crate::dataset::chats::frame::Frame;
use crate::dataset::chats::order::Part;
use crate::dataset::chats::path::Path;
use crate::dataset::chats::questions::column;
use crate::dataset::row::Row;
use crate::dataset::tree::Tree;
use crate::domain::chat::{Message, Role};

/// Two conversations, each in a column.
pub(super) fn of_whole(
    row: &Row,
    dialect: Dialect,
    system: Option<&'static str>,
    findings: &mut Findings,
) -> Option<Choice> {
    let frame = Frame::of_row(row, system, findings);
    let [chosen, rejected] = [CHOSEN, REJECTED].map(|name| frame.column(row, dialect, &Path::field(name), findings));
    parted(frame, chosen?, rejected?, findings)
}

/// Two conversations, each as one text, of which `prompt` may have the beginning. Answers that say nothing are passed over.
pub(super) fn of_transcripts(row: &Row, has_prompt: bool, findings: &mut Findings) -> Read {
    let prompt = if has_prompt { column(row, PROMPT, findings) } else { Some(String::new()) };
    let mut read = |name: &'static str| {
        // An answer that says nothing may be all that stands behind a prompt.
        let behind = match row.tree(name).as_deref() {
            Some(Tree::Text(text)) if has_prompt && text.trim().is_empty() => Some(String::new()),
            _ => column(row, name, findings),
        };
        let turns = transcripts::turns(&format!("{}{}", prompt.as_ref()?, behind?));
        findings.keep(name, turns)
    };
    let (Some(chosen), Some(rejected)) = (read(CHOSEN), read(REJECTED)) else { return Read::Choice(None) };
    if transcripts::is_silent(&chosen) || transcripts::is_silent(&rejected) {
        return Read::Skipped("empty answer");
    }
    Read::Choice(parted(Frame::default(), chosen, rejected, findings))
}

/// What two conversations have in common at their beginning, and how each goes on.
fn parted(
    frame: Frame,
    mut chosen: Vec<Message>,
    mut rejected: Vec<Message>,
    findings: &mut Findings,
) -> Option<Choice> {
    let common = chosen.iter().zip(&rejected).take_while(|(one, other)| one == other).count();
    let is_answer = |messages: &[Message]| messages.get(common).is_none_or(|next| next.role == Role::Assistant);
    if chosen == rejected {
        findings.fault(REJECTED, equal(CHOSEN));
    } else if common == 0 {
        findings.fault(REJECTED, "begins otherwise than chosen; both must begin with the messages that they answer");
    } else if common == chosen.len() {
        findings.fault(CHOSEN, "has no answer of its own: rejected begins with all of it");
    } else if common == rejected.len() {
        findings.fault(REJECTED, "has no answer of its own: chosen begins with all of it");
    } else if !(is_answer(&chosen) && is_answer(&rejected)) {
        let what = "parts from chosen before an answer; both must be the same up to a message of the assistant";
        findings.fault(Path::field(REJECTED).item(common), what);
    } else {
        let input: Vec<Message> = chosen.drain(..common).collect();
        rejected.drain(..common);
        let at = Path::field(CHOSEN);
        let both = Both { preferred: (at, chosen), non_preferred: (Path::field(REJECTED), rejected) };
        return Some(judged(frame, Part { at, messages: &input, from: 0 }, both, common, findings));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ANSWER, OTHER, USER, wrong};

    #[test]
    fn conversations_that_have_no_beginning_in_common_or_nothing_else_say_so() {
        let whole = |chosen: &str, rejected: &str| format!(r#"{{"chosen":[{chosen}],"rejected":[{rejected}]}}"#);
        let (chosen, rejected) = (format!("{USER},{ANSWER}"), format!("{USER},{OTHER}"));
        let fine = whole(&chosen, &rejected);
        let longer = |talk: &str, last: &str| format!("{talk},{USER},{last}");
        for (row, expected) in [
            (whole(&chosen, &chosen), "rejected: equals chosen; a preference needs two that differ"),
            (
                whole(&chosen, &format!("{OTHER},{USER},{ANSWER}")),
                "rejected: begins otherwise than chosen; both must begin with the messages that they answer",
            ),
            (
                whole(&chosen, &longer(&chosen, OTHER)),
                "chosen: has no answer of its own: rejected begins with all of it",
            ),
            (
                whole(&longer(&chosen, OTHER), &chosen),
                "rejected: has no answer of its own: chosen begins with all of it",
            ),
            (
                whole(
                    &longer(&chosen, OTHER),
                    &longer(&chosen, OTHER).replacen("\"a\"", "\"A\"", 2).replacen("\"A\"", "\"a\"", 1),
                ),
                "rejected[2]: parts from chosen before an answer; both must be the same up to a message of the assistant",
            ),
            (
                whole(&chosen, &format!("{USER},{OTHER},{USER}")),
                "rejected: ends with a message of the user; the last one must be the assistant's",
            ),
            (whole(&chosen, "3"), "rejected[0]: must be an object with role and content, not a number"),
        ] {
            assert_eq!(wrong(&fine, &row), [expected], "{row}");
        }
    }

    #[test]
    fn transcripts_name_the_turn_that_is_faulty() {
        let transcripts = r#"{"chosen":"Human: a\n\nAssistant: b","rejected":"Human: a\n\nAssistant: c"}"#;
        let row = r#"{"chosen":"Once upon a time","rejected":"Human: a\n\nAssistant:\n\nHuman: b\n\nAssistant: c"}"#;
        assert_eq!(wrong(transcripts, row), ["chosen: must begin with \"Human:\"", "rejected: is empty in its turn 2"]);
    }
}
