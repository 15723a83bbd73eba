//! The tools of a conversation, each as the JSON that chat templates expect, whichever way it is described.

use super::findings::Findings;
use super::parse::{function_name, must_be};
use super::path::Path;
use super::remarks::Remark;
use crate::dataset::row::MISSING;
use crate::dataset::tree::{Object, Tree};
use crate::domain::clip::clipped;

/// The most tools of a conversation.
const MOST_TOOLS: usize = 128;

/// Tools, by the JSON of each and by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tools {
    pub(super) texts: Vec<String>,
    names: Vec<String>,
    are_whole: bool,
}

impl Tools {
    /// The names of all of them; None where there are none, or something is wrong with them.
    pub(super) fn names(&self) -> Option<&[String]> {
        (self.are_whole && !self.names.is_empty()).then_some(&self.names)
    }
}

/// Reads `tools`, or what they were before: `functions`. What is wrong is among the findings, here and below.
pub(super) fn read(
    tools: Option<&Tree>,
    functions: Option<&Tree>,
    above: Option<&Path<'_>>,
    findings: &mut Findings,
) -> Tools {
    let place = |name: &'static str| above.map_or_else(|| Path::field(name), |above| above.key(name));
    // Tables without a tool in a row have an empty cell there.
    let is_given = |tree: &&Tree| tree.as_text().is_none_or(|text| !text.trim().is_empty());
    let (tools, functions) = (tools.filter(is_given), functions.filter(is_given));
    let before = findings.count();
    let mut found = Tools::default();
    if tools.is_some() && functions.is_some() {
        findings.fault(
            place("functions"),
            "stands beside tools; functions are what tools were called before, so give tools alone",
        );
    } else if let Some(tree) = tools {
        found = list(tree, false, &place("tools"), findings);
    } else if let Some(tree) = functions {
        findings.remark(Remark::Functions);
        found = list(tree, true, &place("functions"), findings);
    }
    found.are_whole = findings.count() == before;
    found
}

fn list(tree: &Tree, are_functions: bool, at: &Path<'_>, findings: &mut Findings) -> Tools {
    let mut tools = Tools::default();
    let Some(tree) = findings.unpacked(tree, at) else { return tools };
    let Some(items) = tree.as_list() else {
        findings.fault(at, must_be("a list", &tree));
        return tools;
    };
    if items.len() > MOST_TOOLS {
        findings.fault(at, format!("has {} tools where at most {MOST_TOOLS} are allowed", items.len()));
        return tools;
    }
    for (number, item) in items.iter().enumerate() {
        let at = at.item(number);
        let Some(item) = findings.unpacked(item, &at) else { continue };
        let Some(object) = item.as_object() else {
            findings.fault(at, must_be("an object", &item));
            continue;
        };
        let Some((name, text)) = tool(object, are_functions, &at, findings) else { continue };
        if tools.names.contains(&name) {
            findings.fault(at, format!("has the name of an earlier one: \"{name}\""));
        }
        tools.names.push(name);
        tools.texts.push(text);
    }
    tools
}

/// The name of a tool and its JSON: `{"type": "function", "function": {…}}`, even where the function stands alone.
fn tool(object: &Object, is_function: bool, at: &Path<'_>, findings: &mut Findings) -> Option<(String, String)> {
    match object.get("type").filter(|_| !is_function) {
        Some(Tree::Text(word)) if word == "function" => {}
        Some(Tree::Text(word)) => {
            findings.fault(at.key("type"), format!("is \"{}\", but must be \"function\"", clipped(word)));
        }
        Some(other) => findings.fault(at.key("type"), must_be("\"function\"", other)),
        None => {}
    }
    match object.get("function").filter(|_| !is_function) {
        Some(Tree::Object(inner)) => {
            let name = function(inner, &at.key("function"), findings)?;
            let is_typed = object.get("type").is_some();
            let text = if is_typed { Tree::Object(object.clone()) } else { wrapped(inner.clone()) };
            Some((name, text.to_string()))
        }
        Some(other) => findings.refuse(at.key("function"), must_be("an object with a name", other)),
        None if is_function || object.get("name").is_some() => {
            let name = function(object, at, findings)?;
            let fields = object.0.iter().filter(|(key, _)| is_function || key != "type").cloned().collect();
            Some((name, wrapped(Object(fields)).to_string()))
        }
        None => findings.refuse(at.key("function"), MISSING),
    }
}

fn wrapped(function: Object) -> Tree {
    let kind = ("type".to_owned(), Tree::Text("function".to_owned()));
    Tree::Object(Object(vec![kind, ("function".to_owned(), Tree::Object(function))]))
}

/// The name of a function, if all that is known of functions is as it should be.
fn function(object: &Object, at: &Path<'_>, findings: &mut Findings) -> Option<String> {
    let before = findings.count();
    let name = object.get("name").map_or_else(|| Err(MISSING.to_owned()), function_name);
    let name = findings.keep(at.key("name"), name);
    if let Some(other) = object.get("description").filter(|tree| tree.as_text().is_none()) {
        findings.fault(at.key("description"), must_be("a string", other));
    }
    match object.get("parameters") {
        None => {}
        Some(Tree::Object(schema)) => parameters(schema, &at.key("parameters"), findings),
        Some(other) => findings.fault(at.key("parameters"), must_be("an object, a JSON schema", other)),
    }
    name.filter(|_| findings.count() == before)
}

