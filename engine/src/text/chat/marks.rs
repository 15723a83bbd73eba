//! Words that stand in for what a message says, to find in a rendered text what comes from it.

use std::ops::Range;

use finetuned::domain::chat::Message;

use super::json;

/// Words that occur nowhere else: a stem, a letter for whose they are, a number.
pub(super) struct Marks {
    stem: String,
}

/// Whose marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of the message that is looked for.
    Own,
    /// Of one before it.
    Before,
    /// Of one behind it.
    Behind,
}

/// How much of a message is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// All that it says, and no more.
    Said,
    /// Its content, even if it has none, and what else it says.
    Content,
    /// Its content; the rest is left out.
    Plain,
}

/// Digits of a mark's number.
const DIGITS: usize = 4;

impl Marks {
    /// Such that no text of `texts` holds one.
    pub(super) fn beside(texts: &[&str]) -> Self {
        let mut stem = "Qzx".to_owned();
        while texts.iter().any(|text| text.contains(&stem)) {
            stem.push('x');
        }
        Self { stem }
    }

    fn word(&self, whose: Whose, number: usize) -> String {
        let letter = match whose {
            Whose::Own => 'a',
            Whose::Before => 'b',
            Whose::Behind => 'c',
        };
        format!("{}{letter}{number:0DIGITS$}", self.stem)
    }

    /// A message with marks in place of what it says.
    pub(super) fn put(&self, message: &Message, whose: Whose, way: Way) -> Message {
        let mut marked = message.clone();
        let says = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        if way != Way::Said || says(&message.content) {
            marked.content = Some(self.word(whose, 0));
        }
        if way == Way::Plain {
            return Message { reasoning_content: None, tool_calls: Vec::new(), ..marked };
        }
        if says(&message.reasoning_content) {
            marked.reasoning_content = Some(self.word(whose, 1));
        }
        let mut number = 2;
        for call in &mut marked.tool_calls {
            let mut keys = json::keys(&call.arguments).unwrap_or_default();
            if keys.is_empty() {
                keys.push("none".to_owned());
            }
            let arguments = keys.into_iter().map(|key| {
                number += 1;
                (key, self.word(whose, number))
            });
            call.arguments = json::object(arguments);
        }
        marked
    }

    /// Where marks stand in a text, from the first to the last; None where none stands there, or one
    /// stands twice or in part.
    pub(super) fn find(&self, text: &str, whose: Whose) -> Option<Range<usize>> {
        let mut found: Option<Range<usize>> = None;
        let mut seen = Vec::new();
        let begin = &self.word(whose, 0)[..=self.stem.len()];
        for (at, _) in text.match_indices(begin) {
            let end = at + begin.len() + DIGITS;
            let word = text.get(at..end)?;
            let is_whole = word.bytes().skip(begin.len()).all(|byte| byte.is_ascii_digit());
            if !is_whole || seen.contains(&word) {
                return None;
            }
            seen.push(word);
            found = Some(found.map_or(at, |found| found.start)..end);
        }
        found
    }
}
