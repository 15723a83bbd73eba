//! Tool calls in what a language model writes. Each family writes them as its template shows them; what is written in none of these
//! ways, or calls a tool that is not there, is text.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::chat::ToolCall;

/// What stands around a call (Hermes, Qwen).
const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// What Mistral puts before its list, where its tokenizer tells it.
const LIST: &str = "[TOOL_CALLS]";

/// What a model has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub content: String,
    /// Without ids, which models do not give.
    pub calls: Vec<ToolCall>,
}

/// A call as it is written: Llama says `parameters`.
#[derive(Deserialize)]
struct Written<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: &'a RawValue,
}

impl Said {
    /// Reads a text by a model that was told of tools of these names.
    pub fn read(text: &str, tools: &BTreeSet<String>) -> Self {
        let found = tagged(text).or_else(|| Some(("", listed(text)?)));
        let all_there = |calls: &[ToolCall]| !calls.is_empty() && calls.iter().all(|call| tools.contains(&call.name));
        match found.filter(|(_, calls)| all_there(calls)) {
            Some((content, calls)) => Self { content: content.to_owned(), calls },
            None => Self { content: text.to_owned(), calls: Vec::new() },
        }
    }
}

/// The names of tools, each the text of a JSON object as clients write it.
pub fn names(tools: &[String]) -> BTreeSet<String> {
    let name = |tool: &String| {
        let tool: Value = serde_json::from_str(tool).ok()?;
        tool["function"]["name"].as_str().or_else(|| tool["name"].as_str()).map(str::to_owned)
    };
    tools.iter().filter_map(name).collect()
}

/// Calls in tags behind whatever else is said.
fn tagged(text: &str) -> Option<(&str, Vec<ToolCall>)> {
    let (content, mut rest) = text.split_once(OPEN)?;
    let mut calls = Vec::new();
    loop {
        // The last one may end with the text.
        let (inside, after) = rest.split_once(CLOSE).unwrap_or((rest, ""));
        calls.push(call(&serde_json::from_str(inside).ok()?)?);
        let after = after.trim();
        if after.is_empty() {
            return Some((content.trim_end(), calls));
        }
        rest = after.strip_prefix(OPEN)?;
    }
}

/// A text that is nothing but a call, or a list of them.
fn listed(text: &str) -> Option<Vec<ToolCall>> {
    let text = text.trim();
    let text = text.strip_prefix(LIST).unwrap_or(text).trim();
    let written: Vec<Written<'_>> = match text.chars().next()? {
        '{' => vec![serde_json::from_str(text).ok()?],
        '[' => serde_json::from_str(text).ok()?,
        _ => return None,
    };
    written.iter().map(call).collect()
}

fn call(written: &Written<'_>) -> Option<ToolCall> {
    let arguments = written.arguments.get();
    arguments.starts_with('{').then(|| ToolCall {
        id: None,
        name: written.name.clone(),
        arguments: arguments.to_owned(),
    })
}

/// Of a text in the making lets through what is no part of a call for certain.
#[derive(Default)]
pub struct Gate {
    written: String,
    /// Bytes that were let through.
    passed: usize,
}

impl Gate {
    /// What can be told now that the text goes on with `piece`.
    pub fn push(&mut self, piece: &str) -> String {
        self.written.push_str(piece);
        let safe = self.safe().max(self.passed);
        let told = self.written[self.passed..safe].to_owned();
        self.passed = safe;
        told
    }

    /// How many bytes can be told.
    fn safe(&self) -> usize {
        let begun = self.written.trim_start();
        if begun.is_empty() || begun.starts_with(['{', '[']) {
            return 0;
        }
        let text = &self.written;
        let is_beginning = |length: &usize| text.ends_with(&OPEN[..*length]);
        let begins = || (1..OPEN.len()).rev().find(is_beginning).map_or(text.len(), |length| text.len() - length);
        // Blanks before a call are no part of what is said.
        text[..text.find(OPEN).unwrap_or_else(begins)].trim_end().len()
    }

    /// What is left to tell of the whole text, by a model that was told of tools of these names, and its calls.
    pub fn end(self, tools: &BTreeSet<String>) -> (String, Vec<ToolCall>) {
        let Said { content, calls } = Said::read(&self.written, tools);
        (content.get(self.passed..).unwrap_or_default().to_owned(), calls)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Gate, Said, names};

    fn tools() -> BTreeSet<String> {
        names(&[
            r#"{"type": "function", "function": {"name": "weather", "parameters": {}}}"#.to_owned(),
            r#"{"name": "time"}"#.to_owned(),
        ])
    }

    /// Content and calls, which are the same however the text comes.
    fn read(text: &str) -> (String, Vec<(String, String)>) {
        let said = Said::read(text, &tools());
        for length in [1, 3, 1000] {
            let (mut gate, mut told) = (Gate::default(), String::new());
            let letters: Vec<char> = text.chars().collect();
            for piece in letters.chunks(length) {
                told += &gate.push(&piece.iter().collect::<String>());
            }
            let (rest, calls) = gate.end(&tools());
            assert_eq!((told + &rest, calls), (said.content.clone(), said.calls.clone()), "{text}");
        }
        (said.content, said.calls.into_iter().map(|call| (call.name, call.arguments)).collect())
    }

    #[test]
    fn calls_are_read_as_families_write_them() {
        let one = vec![("weather".to_owned(), r#"{"place": "Bern", "b": 1}"#.to_owned())];
        let two = [one.clone(), vec![("time".to_owned(), "{}".to_owned())]].concat();
        let call = r#"{"name": "weather", "arguments": {"place": "Bern", "b": 1}}"#;
        for (text, content, calls) in [
            (format!("<tool_call>\n{call}\n</tool_call>"), "", &one),
            (format!("Let me see.\n<tool_call>{call}</tool_call>\n"), "Let me see.", &one),
            (
                format!("<tool_call>{call}</tool_call>\n<tool_call>{{\"name\": \"time\", \"arguments\": {{}}}}"),
                "",
                &two,
            ),
            (format!("[TOOL_CALLS] [{call}]"), "", &one),
            (format!(" [{call}, {{\"name\": \"time\", \"arguments\": {{}}}}]"), "", &two),
            (call.replace("arguments", "parameters"), "", &one),
        ] {
            assert_eq!(read(&text), (content.to_owned(), calls.clone()), "{text}");
        }
    }

    #[test]
    fn all_else_is_text() {
        for text in [
            "",
            "  ",
            "It is 3 < 4, <tool, <tool_call",
            "<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"weather\", \"arguments\": \"Bern\"}</tool_call>",
            "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call> and more",
            "<tool_call>{\"name\": \"weather\", \"argum",
            "{\"name\": \"weather\"}",
            "{\"name\": \"weather\", \"arguments\": {}} is what I would call.",
            "[1, 2]",
            "[]",
            " é{\"name\": \"weather\", \"arguments\": {}}",
        ] {
            assert_eq!(read(text), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn a_text_is_told_as_it_comes() {
        let mut gate = Gate::default();
        let told = ["It is", " warm.\n", "<", "b> ", "<tool", "_call>{"].map(|piece| gate.push(piece));
        assert_eq!(told, ["It is", " warm.", "", "\n<b>", "", ""]);
    }
}
