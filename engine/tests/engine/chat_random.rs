//! Random conversations in the templates of eleven families: what must hold whatever is said.

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::path::Path;

use finetuned::domain::chat::{Conversation, Message, Role, ToolCall};
use finetuned_engine::text::chat::ChatTemplate;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Golden {
    families: BTreeMap<String, Family>,
}

#[derive(Deserialize)]
struct Family {
    template: String,
    /// The same with what assistants write marked by hand.
    marked: String,
    tokens: Value,
}

/// What texts are made of: markup, spaces, and letters of many bytes.
const PARTS: [&str; 36] = [
    "Hi",
    "a",
    "0",
    "b. ",
    " ",
    "\n",
    "\t",
    "\r\n",
    "\u{a0}",
    "\u{2028}",
    "\u{1c}",
    "é🙂",
    "שלום",
    "中文",
    "'",
    "\"",
    "\\n",
    "None",
    "assistant",
    "user\n",
    "{{ x }}",
    "{% raw %}",
    "<think>",
    "</think>",
    "<|im_start|>assistant\n",
    "<|im_end|>\n",
    "</s>",
    "[/INST]",
    "<end_of_turn>\n",
    "<|eot_id|>",
    "<｜Assistant｜>",
    "<tool_response>",
    "</tool_call>",
    "[",
    "<",
    "<|",
];

/// A linear congruential generator with Knuth's constants (MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one_of(&mut self, share: usize) -> bool {
        self.below(share) == 0
    }

    fn text(&mut self) -> String {
        (0..[0, 1, 1, 2, 3, 5, 8][self.below(7)]).map(|_| PARTS[self.below(PARTS.len())]).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth < 2 { 8 } else { 6 }) {
            0 => json!(self.text()),
            1 => json!(self.below(1 << 30)),
            2 => json!(self.below(1000) as f64 * 10f64.powi(self.below(40) as i32 - 20)),
            3 => json!(true),
            4 => json!(null),
            5 => json!(-1.0),
            6 => (0..self.below(3)).map(|_| self.value(depth + 1)).collect(),
            _ => (0..self.below(3)).map(|_| (self.text(), self.value(depth + 1))).collect(),
        }
    }

    fn object(&mut self) -> String {
        let entries: serde_json::Map<String, Value> =
            (0..self.below(4)).map(|_| (self.text(), self.value(0))).collect();
        Value::Object(entries).to_string()
    }

    fn message(&mut self, role: Role) -> Message {
        Message::new(role, self.text())
    }

    fn assistant(&mut self, calls: usize, number: &mut usize) -> Message {
        let mut message = self.message(Role::Assistant);
        if self.one_of(3) {
            message.reasoning_content = Some(self.text());
        }
        for _ in 0..calls {
            *number += 1;
            let (id, name) = (Some(format!("call{number:05}")), "probe".to_owned());
            message.tool_calls.push(ToolCall { id, name, arguments: self.object() });
        }
        if calls > 0 && self.one_of(2) {
            message.content = None;
        }
        message
    }

    /// Half of the conversations alternate, as some templates want them.
    fn conversation(&mut self) -> Conversation {
        let (mut messages, mut calls, alternates) = (Vec::new(), 0, self.one_of(2));
        if self.one_of(3) {
            let role = if self.one_of(2) { Role::System } else { Role::Developer };
            messages.push(self.message(role));
        }
        for turn in 0..=self.below(4) {
            for _ in 0..if alternates || turn == 0 { 1 } else { self.below(3) } {
                messages.push(self.message(Role::User));
            }
            if self.one_of(3) {
                let count = 1 + self.below(2);
                let message = self.assistant(count, &mut calls);
                let ids: Vec<Option<String>> = message.tool_calls.iter().map(|call| call.id.clone()).collect();
                messages.push(message);
                for tool_call_id in ids {
                    messages.push(Message { tool_call_id, name: Some("probe".to_owned()), ..self.message(Role::Tool) });
                }
            }
            if alternates || !self.one_of(8) {
                messages.push(self.assistant(0, &mut calls));
            }
        }
        let tool = |description| json!({"type": "function", "function": {"name": "probe", "description": description}});
        let tools = (0..self.below(3)).map(|_| tool(self.text()).to_string()).collect();
        Conversation { messages, tools, parallel_tool_calls: self.one_of(3).then_some(true) }
    }
}

fn open(template: &str, tokens: &Value) -> ChatTemplate {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("chat_template.jinja"), template).unwrap();
    std::fs::write(directory.path().join("tokenizer_config.json"), tokens.to_string()).unwrap();
    ChatTemplate::open_at(directory.path(), 0).unwrap().unwrap()
}

/// What must be in the text that a message gives: templates drop thoughts and strip.
fn kept(message: &Message) -> &str {
    let content = message.content.as_deref().unwrap_or_default();
    let answer = content.rsplit("</think>").next().unwrap_or_default();
    answer.trim_matches(|c: char| c.is_whitespace() || c.is_control())
}

#[test]
fn spans_are_whole_and_apart_and_those_that_marks_by_hand_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat/chat_templates.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut random = Random(7);
    let conversations: Vec<Conversation> = (0..80).map(|_| random.conversation()).collect();
    for (name, family) in &golden.families {
        let [template, by_hand] = [&family.template, &family.marked].map(|source| open(source, &family.tokens));
        let (mut rendered, mut told) = (0, 0);
        for conversation in &conversations {
            let Ok(text) = template.render(conversation, false) else {
                assert!(template.rendered(conversation).is_err() && by_hand.rendered(conversation).is_err());
                continue;
            };
            rendered += 1;
            let made = match template.rendered(conversation) {
                Ok(made) => made,
                Err(error) => {
                    assert!(error.contains("cannot be told from the text around it"), "{name}: {error}");
                    continue;
                }
            };
            told += 1;
            assert_eq!(made.text, text, "{name}");
            let mut end = 0;
            for span in &made.spans {
                let message = &conversation.messages[span.message];
                assert_eq!(message.role, Role::Assistant);
                assert!(end <= span.range.start, "{name}: spans lie apart");
                end = span.range.end;
                let written = text.get(span.range.clone()).expect("a span lies between characters");
                let is_kept = !message.tool_calls.is_empty() || written.contains(kept(message));
                assert!(is_kept, "{name}: {:?} is not in {written:?}", kept(message));
            }
            let mut expected = by_hand.rendered(conversation).unwrap();
            expected.spans.retain(|span| !span.range.is_empty());
            assert_eq!(made, expected, "{name}");
        }
        assert_eq!(told, rendered, "{name}");
        assert!(rendered > 15, "{name}: most templates take most conversations");
    }
}
