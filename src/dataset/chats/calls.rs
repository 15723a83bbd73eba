//! Calls of tools: `tool_calls`, the older `function_call`, and calls that are the text of a `ShareGPT` message.

use super::findings::Findings;
use super::parse::{function_name, must_be, object_text, text, unpacked};
use super::path::Path;
use super::remarks::Remark;
use crate::dataset::row::{MISSING, listed};
use crate::dataset::tree::{Object, Tree};
use crate::domain::chat::ToolCall;
use crate::domain::clip::clipped;

/// The most calls of one message, which are compared with each other and with what answers them.
const MOST_CALLS: usize = 128;

/// Reads the calls of one message. `tools` are the names of the tools that there are, where they are told. What is wrong is
/// among the findings, here and below.
pub(super) fn list(tree: &Tree, tools: Option<&[String]>, at: &Path<'_>, findings: &mut Findings) -> Vec<ToolCall> {
    let Some(items) = tree.as_list() else {
        findings.fault(at, must_be("a list", tree));
        return Vec::new();
    };
    if items.len() > MOST_CALLS {
        findings.fault(at, format!("has {} calls where at most {MOST_CALLS} are allowed", items.len()));
        return Vec::new();
    }
    let mut calls: Vec<ToolCall> = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let at = at.item(number);
        let Some(call) = call(item, tools, &at, findings) else { continue };
        if call.id.is_some() && calls.iter().any(|other| other.id == call.id) {
            findings.fault(at.key("id"), "is the id of another call of this message");
        }
        calls.push(call);
    }
    calls
}

/// One call: OpenAI's, with its function as an object of its own, or as some write it, without.
fn call(tree: &Tree, tools: Option<&[String]>, at: &Path<'_>, findings: &mut Findings) -> Option<ToolCall> {
    let Some(object) = tree.as_object() else {
        return findings.refuse(at, must_be("an object with id, type and function", tree));
    };
    match object.get("type") {
        Some(Tree::Text(word)) if word == "function" => {}
        Some(Tree::Text(word)) => {
            findings.fault(at.key("type"), format!("is \"{}\", but must be \"function\"", clipped(word)));
        }
        Some(other) => findings.fault(at.key("type"), must_be("\"function\"", other)),
        None => {}
    }
    let id = object.get("id").and_then(|id| findings.keep(at.key("id"), text(id)));
    let function = match object.get("function") {
        None if object.get("name").is_some() => function(object, tools, at, findings),
        None => findings.refuse(at.key("function"), MISSING),
        Some(Tree::Object(inner)) => function(inner, tools, &at.key("function"), findings),
        Some(other) => findings.refuse(at.key("function"), must_be("an object with name and arguments", other)),
    };
    function.map(|call| ToolCall { id, ..call })
}

/// The call that was `function_call` before there were tools.
pub(super) fn function_call(
    tree: &Tree,
    tools: Option<&[String]>,
    at: &Path<'_>,
    findings: &mut Findings,
) -> Option<ToolCall> {
    findings.remark(Remark::Functions);
    match tree {
        Tree::Object(object) => function(object, tools, at, findings),
        other => findings.refuse(at, must_be("an object with name and arguments", other)),
    }
}

/// The calls that a text holds as JSON: one, or a list.
pub(super) fn spoken(tree: &Tree, tools: Option<&[String]>, at: &Path<'_>, findings: &mut Findings) -> Vec<ToolCall> {
    let Some(tree) = findings.keep(at, unpacked(tree)) else { return Vec::new() };
    match &*tree {
        Tree::List(_) => list(&tree, tools, at, findings),
        Tree::Object(_) => call(&tree, tools, at, findings).into_iter().collect(),
        other => {
            findings.fault(at, format!("must be a call as JSON, with name and arguments, not {}", other.kind()));
            Vec::new()
        }
    }
}

fn function(object: &Object, tools: Option<&[String]>, at: &Path<'_>, findings: &mut Findings) -> Option<ToolCall> {
    let mut field = |key: &str, read: fn(&Tree) -> Result<String, String>, none: &str| {
        let found = object.get(key).map_or_else(|| Err(format!("{MISSING}{none}")), read);
        findings.keep(at.key(key), found)
    };
    let name = field("name", function_name, "");
    let arguments = field("arguments", object_text, "; write \"{}\" where there are none");
    let name = name?;
    if let Some(tools) = tools.filter(|tools| !tools.contains(&name)) {
        let known: Vec<&str> = tools.iter().map(String::as_str).collect();
        findings.fault(at.key("name"), format!("is \"{name}\", which is none of the tools: {}", listed(&known)));
    }
    Some(ToolCall { id: None, name, arguments: arguments? })
}

