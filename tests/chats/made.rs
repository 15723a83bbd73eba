//! Conversations made from seeds, and their messages and tools as OpenAI and `ShareGPT` have them.

use finetuned::domain::chat::{Conversation, Message, Role, ToolCall};
use finetuned::domain::random::mix;

/// Numbers that depend on the seed alone.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % most
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    pub(super) fn is_in(&mut self, ten: u64) -> bool {
        self.below(10) < ten
    }
}

const WORDS: [&str; 12] = [
    "card",
    "lost",
    "Straße",
    "say \"hi\"",
    "two\nlines",
    "\ttab",
    "{\"a\": 1}",
    "[1]",
    "日本",
    "\\n",
    "</s>",
    "Human: x",
];

pub(super) fn text(numbers: &mut Numbers) -> String {
    let words: Vec<&str> = (0..=numbers.below(4)).map(|_| numbers.one_of(&WORDS)).collect();
    format!("t{} {}", numbers.below(1000), words.join(" "))
}

/// A JSON object with keys in any order.
fn object(numbers: &mut Numbers) -> String {
    let pairs = [r#""z":1"#, r#""a":[true,null,"x"]"#, r#""m":{"c":-2.5,"b":{}}"#, r#""é":"\"""#];
    let first = numbers.below(4) as usize;
    let some: Vec<&str> = (0..numbers.below(5) as usize).map(|i| pairs[(first + 3 * i) % 4]).collect();
    format!("{{{}}}", some.join(","))
}

const TOOLS: [&str; 3] = ["get_weather", "f.2", "search-it"];

/// A conversation that ends with the assistant, which calls tools where they are wanted.
pub(super) fn conversation(numbers: &mut Numbers, with_tools: bool) -> Conversation {
    let (mut messages, mut calls) = (Vec::new(), 0);
    if numbers.is_in(4) {
        messages.push(Message::new(Role::System, text(numbers)));
    }
    for _ in 0..=numbers.below(3) {
        messages.push(Message::new(Role::User, text(numbers)));
        if with_tools && numbers.is_in(5) {
            let ids: Vec<String> = (0..=numbers.below(2)).map(|i| format!("call_{}", calls + i)).collect();
            calls += ids.len() as u64;
            let call = |id: &String, numbers: &mut Numbers| ToolCall {
                id: Some(id.clone()),
                name: numbers.one_of(&TOOLS).to_owned(),
                arguments: object(numbers),
            };
            let tool_calls: Vec<ToolCall> = ids.iter().map(|id| call(id, numbers)).collect();
            let content = numbers.is_in(3).then(|| text(numbers));
            messages.push(Message { content, tool_calls, ..Message::new(Role::Assistant, "") });
            for id in ids {
                messages.push(Message { tool_call_id: Some(id), ..Message::new(Role::Tool, text(numbers)) });
            }
        }
        messages.push(Message::new(Role::Assistant, text(numbers)));
    }
    let describe = |name: &&str, numbers: &mut Numbers| {
        format!(r#"{{"type":"function","function":{{"name":"{name}","parameters":{}}}}}"#, object(numbers))
    };
    let tools = if with_tools { TOOLS.iter().map(|name| describe(name, numbers)).collect() } else { Vec::new() };
    let parallel_tool_calls = (with_tools && numbers.is_in(3)).then_some(true);
    Conversation { messages, tools, parallel_tool_calls }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// A message as OpenAI has it, its content in parts now and then, and its arguments as an object.
fn openai(message: &Message, numbers: &mut Numbers) -> String {
    let mut fields = vec![format!(r#""role":"{}""#, message.role.as_str())];
    match &message.content {
        Some(content) if numbers.is_in(2) => {
            let parts = content.split('\n').map(|part| format!(r#"{{"type":"text","text":{}}}"#, quoted(part)));
            fields.push(format!(r#""content":[{}]"#, parts.collect::<Vec<_>>().join(",")));
        }
        Some(content) => fields.push(format!(r#""content":{}"#, quoted(content))),
        None => fields.extend(numbers.is_in(5).then(|| r#""content":null"#.to_owned())),
    }
    let call = |call: &ToolCall, numbers: &mut Numbers| {
        let arguments = if numbers.is_in(5) { call.arguments.clone() } else { quoted(&call.arguments) };
        let id = call.id.as_ref().map(|id| format!(r#""id":"{id}","#)).unwrap_or_default();
        format!(r#"{{{id}"type":"function","function":{{"name":"{}","arguments":{arguments}}}}}"#, call.name)
    };
    if !message.tool_calls.is_empty() {
        let calls: Vec<String> = message.tool_calls.iter().map(|one| call(one, numbers)).collect();
        fields.push(format!(r#""tool_calls":[{}]"#, calls.join(",")));
    }
    fields.extend(message.tool_call_id.as_ref().map(|id| format!(r#""tool_call_id":"{id}""#)));
    if message.role == Role::Assistant && (!message.is_learned || numbers.is_in(1)) {
        fields.push(format!(r#""weight":{}"#, u8::from(message.is_learned)));
    }
    format!("{{{}}}", fields.join(","))
}

pub(super) fn list(messages: &[Message], numbers: &mut Numbers) -> String {
    let all: Vec<String> = messages.iter().map(|message| openai(message, numbers)).collect();
    format!("[{}]", all.join(","))
}

/// A message as `ShareGPT` has it, whose calls have no ids and nothing beside them.
pub(super) fn sharegpt(message: &Message) -> String {
    let (from, value) = match message.role {
        Role::Assistant if !message.tool_calls.is_empty() => {
            let call = |call: &ToolCall| format!(r#"{{"name":"{}","arguments":{}}}"#, call.name, call.arguments);
            ("function_call", format!("[{}]", message.tool_calls.iter().map(call).collect::<Vec<_>>().join(", ")))
        }
        role => {
            let from = match role {
                Role::User => "human",
                Role::Assistant => "gpt",
                Role::Tool => "observation",
                Role::System | Role::Developer => "system",
            };
            (from, message.content.clone().unwrap())
        }
    };
    format!(r#"{{"from":"{from}","value":{}}}"#, quoted(&value))
}

/// The tools of a conversation, as fields of a row; alone, or as JSON in strings.
pub(super) fn tools(of: &Conversation, numbers: &mut Numbers) -> String {
    let all = format!("[{}]", of.tools.join(","));
    let strings = || format!("[{}]", of.tools.iter().map(|tool| quoted(tool)).collect::<Vec<_>>().join(","));
    let written = [all.clone(), quoted(&all), strings()][numbers.below(3) as usize].clone();
    let tools = if of.tools.is_empty() { String::new() } else { format!(r#","tools":{written}"#) };
    let parallel = of.parallel_tool_calls.map(|flag| format!(r#","parallel_tool_calls":{flag}"#)).unwrap_or_default();
    tools + &parallel
}