/// Looks at a JSON schema as far as it is sure to be one: some list the parameters without one.
fn parameters(schema: &Object, at: &Path<'_>, findings: &mut Findings) {
    let Some(kind) = schema.get("type").and_then(Tree::as_text) else { return };
    if kind != "object" {
        findings.fault(at.key("type"), format!("is \"{}\", but must be \"object\"", clipped(kind)));
        return;
    }
    if let Some(other) = schema.get("properties").filter(|tree| tree.as_object().is_none()) {
        findings.fault(at.key("properties"), must_be("an object", other));
    }
    let are_names = |tree: &Tree| tree.as_list().is_some_and(|names| names.iter().all(|name| name.as_text().is_some()));
    if schema.get("required").is_some_and(|tree| !are_names(tree)) {
        findings.fault(at.key("required"), "must be a list of names");
    }
}

#[cfg(test)]
mod tests {
    use super::{Findings, Tools, Tree, read};
    use crate::dataset::chats::findings::Remarks;
    use crate::dataset::entries::Entry;

    fn tools(json: &str, key: &str) -> Result<Tools, Vec<String>> {
        let tree = Tree::parse(json).unwrap();
        let mut findings = Findings::new(1);
        let pick = |name: &str| (key == name || key == "both").then_some(&tree);
        let tools = read(pick("tools"), pick("functions"), None, &mut findings);
        match findings.entry(Some(tools), &Remarks::default()) {
            Entry::Good(tools) => Ok(tools),
            Entry::Faulty(faults) => {
                Err(faults.into_iter().map(|fault| format!("{} {}", fault.field.unwrap(), fault.message)).collect())
            }
            _ => Err(Vec::new()),
        }
    }

    #[test]
    fn tools_are_openais_whichever_way_they_are_described() {
        let openai = r#"{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"z":{},"a":{}}}}}"#;
        let flat = r#"{"name":"f","parameters":{"type":"object","properties":{"z":{},"a":{}}}}"#;
        for (json, key) in [
            (format!("[{openai}]"), "tools"),
            (format!("[{flat}]"), "tools"),
            (format!("[{flat}]"), "functions"),
            (format!("[{}]", openai.replacen(r#""type":"function","#, "", 1)), "tools"),
            (format!("[{}]", flat.replacen('{', r#"{"type":"function","#, 1)), "tools"),
            (serde_json::to_string(&format!("[{openai}]")).unwrap(), "tools"),
            (format!("[{}]", serde_json::to_string(flat).unwrap()), "tools"),
        ] {
            let found = tools(&json, key).unwrap();
            assert_eq!(
                (found.texts.as_slice(), found.names()),
                (&[openai.to_owned()][..], Some(&["f".to_owned()][..])),
                "{json}"
            );
        }
        assert_eq!(tools("[]", "tools").unwrap().names(), None);
        let loose = r#"[{"name":"f","parameters":{"type":{"type":"str"},"required":{"type":"bool"}}}]"#;
        assert!(tools(loose, "tools").is_ok(), "parameters that are called like words of schemas");
    }

    #[test]
    fn faults_of_tools_are_told_by_their_places() {
        let bad = r#"[3, {}, {"type":"retrieval"}, {"type":"function","function":{"name":"a b","parameters":[]}},
            {"type":"function","function":7}, {"name":"f","description":1,"parameters":{"type":"array"}},
            {"name":"g","parameters":{"type":"object","properties":[],"required":["a",1]}}, {"name":"h"}, {"name":"h"}, "{"]"#;
        assert_eq!(
            tools(bad, "tools").unwrap_err(),
            [
                "tools[0] must be an object, not a number",
                "tools[1].function is missing",
                "tools[2].type is \"retrieval\", but must be \"function\"",
                "tools[2].function is missing",
                "tools[3].function.name is \"a b\", but names of functions are made of a-z, A-Z, 0-9, _, - and .",
                "tools[3].function.parameters must be an object, a JSON schema, not an array",
                "tools[4].function must be an object with a name, not a number",
                "tools[5].description must be a string, not a number",
                "tools[5].parameters.type is \"array\", but must be \"object\"",
                "tools[6].parameters.properties must be an object, not an array",
                "tools[6].parameters.required must be a list of names",
                "tools[8] has the name of an earlier one: \"h\"",
                "tools[9] is a string that is not valid JSON (column 1: EOF while parsing an object)",
            ]
        );
        assert_eq!(tools("{}", "tools").unwrap_err(), ["tools must be a list, not an object"]);
        let many = format!("[{}]", vec![r#"{"name":"f"}"#; 129].join(","));
        assert_eq!(tools(&many, "tools").unwrap_err(), ["tools has 129 tools where at most 128 are allowed"]);
        assert_eq!(tools("[{}]", "functions").unwrap_err(), ["functions[0].name is missing"]);
        assert!(tools("[]", "both").unwrap_err()[0].starts_with("functions stands beside tools;"));
    }
}
