//! What of the hyperparameters shapes a training, so that a run can tell whether a checkpoint is one of its own.

use serde_json::{Map, Value};

use super::super::method::Method;
use super::{Hyperparameters, Rule, definitions};

impl Hyperparameters {
    /// The values that decide what a run of `method` computes, by name, without those at their defaults: so a version that
    /// knows further hyperparameters says the same of a run that uses none of them.
    pub fn that_shape(&self, method: Method) -> Map<String, Value> {
        let Ok(Value::Object(mut values)) = serde_json::to_value(self) else { return Map::new() };
        let shaping = definitions(method).filter(|definition| definition.shapes_training);
        shaping
            .filter_map(|definition| {
                let value = values.remove(definition.name)?;
                let value = match definition.rule {
                    Rule::Object { fields, .. } => without_defaults(value, &fields()),
                    _ => value,
                };
                (value != definition.default.value()).then(|| (definition.name.to_owned(), value))
            })
            .collect()
    }
}

/// An object without what is as in `defaults`; of objects in it the same, but that they are there is kept.
fn without_defaults(value: Value, defaults: &Value) -> Value {
    let (Value::Object(fields), Value::Object(defaults)) = (&value, defaults) else { return value };
    let kept = fields.iter().filter_map(|(name, field)| match defaults.get(name) {
        Some(default) if default.is_object() => Some((name.clone(), without_defaults(field.clone(), default))),
        Some(default) if default == field => None,
        _ => Some((name.clone(), field.clone())),
    });
    Value::Object(kept.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::without_defaults;

    #[test]
    fn objects_lose_what_is_as_usual_at_any_depth() {
        let defaults = json!({"a": 1, "b": null, "c": {"d": 2, "e": 3}});
        let of = |value| without_defaults(value, &defaults);
        assert_eq!(of(json!({"a": 1, "b": null})), json!({}));
        assert_eq!(of(json!({"a": 2, "b": 0})), json!({"a": 2, "b": 0}));
        assert_eq!(of(json!({"c": {"d": 2, "e": 4}})), json!({"c": {"e": 4}}));
        assert_eq!(of(json!({"c": {"d": 2, "e": 3}})), json!({"c": {}}));
        assert_eq!(of(json!("none")), json!("none"));
    }
}
