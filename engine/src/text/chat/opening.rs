//! Where an assistant's turn begins: behind the prompt to write it.
//!
//! What a model is given before it writes a message is the conversation up to there and the generation prompt. Where that
//! is no beginning of the whole conversation, because templates leave out thoughts or move system messages, the two are
//! compared from the end of an earlier message on, which is marked.

use finetuned::domain::chat::{Message, Role};
use minijinja::Value;

use super::marks::{Way, Whose};
use super::spans::{Finder, Marked};
use super::units::{common, token};

/// Bytes at the end of a prompt that tags of thoughts are looked for in.
const THOUGHTS: usize = 64;

/// What comes before a turn.
struct Before<'a> {
    messages: &'a [Value],
    /// The place in the conversation of the message whose turn it is.
    place: usize,
    /// Whether texts are compared from the marks of one of the messages on, not from their beginning.
    is_marked: bool,
}

impl Finder<'_> {
    /// The byte of a marked text at which the turn begins.
    pub(super) fn opening(&self, marked: &Marked) -> Option<usize> {
        let before = Before { messages: &marked.messages[..marked.place], place: marked.place, is_marked: false };
        let turn = marked.before();
        let prompt = self.prompt(&before).filter(|prompt| turn.starts_with(prompt));
        if let Some(prompt) = prompt {
            return self.header(turn, &prompt, &before);
        }
        let ways = [Way::Said, Way::Content];
        let from = |place| ways.into_iter().find_map(|way| self.opening_from(marked, place, way, false));
        (0..marked.place).rev().find_map(from).or_else(|| self.opening_behind_user(marked)).or_else(|| {
            let place = marked.place.checked_sub(1)?;
            ways.into_iter().find_map(|way| self.opening_from(marked, place, way, true))
        })
    }

    /// The same, compared from the end of the message at `place` on. A turn that `goes_on` has no header.
    fn opening_from(&self, marked: &Marked, place: usize, way: Way, goes_on: bool) -> Option<usize> {
        let mut messages = marked.messages.clone();
        messages[place] = self.value(place, Whose::Before, way)?;
        let before = Before { messages: &messages[..marked.place], place: marked.place, is_marked: true };
        let turn = self.turn(&messages)?;
        if goes_on {
            // What stands before the turn is the end of the message before it, whatever follows that.
            let given = common(&turn, &self.given(&before, false)?);
            let is_kept = given == common(&turn, &self.plain(&before)?) && marked.before().ends_with(&turn);
            return is_kept.then(|| marked.found.start - (turn.len() - given));
        }
        self.opening_behind(marked, &turn, &before)
    }

    /// The same where the template does not prompt for the message, as many do not for one without a question: its header is
    /// the one behind a user's message.
    fn opening_behind_user(&self, marked: &Marked) -> Option<usize> {
        let messages = self.with_user(marked, Whose::Before)?;
        let before = Before { messages: &messages[..=marked.place], place: marked.place, is_marked: true };
        self.opening_behind(marked, &self.turn(&messages)?, &before)
    }

    /// The same, where `turn` stands between an earlier message's marks and the turn's. The marked text must have all of it,
    /// or all from the header on, or the header alone.
    fn opening_behind(&self, marked: &Marked, turn: &str, before: &Before<'_>) -> Option<usize> {
        let prompt = self.prompt(before)?;
        let header = self.header(turn, &prompt, before)?;
        let begin = common(&prompt, &self.given(before, false)?).min(header);
        let has = |part: &str| marked.before().ends_with(part);
        if has(turn) || begin < header && has(&turn[begin..]) {
            return Some(marked.found.start - (turn.len() - header));
        }
        (begin < header && has(&turn[begin..header])).then_some(marked.found.start)
    }

    /// The messages, and a user's before the one that is marked.
    pub(super) fn with_user(&self, marked: &Marked, whose: Whose) -> Option<Vec<Value>> {
        let mut messages = marked.messages.clone();
        let user = self.marks.put(&Message::new(Role::User, ""), whose, Way::Content);
        messages.insert(marked.place, self.value_of(&user)?);
        Some(messages)
    }

    /// Bytes of `turn`, which is what stands before its marks, that the assistant does not write. `prompt` is what stands there
    /// when it is asked to write. None where the two have nothing to do with each other.
    fn header(&self, turn: &str, prompt: &str, before: &Before<'_>) -> Option<usize> {
        let given = common(turn, prompt);
        if given == turn.len() {
            return Some(given);
        }
        let unprompted = self.given(before, false)?;
        let is_prompted = prompt != unprompted;
        if given == prompt.len() && is_prompted {
            return Some(given);
        }
        if given < prompt.len() && !(is_prompted && given >= common(prompt, &unprompted)) {
            return None;
        }
        // The template does not prompt, or not with what it writes for messages that are there. Then the header is what
        // stands before the content of a message that has nothing else, spaces apart, with which models begin.
        let plain = self.plain(before)?;
        let is_bare = given == prompt.len() && plain.get(given..).is_some_and(|rest| rest.trim().is_empty());
        Some(if is_bare { given } else { common(turn, &plain) })
    }

    /// What stands before the content of a message that has nothing else.
    fn plain(&self, before: &Before<'_>) -> Option<String> {
        let plain = self.value(before.place, Whose::Own, Way::Plain)?;
        let messages: Vec<Value> = before.messages.iter().cloned().chain([plain]).collect();
        if before.is_marked {
            return self.turn(&messages);
        }
        let mut text = self.render(&messages, false)?;
        text.truncate(self.marks.find(&text, Whose::Own)?.start);
        Some(text)
    }

    /// What a model is given to write a turn. Tags of thoughts with which it is made to begin are part of the turn.
    fn prompt(&self, before: &Before<'_>) -> Option<String> {
        let mut prompt = self.given(before, true)?;
        let is_thought = |text: &str| text.to_ascii_lowercase().contains("think");
        if is_thought(prompt.get(prompt.len().saturating_sub(THOUGHTS)..).unwrap_or(&prompt)) {
            let begin = common(&prompt, &self.given(before, false)?);
            let tags = prompt[begin..].match_indices(['<', '[']).map(|(at, _)| begin + at);
            if let Some(at) = tags.into_iter().find(|&at| token(&prompt[at..]).is_some_and(is_thought)) {
                prompt.truncate(at);
            }
        }
        Some(prompt)
    }

    /// What stands before a turn that is to be written.
    fn given(&self, before: &Before<'_>, add_generation_prompt: bool) -> Option<String> {
        let mut text = self.render(before.messages, add_generation_prompt)?;
        if before.is_marked {
            text.drain(..self.marks.find(&text, Whose::Before)?.end);
        }
        Some(text)
    }

    /// What stands between the marks of an earlier message and those of the turn's.
    fn turn(&self, messages: &[Value]) -> Option<String> {
        let text = self.render(messages, false)?;
        let (before, own) = (self.marks.find(&text, Whose::Before)?, self.marks.find(&text, Whose::Own)?);
        Some(text.get(before.end..own.start)?.to_owned())
    }
}
