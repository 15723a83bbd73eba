//! openapi.yaml against the router and against the definitions in the code.

use std::collections::BTreeSet;

use finetuned::domain::hyperparameters::{Definition, Rule, definitions};
use finetuned::domain::job::JOB_ERROR_CODES;
use finetuned::domain::method::METHODS;
use serde_json::{Value, json};

use super::support::contract::document;

#[test]
fn the_document_and_the_router_have_the_same_operations() {
    let routed: BTreeSet<(String, String, String)> = finetuned::api::routes()
        .into_iter()
        .map(|route| (route.method.to_string(), route.path.replace("{*path}", "{path}"), route.operation.to_owned()))
        .collect();
    let mut described = BTreeSet::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
            let id = operation["operationId"].as_str().unwrap();
            described.insert((method.to_uppercase(), path.clone(), id.to_owned()));
        }
    }
    assert_eq!(routed, described);
}

#[test]
fn the_document_and_the_router_have_the_same_query_parameters() {
    for route in finetuned::api::routes() {
        let operation =
            &document()["paths"][route.path.replace("{*path}", "{path}")][route.method.as_str().to_lowercase()];
        let described: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|parameter| match parameter["$ref"].as_str() {
                Some(reference) => document().pointer(reference.trim_start_matches('#')).unwrap(),
                None => parameter,
            })
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let read: BTreeSet<&str> = route.query.unwrap_or_default().iter().copied().collect();
        assert_eq!(read, described, "{} {}", route.method, route.path);
        assert_eq!(route.query.is_none(), !route.path.starts_with("/v1"), "{}", route.path);
    }
}

#[test]
fn every_path_parameter_is_described() {
    for (path, item) in document()["paths"].as_object().unwrap() {
        let named: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let described: BTreeSet<&str> = item["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|parameter| match parameter["$ref"].as_str() {
                Some(reference) => document().pointer(reference.trim_start_matches('#')).unwrap(),
                None => parameter,
            })
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(named, described, "{path}");
    }
}

/// A hyperparameter as openapi.yaml should have it.
fn schema_of(name: &str, rule: Rule, auto: bool) -> Value {
    let schema = match rule {
        Rule::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Rule::Number { min, min_included, max, max_included } => {
            let (low, high) = (
                if min_included { "minimum" } else { "exclusiveMinimum" },
                if max_included { "maximum" } else { "exclusiveMaximum" },
            );
            json!({"type": "number", low: min, high: max})
        }
        Rule::Word(words) => json!({"enum": words}),
        Rule::Flag => json!({"type": "boolean"}),
        Rule::Object { .. } => {
            let words = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>();
            json!({"$ref": format!("#/components/schemas/{words}")})
        }
        Rule::Interval => {
            return json!({"anyOf": [{"const": "epoch"}, {"type": "integer", "minimum": 1, "maximum": 1_000_000_000}]});
        }
    };
    if auto { json!({"anyOf": [{"const": "auto"}, schema]}) } else { schema }
}

/// Numbers compare as numbers: 1 and 1.0 are the same bound.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap()),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), normal(value))).collect(),
        other => other.clone(),
    }
}

/// The hyperparameters of all methods, each once. What several methods have means the same in all of them.
fn all_definitions() -> Vec<&'static Definition> {
    let mut all: Vec<&Definition> = Vec::new();
    for definition in METHODS.into_iter().flat_map(definitions) {
        match all.iter().find(|known| known.name == definition.name) {
            None => all.push(definition),
            Some(known) => assert_eq!(known.doc, definition.doc, "{}", definition.name),
        }
    }
    all
}

#[test]
fn hyperparameters_are_described_as_they_are_defined() {
    let described = document()["components"]["schemas"]["RequestedHyperparameters"]["properties"].as_object().unwrap();
    let names: Vec<&str> = all_definitions().iter().map(|definition| definition.name).collect();
    assert_eq!(described.keys().map(String::as_str).collect::<BTreeSet<_>>(), names.into_iter().collect());
    for definition in all_definitions() {
        let mut schema = described[definition.name].as_object().unwrap().clone();
        let doc = schema.remove("description").unwrap();
        assert_eq!(doc.as_str().unwrap().trim_start_matches("**Extension.** "), definition.doc);
        let default = schema.remove("default").unwrap_or_default();
        assert_eq!(normal(&default), normal(&definition.default.value()), "{}", definition.name);
        assert_eq!(
            normal(&Value::Object(schema)),
            normal(&schema_of(definition.name, definition.rule, definition.auto)),
            "{}",
            definition.name
        );
    }
}

#[test]
fn every_code_of_a_failed_job_is_described() {
    let text = include_str!("../../openapi.yaml");
    for code in JOB_ERROR_CODES {
        assert!(text.contains(&format!("`{code}`")), "{code}");
    }
}

#[test]
fn the_manuals_have_a_row_for_every_hyperparameter_and_setting() {
    let hyperparameters = include_str!("../../docs/hyperparameters.md");
    for definition in all_definitions() {
        let row = hyperparameters.lines().find(|line| line.starts_with(&format!("| `{}` |", definition.name)));
        assert!(row.is_some_and(|row| row.contains(definition.doc)), "{}: {row:?}", definition.name);
    }
    let settings = include_str!("../../docs/settings.md");
    for setting in finetuned::config::SETTINGS {
        let row = settings.lines().find(|line| line.starts_with(&format!("| `{}` |", setting.env)));
        assert!(row.is_some_and(|row| row.contains(setting.doc)), "{}: {row:?}", setting.env);
    }
}
