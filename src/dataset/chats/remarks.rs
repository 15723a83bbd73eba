//! What is worth a word in conversations that can be used.

use crate::domain::report::{Note, Sightings};

/// What was seen in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::dataset) enum Remark {
    /// A system message stands behind others.
    SystemLater,
    /// There is more than one.
    SystemSeveral,
    /// The assistant speaks first.
    AssistantFirst,
    /// Two messages of the user, or of the assistant, one after the other.
    SameSpeaker,
    /// The assistant calls tools that are not described.
    CallsWithoutTools,
    /// Calls have no ids.
    CallsWithoutIds,
    /// Functions are called as OpenAI's first models did.
    Functions,
    /// Messages, tools or arguments are JSON within a string.
    JsonInText,
    /// Content in several parts.
    Parts,
}

/// What is said of it.
pub(super) fn note(remark: Remark, seen: &Sightings) -> Note {
    let (code, what, why) = match remark {
        Remark::SystemLater => ("system_later", "A system message stands behind other messages", TEMPLATES),
        Remark::SystemSeveral => ("system_several", "There are several system messages", TEMPLATES),
        Remark::AssistantFirst => ("assistant_first", "The assistant speaks first", TEMPLATES),
        Remark::SameSpeaker => ("same_speaker", "The user or the assistant speaks twice in a row", TEMPLATES),
        Remark::CallsWithoutTools => (
            "calls_without_tools",
            "Tools are called that are not described",
            "; the model is told of them where the row has \"tools\"",
        ),
        Remark::CallsWithoutIds => (
            "calls_without_ids",
            "Calls of tools have no ids",
            "; what tools answer belongs to the calls in their order",
        ),
        Remark::Functions => (
            "functions_as_tools",
            "There are functions or a function_call",
            ", which are read as tools and their calls",
        ),
        Remark::JsonInText => {
            ("json_in_text", "Messages or tools stand as JSON in a string", ", which is read like other JSON")
        }
        Remark::Parts => ("content_in_parts", "Content has several parts", ", whose texts are joined by line breaks"),
    };
    let rows = if seen.count == 1 { "row" } else { "rows" };
    Note::info(code, format!("{what} in {} {rows}{why}.", seen.count)).on(seen)
}

/// What becomes of some orders of messages is for a model's chat template to say.
const TEMPLATES: &str = "; the chat templates of some models refuse that";

#[cfg(test)]
mod tests {
    use super::{Remark, note};
    use crate::domain::report::Sightings;

    #[test]
    fn a_remark_is_told_with_its_lines() {
        let note = note(Remark::AssistantFirst, &Sightings { count: 30, lines: vec![1, 5] });
        let message = "The assistant speaks first in 30 rows; the chat templates of some models refuse that.";
        assert_eq!((note.message.as_str(), note.lines, note.warning), (message, vec![1, 5], false));
    }
}
