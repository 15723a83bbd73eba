//! openapi.yaml as a judge: every answer must be one that it describes.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::client::Answer;

/// The document.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_yaml_ng::from_str(include_str!("../../openapi.yaml")).unwrap())
}

/// The template of the document's paths that a path fits, and what the document says of it.
fn template(path: &str) -> Option<(&'static str, &'static Value)> {
    let fits = |template: &str| {
        let mut segments = path.split('/');
        for part in template.split('/') {
            match segments.next() {
                // The one parameter that takes the rest of the path.
                Some(_) if part == "{path}" => return true,
                Some(segment) if part.starts_with('{') && !segment.is_empty() => {}
                Some(segment) if part == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    };
    let paths = document()["paths"].as_object().unwrap();
    paths.iter().find(|(template, _)| fits(template)).map(|(template, item)| (template.as_str(), item))
}

/// Follows a reference within the document.
fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => document().pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// Fails unless the document describes this answer to this request.
#[track_caller]
pub fn check(method: &str, path: &str, answer: &Answer) {
    let text = String::from_utf8_lossy(&answer.bytes[..answer.bytes.len().min(2000)]);
    let what = format!("{method} {path}: {} {text}", answer.status);
    assert!(answer.header("x-request-id").is_some_and(|id| id.starts_with("req_")), "no request id: {what}");
    assert_eq!(answer.header("openai-version"), Some("2020-10-01"), "{what}");
    assert!(answer.header("openai-processing-ms").is_some_and(|ms| ms.parse::<u64>().is_ok()), "{what}");
    let operation = template(path).map(|(_, item)| &item[method.to_lowercase()]).filter(|op| op.is_object());
    let Some(operation) = operation else {
        // What the document does not know must be refused, in the envelope.
        assert!(matches!(answer.status, 404 | 405), "{what}");
        return validate(&json!({"$ref": "#/components/schemas/ErrorResponse"}), &answer.json(), &what);
    };
    let responses = &operation["responses"];
    let status = answer.status.to_string();
    let response = responses.get(&status).or_else(|| responses.get("default"));
    let response = resolve(response.unwrap_or_else(|| panic!("the status is not described: {what}")));
    let Some(content) = response["content"].as_object() else {
        assert!(answer.bytes.is_empty(), "a body is not described: {what}");
        return;
    };
    let given = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    if let Some(media) = content.get("text/event-stream").filter(|_| given == "text/event-stream") {
        return check_events(&media["schema"], &answer.bytes, &what);
    }
    match content.get("application/json") {
        Some(media) => {
            assert_eq!(given, "application/json", "{what}");
            validate(&media["schema"], &answer.json(), &what);
        }
        None if content.contains_key("application/octet-stream") => assert!(!given.is_empty(), "{what}"),
        None => assert!(content.contains_key(given), "content type {given}: {what}"),
    }
}

/// Server-sent events as OpenAI's clients read them: chunks, and the mark of their end, or an error.
#[track_caller]
fn check_events(schema: &Value, bytes: &[u8], what: &str) {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut chunks: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let last = chunks.pop().unwrap_or_else(|| panic!("no events: {what}"));
    if last != "[DONE]" {
        let error = json!({"$ref": "#/components/schemas/ErrorResponse"});
        validate(&error, &serde_json::from_str(last).unwrap(), what);
    }
    for chunk in chunks {
        validate(schema, &serde_json::from_str(chunk).unwrap(), what);
    }
}

#[track_caller]
fn validate(schema: &Value, instance: &Value, what: &str) {
    let root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": [schema],
        "components": document()["components"],
    });
    let validator = jsonschema::validator_for(&root).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(instance).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(faults.is_empty(), "{}\n{what}", faults.join("\n"));
}
