//! What becomes of a row: whether what is answered and the two answers fit each other.

use super::Choice;
use crate::dataset::chats::findings::Findings;
use crate::dataset::chats::frame::Frame;
use crate::dataset::chats::order::{Part, check_input, check_output, remark_order};
use crate::dataset::chats::path::Path;
use crate::domain::chat::Message;

/// What became of a row.
pub(super) enum Read {
    /// None where something is wrong with it, which is among the findings then.
    Choice(Option<Choice>),
    /// It is passed over, as this.
    Skipped(&'static str),
}

/// The columns of everybody but OpenAI.
pub(super) const CHOSEN: &str = "chosen";
pub(super) const REJECTED: &str = "rejected";

/// What is said where both answers are the same.
pub(super) fn equal(preferred: &str) -> String {
    format!("equals {preferred}; a preference needs two that differ")
}

/// The answers, and where they stand.
pub(super) struct Both<'a> {
    pub(super) preferred: (Path<'a>, Vec<Message>),
    pub(super) non_preferred: (Path<'a>, Vec<Message>),
}

/// The choice, after a look at whether its messages fit each other: what does not is among the findings. `from` is the place of the outputs' first messages.
pub(super) fn judged(frame: Frame, input: Part<'_>, both: Both<'_>, from: usize, findings: &mut Findings) -> Choice {
    let Both { preferred: (at, preferred), non_preferred: (other, non_preferred) } = both;
    check_input(input, findings);
    for (at, messages) in [(at, &preferred), (other, &non_preferred)] {
        let output = Part { at, messages, from };
        check_output(output, findings);
        remark_order(&[input, output], findings);
    }
    if preferred == non_preferred {
        findings.fault(other, equal(&at.to_string()));
    }
    let input = frame.conversation(input.messages.to_vec(), findings);
    Choice::Conversation { input, preferred, non_preferred }
}
