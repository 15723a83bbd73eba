//! Conversations as one text, as Anthropic's collections of preferences have them: `\n\nHuman: …\n\nAssistant: …`.

use crate::dataset::row::blemish;
use crate::dataset::tree::Tree;
use crate::domain::chat::{Message, Role};

/// What begins a turn.
const SPEAKERS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];

/// Whether a text begins like a conversation.
pub(super) fn is_one(tree: &Tree) -> bool {
    tree.as_text().is_some_and(|text| text.trim_start().starts_with("Human:"))
}

/// The turns of a text, without the white space at their ends.
///
/// # Errors
/// What is wrong with it, in words for its owner.
pub(super) fn turns(text: &str) -> Result<Vec<Message>, String> {
    let text = format!("\n\n{}", text.trim_start());
    let (mut turns, mut rest) = (Vec::new(), text.as_str());
    while let Some((speaker, role, behind)) = next(rest) {
        if speaker > 0 {
            return Err("must begin with \"Human:\"".to_owned());
        }
        let end = next(behind).map_or(behind.len(), |(place, ..)| place);
        turns.push(Message::new(role, behind[..end].trim()));
        rest = &behind[end..];
    }
    if turns.is_empty() {
        return Err("must begin with \"Human:\"".to_owned());
    }
    // What the last one says is for whoever looks at answers.
    let faulty = turns.iter().enumerate().find_map(|(number, turn)| {
        let said = turn.content.as_deref().unwrap_or_default();
        let is_last = number + 1 == turns.len() && said.is_empty();
        blemish(said).filter(|_| !is_last).map(|what| format!("{what} in its turn {}", number + 1))
    });
    faulty.map_or(Ok(turns), Err)
}

/// Whether the last turn is an answer that says nothing.
pub(super) fn is_silent(turns: &[Message]) -> bool {
    turns.last().is_some_and(|turn| turn.role == Role::Assistant && turn.content.as_deref() == Some(""))
}

/// Where the next turn begins, who speaks, and what stands behind that.
fn next(text: &str) -> Option<(usize, Role, &str)> {
    let found = SPEAKERS.into_iter().filter_map(|(marker, role)| Some((text.find(marker)?, role, marker.len())));
    found.min_by_key(|(place, ..)| *place).map(|(place, role, length)| (place, role, &text[place + length..]))
}

#[cfg(test)]
mod tests {
    use super::{Tree, is_one, is_silent, turns};

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let turns = turns(text)?;
        Ok(turns.into_iter().map(|turn| format!("{} {}", turn.role.as_str(), turn.content.unwrap())).collect())
    }

    #[test]
    fn turns_are_taken_out_of_a_text() {
        let text = "\n\nHuman: Hi.\n\nHow are you? \n\nAssistant: Human: well\n\nHuman: a\n\nHuman: b\n\nAssistant:";
        assert!(is_one(&Tree::Text(text.to_owned())) && !is_one(&Tree::Text("Human rights".to_owned())));
        let expected = ["user Hi.\n\nHow are you?", "assistant Human: well", "user a", "user b", "assistant "];
        assert_eq!(shown(text).unwrap(), expected);
        assert!(is_silent(&turns(text).unwrap()) && !is_silent(&turns("Human: a").unwrap()));
    }

    #[test]
    fn what_is_no_conversation_is_said() {
        for (text, why) in [
            ("Once upon a time\n\nHuman: a", "must begin with \"Human:\""),
            ("", "must begin with \"Human:\""),
            ("Human: a\n\nAssistant: \n\nHuman: b", "is empty in its turn 2"),
        ] {
            assert_eq!(shown(text).unwrap_err(), why, "{text}");
        }
    }
}