#[cfg(test)]
mod tests {
    use super::{Findings, Path, ToolCall, Tree, function_call, list, spoken};
    use crate::dataset::chats::findings::Remarks;
    use crate::dataset::entries::Entry;

    fn told<T>(read: impl FnOnce(&Path<'_>, &mut Findings) -> T) -> Result<T, Vec<String>> {
        let mut findings = Findings::new(1);
        let calls = read(&Path::field("calls"), &mut findings);
        match findings.entry(Some(calls), &Remarks::default()) {
            Entry::Good(calls) => Ok(calls),
            Entry::Faulty(faults) => {
                Err(faults.into_iter().map(|fault| format!("{} {}", fault.field.unwrap(), fault.message)).collect())
            }
            _ => Err(Vec::new()),
        }
    }

    fn listed(json: &str, tools: Option<&[String]>) -> Result<Vec<ToolCall>, Vec<String>> {
        told(|at, findings| list(&Tree::parse(json).unwrap(), tools, at, findings))
    }

    fn call(id: Option<&str>, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.map(str::to_owned), name: name.to_owned(), arguments: arguments.to_owned() }
    }

    #[test]
    fn calls_keep_their_arguments_as_they_stand() {
        let calls = r#"[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"b\": 1, \"a\": 2}"}},
            {"index":1,"id":"2","function":{"name":"g","arguments":{"b":1,"a":[2]}}}, {"name":"h","arguments":"{}"}]"#;
        assert_eq!(
            listed(calls, None).unwrap(),
            [
                call(Some("1"), "f", r#"{"b": 1, "a": 2}"#),
                call(Some("2"), "g", r#"{"b":1,"a":[2]}"#),
                call(None, "h", "{}")
            ]
        );
        let old = Tree::parse(r#"{"name":"f","arguments":"{}"}"#).unwrap();
        assert_eq!(told(|at, findings| function_call(&old, None, at, findings)).unwrap(), Some(call(None, "f", "{}")));
        for text in [r#"{"name": "f", "arguments": {}}"#, r#"[{"name": "f", "arguments": {}}]"#] {
            let tree = Tree::Text(text.to_owned());
            assert_eq!(told(|at, findings| spoken(&tree, None, at, findings)).unwrap(), [call(None, "f", "{}")]);
        }
    }

    #[test]
    fn faults_of_calls_are_told_by_their_places() {
        let calls = r#"[3, {"type":"code","function":{"name":"a b","arguments":"[]"}}, {"id":"x","function":{}}, {"id":7},
            {"id":"y","function":{"name":"f","arguments":""}}, {"id":"z","function":{"name":"f","arguments":"{}"}},
            {"id":"z","function":{"name":"g","arguments":"{}"}}, {"function":"f"}]"#;
        assert_eq!(
            listed(calls, Some(&["f".to_owned()])).unwrap_err(),
            [
                "calls[0] must be an object with id, type and function, not a number",
                "calls[1].type is \"code\", but must be \"function\"",
                "calls[1].function.name is \"a b\", but names of functions are made of a-z, A-Z, 0-9, _, - and .",
                "calls[1].function.arguments must be the JSON of an object, not of an array",
                "calls[2].function.name is missing",
                "calls[2].function.arguments is missing; write \"{}\" where there are none",
                "calls[3].id must be a string, not a number",
                "calls[3].function is missing",
                "calls[4].function.arguments is empty; write \"{}\" where there are none",
                "calls[6].function.name is \"g\", which is none of the tools: \"f\"",
                "calls[6].id is the id of another call of this message",
                "calls[7].function must be an object with name and arguments, not a string",
            ]
        );
        assert_eq!(listed("{}", None).unwrap_err(), ["calls must be a list, not an object"]);
        let many = format!("[{}]", vec!["{}"; 129].join(","));
        assert_eq!(listed(&many, None).unwrap_err(), ["calls has 129 calls where at most 128 are allowed"]);
        let text = Tree::Text("call f".to_owned());
        let faults = told(|at, findings| spoken(&text, None, at, findings)).unwrap_err();
        assert_eq!(faults, ["calls must be a call as JSON, with name and arguments, not a string"]);
    }
}
