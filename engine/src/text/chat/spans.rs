//! What of a rendered conversation an assistant's message is, where the template does not say it itself.
//!
//! The conversation is rendered again with marks in place of what the message says. What stands before and behind its turn
//! must then be what it was, so the turn is what lies between: nothing outside of it depends on the message. The turn begins
//! where the prompt to write it ends ([`super::opening`]), and ends with what closes it, whatever follows
//! ([`super::closing`]).

use std::ops::Range;

use finetuned::domain::chat::{Conversation, Message, Role};
use minijinja::Value;

use super::Span;
use super::marks::{Marks, Way, Whose};
use super::scene::Scene;
use super::template::Template;

/// A conversation whose spans are looked for.
pub(super) struct Finder<'a> {
    template: &'a Template,
    conversation: &'a Conversation,
    scene: &'a Scene,
    /// What it gives.
    text: &'a str,
    pub(super) marks: Marks,
}

/// The ways to mark a message, in the order in which they are tried.
pub(super) const WAYS: [Way; 3] = [Way::Said, Way::Content, Way::Plain];

/// The conversation with one message marked.
pub(super) struct Marked {
    pub(super) messages: Vec<Value>,
    /// The place of that message.
    pub(super) place: usize,
    pub(super) text: String,
    /// Where its marks stand.
    pub(super) found: Range<usize>,
}

impl Marked {
    /// What stands before its marks.
    pub(super) fn before(&self) -> &str {
        &self.text[..self.found.start]
    }

    /// Whether no message follows.
    pub(super) fn is_last(&self) -> bool {
        self.place + 1 == self.messages.len()
    }
}

impl<'a> Finder<'a> {
    pub(super) fn new(template: &'a Template, conversation: &'a Conversation, scene: &'a Scene, text: &'a str) -> Self {
        let said = conversation.messages.iter().flat_map(|message| {
            let calls = message.tool_calls.iter().flat_map(|call| [call.name.as_str(), call.arguments.as_str()]);
            let texts = [&message.content, &message.name, &message.reasoning_content, &message.tool_call_id];
            texts.into_iter().filter_map(|text| text.as_deref()).chain(calls)
        });
        let tools = conversation.tools.iter().map(String::as_str);
        let marks = Marks::beside(&said.chain(tools).chain([text]).collect::<Vec<_>>());
        Self { template, conversation, scene, text, marks }
    }

    /// The places of the assistants' messages.
    pub(super) fn assistants(&self) -> Vec<usize> {
        let messages = self.conversation.messages.iter().enumerate();
        messages.filter(|(_, message)| message.role == Role::Assistant).map(|(place, _)| place).collect()
    }

    /// What of the text each assistant's message is.
    ///
    /// # Errors
    /// It cannot be told from what surrounds it.
    pub(super) fn spans(&self) -> Result<Vec<Span>, String> {
        let mut spans = Vec::new();
        for message in self.assistants() {
            spans.extend(self.span(message)?.map(|range| Span { message, range }));
        }
        spans.sort_by_key(|span| span.range.start);
        Ok(spans)
    }

    /// The bytes of the text that the message at `place` is: None where it leaves no trace.
    fn span(&self, place: usize) -> Result<Option<Range<usize>>, String> {
        let found = WAYS.into_iter().find_map(|way| {
            let range = self.between(&self.marked(place, way)?)?;
            self.is_apart(place, &range).then_some(range)
        });
        if found.is_some() || self.leaves_no_trace(place) {
            return Ok(found);
        }
        Err(format!(
            "what the assistant writes in messages[{place}] cannot be told from the text around it; mark it in the chat \
             template with {{% generation %}} and {{% endgeneration %}}"
        ))
    }

    /// The conversation with marks in place of what a message says.
    pub(super) fn marked(&self, place: usize, way: Way) -> Option<Marked> {
        let mut messages = self.scene.messages.clone();
        messages[place] = self.value(place, Whose::Own, way)?;
        let text = self.render(&messages, false)?;
        let found = self.marks.find(&text, Whose::Own)?;
        Some(Marked { messages, place, text, found })
    }

    /// The turn: what lies between the texts that stay as they are.
    fn between(&self, marked: &Marked) -> Option<Range<usize>> {
        let before = &marked.text[..self.opening(marked)?];
        let behind = &marked.text[marked.found.end + self.closing(marked)?..];
        let end = self.text.len().checked_sub(behind.len())?;
        let is_kept = before.len() <= end && self.text.starts_with(before) && self.text.ends_with(behind);
        is_kept.then_some(before.len()..end)
    }

    /// Whether nothing in a message's turn is from one behind it: some templates write what a tool answers between a call and
    /// what was said with it.
    fn is_apart(&self, place: usize, range: &Range<usize>) -> bool {
        let is_single = |message: &Message| message.tool_calls.is_empty() && message.reasoning_content.is_none();
        if self.message(place).is_none_or(is_single) {
            return true;
        }
        let is_tool = |place: usize| self.message(place).is_some_and(|message| message.role == Role::Tool);
        let mut behind =
            (place + 1..self.scene.messages.len()).take_while(|&other| other == place + 1 || is_tool(other));
        behind.all(|other| {
            let outside = || {
                let mut messages = self.scene.messages.clone();
                messages[other] = self.value(other, Whose::Behind, Way::Content)?;
                let text = self.render(&messages, false)?;
                let found = self.marks.find(&text, Whose::Behind)?;
                Some(found.start < range.start || text.len() - found.end < self.text.len() - range.end)
            };
            outside().unwrap_or(true)
        })
    }

    /// Whether the text is the same without a message.
    fn leaves_no_trace(&self, place: usize) -> bool {
        let mut messages = self.scene.messages.clone();
        messages.remove(place);
        self.render(&messages, false).is_some_and(|text| text == self.text)
    }

    /// What messages give; None where the template refuses them.
    pub(super) fn render(&self, messages: &[Value], add_generation_prompt: bool) -> Option<String> {
        self.template.render(self.scene, messages, add_generation_prompt).ok()
    }

    /// A message of the conversation with marks.
    pub(super) fn value(&self, place: usize, whose: Whose, way: Way) -> Option<Value> {
        self.value_of(&self.marks.put(self.conversation.messages.get(place)?, whose, way))
    }

    pub(super) fn value_of(&self, message: &Message) -> Option<Value> {
        self.template.dialect.value_of(message).ok()
    }

    pub(super) fn message(&self, place: usize) -> Option<&Message> {
        self.conversation.messages.get(place)
    }
}
