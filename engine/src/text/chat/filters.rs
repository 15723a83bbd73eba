//! Filters and tests of jinja2, as far as the engine's own differ.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, State, Value, filters};

use super::methods::strip;
use super::python::{Numeral, text_of};

/// Puts them over the engine's.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_filter("trim", trim);
    environment.add_filter("string", |value: &Value| text_of(value));
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("forceescape", escape);
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", is_sequence);
    environment.add_test("callable", is_callable);
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool) || value.downcast_object_ref::<Numeral>().is_some()
    });
}

/// `trim(value, chars=None)`: what `str.strip` takes away.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the engine calls")]
fn trim(value: &Value, characters: Option<Value>, named: Kwargs) -> Result<String, Error> {
    let characters = match characters {
        Some(characters) => Some(characters),
        None => named.get::<Option<Value>>("chars")?,
    };
    named.assert_all_used()?;
    let characters = characters.as_ref().and_then(Value::as_str);
    Ok(strip(&text_of(value)?, characters, true, true).to_owned())
}

/// `default(value, default_value='', boolean=False)`.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the engine calls")]
fn default(value: &Value, other: Option<Value>, of_false: Option<bool>, named: Kwargs) -> Result<Value, Error> {
    let other = match other {
        Some(other) => other,
        None => named.get::<Option<Value>>("default_value")?.unwrap_or_else(|| Value::from("")),
    };
    let of_false = of_false.or(named.get("boolean")?).unwrap_or_default();
    named.assert_all_used()?;
    Ok(if value.is_undefined() || of_false && !value.is_true() { other } else { value.clone() })
}

/// `int(value, default=0, base=10)`: what is no number is no error.
fn int(
    state: &State<'_, '_>,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    named: Kwargs,
) -> Result<Value, Error> {
    let default = match default {
        Some(default) => default,
        None => named.get::<Option<Value>>("default")?.unwrap_or_else(|| Value::from(0)),
    };
    filters::int(state, value, Some(default), base, named)
}

/// `escape(value)`, with the entities of `MarkupSafe`.
fn escape(value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let text = text_of(value)?.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Ok(Value::from_safe_string(text.replace('\'', "&#39;").replace('"', "&#34;")))
}

/// What has a length and can be indexed: texts and objects too.
fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::String | ValueKind::Map | ValueKind::Undefined
    )
}

/// Functions and macros.
fn is_callable(value: &Value) -> bool {
    value.kind() == ValueKind::Plain && value.downcast_object_ref::<Numeral>().is_none()
}
