//! What assistants write, in templates of many shapes, and what is done where it cannot be told.

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use finetuned::domain::chat::{Conversation, Message, Role, ToolCall};
use finetuned_engine::text::chat::ChatTemplate;

fn open(template: &str) -> ChatTemplate {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("chat_template.jinja"), template).unwrap();
    std::fs::write(directory.path().join("tokenizer_config.json"), r#"{"bos_token": "<s>", "eos_token": "</s>"}"#)
        .unwrap();
    ChatTemplate::open_at(directory.path(), 0).unwrap().unwrap()
}

/// A conversation of letters for roles and what they say: "uHi aHello".
fn conversation(words: &str) -> Conversation {
    let message = |word: &str| {
        let role = match &word[..1] {
            "s" => Role::System,
            "u" => Role::User,
            "t" => Role::Tool,
            _ => Role::Assistant,
        };
        Message::new(role, &word[1..])
    };
    Conversation { messages: words.split(' ').map(message).collect(), ..Conversation::default() }
}

fn spans(template: &str, words: &str) -> Result<Vec<(usize, String)>, String> {
    let rendered = open(template).rendered(&conversation(words))?;
    Ok(rendered.spans.iter().map(|span| (span.message, rendered.text[span.range.clone()].to_owned())).collect())
}

fn assert_spans(template: &str, words: &str, expected: &[(usize, &str)]) {
    let spans = spans(template, words).unwrap();
    let spans: Vec<(usize, &str)> = spans.iter().map(|(message, text)| (*message, text.as_str())).collect();
    assert_eq!(spans, expected, "{template}");
}

const PROMPT: &str = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn a_header_is_known_without_a_generation_prompt() {
    let template =
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}";
    assert_spans(template, "uq aw ue ar", &[(1, "w<|im_end|>"), (3, "r<|im_end|>")]);
    assert_spans(template, "aw ue ar", &[(0, "w<|im_end|>"), (2, "r<|im_end|>")]);
    let prompts_after_users = format!("{template}{{% if messages[-1].role == 'user' %}}{PROMPT}{{% endif %}}");
    assert_spans(&prompts_after_users, "uq aw ae ur at", &[(1, "w<|im_end|>"), (2, "e<|im_end|>"), (4, "t<|im_end|>")]);
}

#[test]
fn a_name_in_a_header_belongs_to_the_header() {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}{{ ' ' + m.name if m.name }}\n{{ m.content }}<|im_end|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let mut named = conversation("uq aw ue ar");
    named.messages[1].name = Some("bot".to_owned());
    let rendered = open(template).rendered(&named).unwrap();
    let texts: Vec<&str> = rendered.spans.iter().map(|span| &rendered.text[span.range.clone()]).collect();
    assert_eq!(texts, ["w<|im_end|>", "r<|im_end|>"]);
}

#[test]
fn what_a_prompt_leaves_to_the_model_is_the_models() {
    let template = "{% for m in messages %}{{ 'USER: ' if m.role == 'user' else 'ASSISTANT: ' }}{{ m.content }}\
                    {{ eos_token if m.role == 'assistant' else ' ' }}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}";
    assert_spans(template, "uq aw ue ar", &[(1, " w</s>"), (3, " r</s>")]);
}

#[test]
fn tags_of_thoughts_in_a_prompt_are_the_models() {
    let template = "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}<think>\n{{ m.reasoning_content or '' }}\
                    </think>{% endif %}{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n<think>\n\
                    {% endif %}";
    assert_spans(template, "uq aw", &[(1, "<think>\n</think>w<|end|>")]);
}

#[test]
fn turns_that_nothing_closes_end_with_what_is_said() {
    let template = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}\
                    {% if add_generation_prompt %}### assistant:\n{% endif %}";
    assert_spans(template, "uq aw ue ar", &[(1, "w"), (3, "r")]);
    let template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}\
                    {% if add_generation_prompt %}<|assistant|>{% endif %}";
    assert_spans(template, "uq aw ue ar", &[(1, "w"), (3, "r")]);
}

#[test]
fn the_last_turn_may_be_closed_otherwise() {
    let open_end = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if not loop.last or add_generation_prompt %}\
                    <|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    assert_spans(open_end, "uq aw", &[(1, "w")]);
    assert!(spans(open_end, "uq aw ue ar").is_err(), "the token may as well begin what follows");
    let other_end = "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}{% if loop.last and m.role == 'assistant' \
                     and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}\
                     {% if add_generation_prompt %}<|start|>assistant{% endif %}";
    assert_spans(other_end, "uq aw ue ar", &[(1, "<|message|>w<|end|>"), (3, "<|message|>r<|return|>")]);
    let only_end = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ eos_token if messages[-1].role == 'assistant' }}\
                    {% if add_generation_prompt %}assistant:{% endif %}";
    assert_spans(only_end, "uq aw ue ar", &[(1, " w"), (3, " r\n</s>")]);
}

#[test]
fn what_ends_every_conversation_ends_no_turn() {
    let template = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}";
    assert_spans(template, "uq aw ue ar", &[(1, "w<|end|>"), (3, "r<|end|>")]);
}

#[test]
fn spaces_around_tokens_are_kept_and_those_behind_are_not() {
    let template = "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}\
                    {% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";
    assert_spans(template, "uq a\tw\n ue ar", &[(1, " w </s>"), (3, " r </s>")]);
}

#[test]
fn a_message_that_is_left_out_has_no_span() {
    let template = format!(
        "{{% for m in messages if m.content %}}{{{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}}}{{% endfor %}}{PROMPT}"
    );
    assert_spans(&template, "uq a ue ar", &[(3, "r<|im_end|>")]);
}

