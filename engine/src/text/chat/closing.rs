//! Where an assistant's turn ends: with the token that closes it, which stays whatever follows.

use finetuned::domain::chat::{Message, Role};
use minijinja::Value;

use super::marks::{Way, Whose};
use super::spans::{Finder, Marked};
use super::units::{common, token};

/// A conversation that ends with the marked message.
struct Turn<'a> {
    messages: &'a [Value],
    /// The message's place in the whole conversation.
    place: usize,
    /// What stands behind its marks.
    behind: String,
}

/// What stands behind the marks where messages follow.
struct Followed {
    /// What all followers leave as it is.
    shared: String,
    /// The roles that were tried and that the template did not refuse.
    roles: usize,
}

impl Finder<'_> {
    /// Bytes that belong to the turn behind its marks. Spaces after them do not.
    pub(super) fn closing(&self, marked: &Marked) -> Option<usize> {
        // Some templates refuse conversations without a question.
        let asked = self.with_user(marked, Whose::Before)?;
        let turns = [&marked.messages[..=marked.place], &asked[..=marked.place + 1]];
        let turn = turns.into_iter().find_map(|messages| {
            let behind = self.behind(messages)?;
            Some(Turn { messages, place: marked.place, behind })
        })?;
        // Where an assistant goes on, some templates close the turn before otherwise than where someone else does.
        [true, false].into_iter().find_map(|goes_on| self.closing_of(marked, &turn, goes_on))
    }

    fn closing_of(&self, marked: &Marked, turn: &Turn<'_>, goes_on: bool) -> Option<usize> {
        let in_place = (!marked.is_last()).then(|| marked.text[marked.found.end..].to_owned());
        let followed = self.followed(turn, in_place, goes_on)?;
        let (shared, rest) = turn.behind.split_at(common(&followed.shared, &turn.behind));
        if shared.trim().is_empty() {
            return self.closing_by_place(marked, turn, &followed);
        }
        (rest.is_empty() || self.ends_any(turn, shared, rest)).then(|| shared.trim_end().len())
    }

    /// What stands behind the marks of the last message.
    fn behind(&self, messages: &[Value]) -> Option<String> {
        let mut text = self.render(messages, false)?;
        text.drain(..self.marks.find(&text, Whose::Own)?.end);
        Some(text)
    }

    /// What stands there where others follow, among them those that do, if any, and an assistant if it goes on.
    fn followed(&self, turn: &Turn<'_>, in_place: Option<String>, goes_on: bool) -> Option<Followed> {
        let call = self.message(turn.place).and_then(|message| message.tool_calls.first());
        let answer = call.map(|call| Message {
            name: Some(call.name.clone()),
            tool_call_id: call.id.clone(),
            ..Message::new(Role::Tool, "")
        });
        let assistant = goes_on.then(|| Message::new(Role::Assistant, ""));
        let followers = [Message::new(Role::User, "")].into_iter().chain(assistant).chain(answer);
        let up_to = |message| {
            let text = self.render(&self.with(turn, &message)?, false)?;
            let (own, behind) = (self.marks.find(&text, Whose::Own)?, self.marks.find(&text, Whose::Behind)?);
            Some(text.get(own.end..behind.start)?.to_owned())
        };
        let mut texts: Vec<String> = followers.filter_map(up_to).collect();
        let roles = texts.len();
        texts.extend(in_place);
        let (first, others) = texts.split_first()?;
        let shared = others.iter().map(|other| common(first, other)).min().unwrap_or(first.len());
        Some(Followed { shared: first[..shared].to_owned(), roles })
    }

    /// The turn, and a marked message behind it.
    fn with(&self, turn: &Turn<'_>, message: &Message) -> Option<Vec<Value>> {
        let message = self.value_of(&self.marks.put(message, Whose::Behind, Way::Content))?;
        Some(turn.messages.iter().cloned().chain([message]).collect())
    }

    /// Whether `rest` ends conversations whoever speaks last, and so is not of the turn, which `shared` closes with one token.
    fn ends_any(&self, turn: &Turn<'_>, shared: &str, rest: &str) -> bool {
        let closing = || {
            let (_, before) = turn.messages.split_last()?;
            let plain = self.value(turn.place, Whose::Own, Way::Plain)?;
            let plain = self.behind(&before.iter().cloned().chain([plain]).collect::<Vec<_>>())?;
            let closing = plain.strip_suffix(rest)?.trim();
            Some(token(closing) == Some(closing) && shared.trim_end().ends_with(closing))
        };
        self.ends_users(turn, rest).unwrap_or_default() && closing().unwrap_or_default()
    }

    /// Whether `rest` ends a conversation with a user's message at its end.
    fn ends_users(&self, turn: &Turn<'_>, rest: &str) -> Option<bool> {
        let text = self.render(&self.with(turn, &Message::new(Role::User, ""))?, false)?;
        Some(text[self.marks.find(&text, Whose::Behind)?.end..].ends_with(rest))
    }

    /// The closing of templates that close the last turn otherwise than those before it, or do not close turns.
    fn closing_by_place(&self, marked: &Marked, turn: &Turn<'_>, followed: &Followed) -> Option<usize> {
        let (last, shared) = (turn.behind.trim(), followed.shared.trim_start());
        let is_closed = || token(last) == Some(last) && self.ends_users(turn, &turn.behind) == Some(false);
        if !last.is_empty() && !is_closed() {
            return None;
        }
        if marked.is_last() {
            return Some(turn.behind.trim_end().len());
        }
        let Some(closing) = token(shared) else {
            // What followers share is then how a header begins, as that of this turn does.
            return (shared.is_empty() || marked.before().contains(&followed.shared)).then_some(0);
        };
        // A token that all followers share closes the turn, unless it is the one that headers begin with.
        let user = self.value_of(&self.marks.put(&Message::new(Role::User, ""), Whose::Before, Way::Content))?;
        let (_, before) = turn.messages.split_last()?;
        let asked: Vec<Value> = before.iter().cloned().chain([user]).collect();
        let (prompt, unprompted) = (self.render(&asked, true)?, self.render(&asked, false)?);
        let header = token(prompt[common(&prompt, &unprompted)..].trim_start())?;
        (closing != header && followed.roles > 1).then_some(followed.shared.len() - shared.len() + closing.len())
    }
}
