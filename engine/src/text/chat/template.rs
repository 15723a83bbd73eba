//! One template, parsed, and what is known of it.

use std::collections::BTreeMap;

use finetuned::domain::chat::{Conversation, Message, Role, ToolCall};
use minijinja::{Environment, Value};

use super::environment;
use super::scene::{Dialect, Scene};
use super::source;

pub(super) struct Template {
    environment: Environment<'static>,
    /// Special tokens by the names that templates know them by.
    tokens: BTreeMap<String, String>,
    pub(super) dialect: Dialect,
    /// Whether it says itself what an assistant writes.
    pub(super) marks_generation: bool,
}

impl Template {
    /// Parses a source and finds out what it takes.
    ///
    /// # Errors
    /// It does not parse.
    pub(super) fn new(source: &str, tokens: BTreeMap<String, String>, now: i64) -> Result<Self, String> {
        let mut template = Self {
            environment: environment::environment(source, now)?,
            tokens,
            dialect: Dialect { system_developer: !source.contains("developer"), ..Dialect::default() },
            marks_generation: source::marks_generation(source),
        };
        template.dialect = template.probed();
        Ok(template)
    }

    /// Renders messages of a scene, marks of generation included.
    ///
    /// # Errors
    /// See [`environment::render`].
    pub(super) fn render(
        &self,
        scene: &Scene,
        messages: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String, String> {
        let tokens = self.tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
        let given = [
            ("messages", Value::from(messages.to_vec())),
            ("tools", scene.tools.clone()),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        let parallel = scene.parallel_tool_calls.map(|parallel| ("parallel_tool_calls", Value::from(parallel)));
        environment::render(&self.environment, Value::from_pairs(tokens.chain(given).chain(parallel)))
    }

    /// The dialect in which a call's arguments arrive in the text, and arrive as JSON; if they arrive in none, one in which
    /// the template renders at all.
    fn probed(&self) -> Dialect {
        let dialects = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(text_arguments, empty_content)| Dialect { text_arguments, empty_content, ..self.dialect });
        // Templates that know no tools may refuse what these answer.
        let found = [true, false].into_iter().find_map(|is_answered| {
            let shown = dialects.map(|dialect| self.shown(dialect, is_answered));
            // A None that is printed is a fault as well as one that fails; the word may also be the template's own.
            let usual = shown.iter().flatten().map(|text| text.matches("None").count()).min()?;
            let works = |text: &String| text.matches("None").count() == usual;
            let arrives = |text: &String| text.contains(PROBE) && !text.contains(&format!("'place': '{PROBE}'"));
            let arrived = shown.iter().position(|text| text.as_ref().is_some_and(|text| works(text) && arrives(text)));
            arrived.or_else(|| shown.iter().position(|text| text.as_ref().is_some_and(works)))
        });
        found.map_or(self.dialect, |place| dialects[place])
    }

    /// What a conversation with a call in it gives in a dialect.
    fn shown(&self, dialect: Dialect, is_answered: bool) -> Option<String> {
        let id = Some("q7x0w3k9z".to_owned());
        let arguments = format!("{{\"place\": \"{PROBE}\"}}");
        let call = ToolCall { id: id.clone(), name: "probe".to_owned(), arguments };
        let silent = Message { content: None, tool_calls: vec![call], ..Message::new(Role::Assistant, "") };
        let answer = Message { tool_call_id: id, name: Some("probe".to_owned()), ..Message::new(Role::Tool, "answer") };
        let mut messages = vec![Message::new(Role::User, "question"), silent];
        messages.extend(is_answered.then_some(answer));
        let scene = Scene::new(&Conversation { messages, ..Conversation::default() }, dialect).ok()?;
        self.render(&scene, &scene.messages, false).ok()
    }
}

/// What is looked for in the text that a probe gives.
const PROBE: &str = "qzprobexj";

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(source: &str) -> Dialect {
        Template::new(source, BTreeMap::new(), 0).unwrap().dialect
    }

    fn template_of_calls(content: &str, arguments: &str) -> String {
        format!(
            "{{% for m in messages %}}{content}{{% for call in m.tool_calls or [] %}}{{{{ call.function.name }}}}\
             {{{{ {arguments} }}}}{{% endfor %}}{{% endfor %}}"
        )
    }

    #[test]
    fn arguments_are_objects_unless_a_template_works_with_texts() {
        let said = "{{ m.content or '' }}";
        for (arguments, is_text) in [
            ("call.function.arguments|tojson", false),
            ("call.function.arguments if call.function.arguments is string else call.function.arguments|tojson", false),
            ("call.function.arguments.items()|map('join', '=')|join", false),
            (
                "call.function.arguments if call.function.arguments is string else call.function.arguments.values()|list",
                false,
            ),
            ("call.function.arguments", true),
            ("'```' + call.function.arguments + '```'", true),
            ("''", false),
        ] {
            let dialect = dialect(&template_of_calls(said, arguments));
            assert_eq!((dialect.text_arguments, dialect.empty_content), (is_text, false), "{arguments}");
        }
    }

    #[test]
    fn no_content_is_none_unless_a_template_fails_on_it_or_prints_it() {
        for (content, is_empty) in [
            ("{{ m.content or '' }}", false),
            ("{% if m.content is not none %}{{ 'None? ' + m.content }}{% endif %}", false),
            ("{{ 'x' + m.content }}", true),
            ("{{ m.content|trim }}", true),
            ("{{ m.content }}", true),
        ] {
            let dialect = dialect(&template_of_calls(content, "call.function.arguments|tojson"));
            assert_eq!((dialect.text_arguments, dialect.empty_content), (false, is_empty), "{content}");
        }
        let no_tools =
            "{% for m in messages %}{{ raise_exception('No!') if m.role == 'tool' }}{{ m.content|trim }}{% endfor %}";
        assert!(dialect(no_tools).empty_content);
        assert_eq!(dialect("{{ raise_exception('No!') }}{# developer #}"), Dialect::default());
    }

    #[test]
    fn a_developer_is_a_system_to_templates_that_know_none() {
        assert!(dialect("{{ messages }}").system_developer);
        assert!(!dialect("{% if messages[0].role in ['system', 'developer'] %}{% endif %}").system_developer);
    }
}