#[test]
fn what_cannot_be_told_is_an_error() {
    let each = |inside: &str| {
        format!("{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{inside}<|im_end|>\n{{% endfor %}}{PROMPT}")
    };
    for (template, why) in [
        (each("{{ m.content }}{{ m.content }}"), "said twice"),
        (each("{{ m.content|upper }}"), "not said as it is"),
        (each("{{ m.content[:6] }}"), "cut"),
        (each("{{ messages|length }}"), "not said at all"),
        (each("{{ m.content }}") + "{{ messages[1].content|length }}", "changes the text elsewhere"),
        (each("{{ m.content }}") + "<|im_start|>assistant\n", "prompts after an answer, too"),
    ] {
        let error = spans(&template, "uqqq awww").unwrap_err();
        assert!(error.starts_with("what the assistant writes in messages[1] cannot be told"), "{why}: {error}");
        assert!(error.contains("{% generation %}"), "{why}: {error}");
    }
}

#[test]
fn an_answer_of_a_tool_between_a_call_and_what_was_said_with_it_is_not_the_assistants() {
    let template = "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}</u>{% elif m.role == 'assistant' %}<a>\
                    {% for call in m.tool_calls or [] %}{{ call.function.arguments|tojson }}\
                    <t>{{ messages[loop.index0 + 2].content }}</t>{% endfor %}\
                    {{ m.content or '' }}</a>{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}";
    let mut called = conversation("uq aw tr");
    let arguments = r#"{"x": 1}"#.to_owned();
    called.messages[1].tool_calls = vec![ToolCall { id: None, name: "f".to_owned(), arguments }];
    let error = open(template).rendered(&called).unwrap_err();
    assert!(error.starts_with("what the assistant writes in messages[1] cannot be told"), "{error}");
}

#[test]
fn a_model_may_have_a_template_for_tools() {
    let directory = tempfile::tempdir().unwrap();
    let config = r#"{"chat_template": [
        {"name": "default", "template": "plain {{ tools is none }}"},
        {"name": "tool_use", "template": "{{ tools|length }} tools {{ parallel_tool_calls }}"}
    ]}"#;
    std::fs::write(directory.path().join("tokenizer_config.json"), config).unwrap();
    let template = ChatTemplate::open(directory.path()).unwrap().unwrap();
    let mut given = conversation("uq");
    assert_eq!(template.render(&given, false).unwrap(), "plain True");
    given.tools = vec![r#"{"type": "function"}"#.to_owned()];
    assert_eq!(template.render(&given, false).unwrap(), "1 tools ");
    given.parallel_tool_calls = Some(false);
    assert_eq!(template.render(&given, true).unwrap(), "1 tools False");
    given.tools.push("{".to_owned());
    assert!(template.render(&given, true).unwrap_err().starts_with("tools[1] is no JSON object"));
    given.messages.clear();
    assert!(template.render(&given, true).unwrap_err().starts_with("the conversation has no messages"));
    std::fs::write(directory.path().join("tokenizer_config.json"), r#"{"chat_template": "a\n{% if %}"}"#).unwrap();
    let error = ChatTemplate::open(directory.path()).map(|_| ()).unwrap_err();
    assert!(error.starts_with("chat_template in tokenizer_config.json, line 2: syntax error"), "{error}");
    assert!(ChatTemplate::open(&directory.path().join("none")).unwrap().is_none());
}

#[test]
fn marks_of_a_template_are_taken_as_they_are() {
    let template = "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %} {{ m.content }}\n{% endgeneration %}!\
                    {% generation %}</s>{% endgeneration %}{% else %}U:{{ m.content }}{% endif %}{% endfor %}";
    assert_spans(template, "uq aw ue ar", &[(1, " w\n"), (1, "</s>"), (3, " r\n"), (3, "</s>")]);
    assert_eq!(open(template).render(&conversation("uq aw"), false).unwrap(), "U:qA: w\n!</s>");
    let some = "{% for m in messages %}{% if loop.last %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}\
                {% endif %}{% endfor %}";
    assert_spans(some, "uq aw ue ar", &[(3, "r")]);
}

#[test]
fn marks_that_say_too_little_are_errors() {
    let nested = "{% generation %}{% generation %}{{ messages[1].content }}{% endgeneration %}{% endgeneration %}";
    assert!(spans(nested, "uq aw").unwrap_err().contains("stand within one another"));
    let whose = "{% for m in messages %}{% generation %}.{% endgeneration %}{% endfor %}";
    assert!(spans(whose, "uq aw").unwrap_err().starts_with("it cannot be told which message writes block 0"));
    let none = "{% generation %}.{% endgeneration %}{{ messages[0].content }}";
    assert!(spans(none, "uq").unwrap_err().starts_with("it cannot be told which message writes block 0"));
    let own = spans("{% generation %}{{ messages[1].content }}{% endgeneration %}", "u\u{fdd0}q\u{fdd1} aw");
    assert!(own.unwrap_err().starts_with("the conversation has U+FDD0"));
}

#[test]
fn words_that_stand_in_for_others_are_none_of_the_conversation() {
    let template = format!(
        "{{% for m in messages %}}{{{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}}}{{% endfor %}}{PROMPT}"
    );
    assert_spans(&template, "uQzxa0000 aQzxa0000Qzxxb0000", &[(1, "Qzxa0000Qzxxb0000<|im_end|>")]);
}
