//! JSON texts as the values that templates read.

use minijinja::Value;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::python::{DEEPEST, Numeral, float};

/// Reads a JSON text as Python does: keys in their order, integers of any length.
///
/// # Errors
/// It is no JSON, or lists and objects lie too deep in one another.
pub(super) fn read(text: &str) -> serde_json::Result<Value> {
    read_at(serde_json::from_str(text)?, 0)
}

fn read_at(raw: &RawValue, depth: usize) -> serde_json::Result<Value> {
    let text = raw.get();
    if depth > DEEPEST {
        return Err(de::Error::custom(format!("lists and objects lie more than {DEEPEST} deep in one another")));
    }
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let entries = serde_json::from_str::<Entries<'_>>(text)?.0.into_iter();
            let entries = entries.map(|(key, value)| Ok((key, read_at(value, depth + 1)?)));
            Value::from_pairs(entries.collect::<serde_json::Result<Vec<_>>>()?)
        }
        Some(b'[') => {
            let items = serde_json::from_str::<Vec<&RawValue>>(text)?.into_iter();
            Value::from(items.map(|item| read_at(item, depth + 1)).collect::<serde_json::Result<Vec<_>>>()?)
        }
        Some(b'"') => Value::from(serde_json::from_str::<String>(text)?),
        Some(b't' | b'f') => Value::from(serde_json::from_str::<bool>(text)?),
        Some(b'n') => Value::from(()),
        _ => number_of(text),
    })
}

fn number_of(text: &str) -> Value {
    if text.contains(['.', 'e', 'E']) {
        let number = text.parse::<f64>().unwrap_or(f64::INFINITY);
        let (value, written) = (Value::from(number), float(number));
        return if value.to_string() == written { value } else { Value::from_object(Numeral(written)) };
    }
    match (text.parse::<i64>(), text.parse::<i128>()) {
        (Ok(number), _) => Value::from(number),
        (_, Ok(number)) => Value::from(number),
        _ => Value::from_object(Numeral(text.to_owned())),
    }
}

/// The keys of a text that is an object, in their order.
///
/// # Errors
/// It is no object.
pub(super) fn keys(text: &str) -> serde_json::Result<Vec<String>> {
    Ok(serde_json::from_str::<Entries<'_>>(text)?.0.into_iter().map(|(key, _)| key).collect())
}

/// The text of an object whose values are texts.
pub(super) fn object(entries: impl Iterator<Item = (String, String)>) -> String {
    let quoted = |text| serde_json::Value::String(text).to_string();
    let entries: Vec<String> = entries.map(|(key, value)| format!("{}: {}", quoted(key), quoted(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// The entries of an object, their values not read yet.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tojson::dumps;
    use super::*;

    #[test]
    fn a_text_that_is_read_is_written_as_python_would() {
        for (text, expected) in [
            (
                r#"{"b":1,"a":[true,null,"\u00e9\ud83d\ude42\u2028"],"b":2}"#,
                "{\"b\": 2, \"a\": [true, null, \"é🙂\u{2028}\"]}",
            ),
            ("[1.0, 1e-7, 1E16, -0.0, -0, 1e999, 0.1]", "[1.0, 1e-07, 1e+16, -0.0, 0, Infinity, 0.1]"),
            (
                "[12345678901234567890, 340282366920938463463374607431768211456]",
                "[12345678901234567890, 340282366920938463463374607431768211456]",
            ),
            (r#""\b\f\u0001\u007f/\/""#, "\"\\b\\f\\u0001\u{7f}//\""),
        ] {
            assert_eq!(dumps(&read(text).unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_json_or_too_deep_is_refused() {
        for text in ["", "{", "{a: 1}", "[1,]", "NaN", "\"\\ud800\"", "1 2"] {
            assert!(read(text).is_err(), "{text}");
        }
        for depth in [202, 100_000] {
            let error = read(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))).unwrap_err().to_string();
            assert!(error.contains("more than 200 deep"), "{error}");
        }
        assert!(read(&format!("{}{}", "[".repeat(150), "]".repeat(150))).is_ok());
    }

    #[test]
    fn keys_are_in_the_order_of_the_text() {
        assert_eq!(keys(r#"{"b": {"x": 1}, "a": [2], "\n": 3}"#).unwrap(), ["b", "a", "\n"]);
        assert!(keys("[1]").is_err());
        let entries = [("a\"", "é"), ("b", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(object(entries.into_iter()), r#"{"a\"": "é", "b": ""}"#);
    }
}
