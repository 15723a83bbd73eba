//! Conversations as the texts that chat models read, by the template that a model comes with.
//!
//! What is rendered is, to the character, what Transformers' `apply_chat_template` gives. Beside the text stands what of it
//! each assistant's message is, which is what a model learns to write.

mod blocks;
mod closing;
mod environment;
mod files;
mod filters;
mod generation;
mod json;
mod limits;
mod marks;
mod methods;
mod opening;
mod python;
mod rendered;
mod scene;
mod source;
mod spans;
mod strftime;
mod template;
mod tojson;
mod units;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use finetuned::domain::chat::Conversation;

pub use self::rendered::{Rendered, Span};
use self::scene::Scene;
use self::spans::Finder;
use self::template::Template;

/// The chat template of a model.
pub struct ChatTemplate {
    default: Template,
    /// Used for conversations with tools, where the model has one.
    tool_use: Option<Template>,
}

impl ChatTemplate {
    /// Opens a model's template: `chat_template.jinja`, else `chat_template.json`, else the field of
    /// `tokenizer_config.json`. None where the model has none. Templates that ask for the date are told today's, in UTC.
    ///
    /// # Errors
    /// A file is not what Transformers writes, or a template does not parse; the text names line and reason.
    pub fn open(directory: &Path) -> Result<Option<Self>, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::open_at(directory, now.as_secs().try_into().unwrap_or_default())
    }

    /// The same, with the time to tell templates, in seconds since 1970.
    ///
    /// # Errors
    /// See [`ChatTemplate::open`].
    pub fn open_at(directory: &Path, now: i64) -> Result<Option<Self>, String> {
        let mut sources = files::templates(directory)?;
        let tokens = files::special_tokens(directory)?;
        limits::with_deep_stack(|| {
            let mut parsed = |name: &str| -> Result<Option<Template>, String> {
                let Some(source) = sources.remove(name) else { return Ok(None) };
                let template = Template::new(&source.text, tokens.clone(), now);
                template.map(Some).map_err(|error| format!("{}, {error}", source.name))
            };
            let Some(default) = parsed("default")? else { return Ok(None) };
            Ok(Some(Self { default, tool_use: parsed("tool_use")? }))
        })
    }

    /// The text of a conversation, with the beginning of an assistant's answer at its end where that is asked.
    ///
    /// # Errors
    /// The template refuses the conversation, fails on it, or does more than it may.
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String, String> {
        let (template, scene) = self.scene(conversation)?;
        let text = limits::with_deep_stack(|| template.render(&scene, &scene.messages, add_generation_prompt))?;
        if template.marks_generation { Ok(blocks::taken(&text)?.0) } else { Ok(text) }
    }

    /// The text of a conversation, and what of it assistants write.
    ///
    /// # Errors
    /// As of [`ChatTemplate::render`]; or it cannot be told exactly what an assistant writes.
    pub fn rendered(&self, conversation: &Conversation) -> Result<Rendered, String> {
        let (template, scene) = self.scene(conversation)?;
        let (text, spans) = limits::with_deep_stack(|| {
            let text = template.render(&scene, &scene.messages, false)?;
            let finder = Finder::new(template, conversation, &scene, &text);
            if template.marks_generation {
                let (text, blocks) = blocks::taken(&text)?;
                Ok((text, generation::spans(&finder, blocks)?))
            } else {
                let spans = finder.spans()?;
                Ok((text, spans))
            }
        })?;
        match spans.windows(2).find(|pair| pair[1].range.start < pair[0].range.end) {
            Some(pair) => Err(format!(
                "messages[{}] and messages[{}] cannot be told apart in the text that the chat template gives",
                pair[0].message, pair[1].message
            )),
            None => Ok(Rendered { text, spans }),
        }
    }

    /// The template for a conversation, and what it is given.
    fn scene(&self, conversation: &Conversation) -> Result<(&Template, Scene), String> {
        let for_tools = self.tool_use.as_ref().filter(|_| !conversation.tools.is_empty());
        let template = for_tools.unwrap_or(&self.default);
        let scene = Scene::new(conversation, template.dialect)?;
        if template.marks_generation {
            generation::check(&scene)?;
        }
        Ok((template, scene))
    }
}
