//! The inputs of a request, read from its body as what they are: no more of them is held than is allowed.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::domain::error::{Error, Result};
use crate::domain::serving::{Input, MAX_INPUTS};

/// Reads the field `input` of a request's body, which is a JSON object that has it: a text, a list of texts and pairs
/// of texts, or of images as data URLs.
///
/// # Errors
/// An input cannot be used; the error names its place.
pub fn read_inputs(body: &[u8], is_vision: bool) -> Result<Vec<Input>> {
    let wanted = if is_vision {
        "an image as a data URL (\"data:image/png;base64,…\"), or a list of those"
    } else {
        "a text, or a list of texts and of pairs of texts"
    };
    // That it is JSON is known; the limit is serde_json's.
    let too_deep = |_| Error::invalid("input", format!("input is nested too deeply. It must be {wanted}."));
    let Body { input } = serde_json::from_slice(body).map_err(too_deep)?;
    let (items, count) = match input {
        Sent::List { items, count } => (items, count),
        Sent::Text(text) => (vec![Sent::Text(text)], 1),
        Sent::Other => return Err(Error::invalid("input", format!("input must be {wanted}."))),
    };
    if count == 0 || count > MAX_INPUTS {
        let message = format!("input has {count} items; 1 to {MAX_INPUTS} are allowed.");
        return Err(Error::invalid("input", message));
    }
    items.into_iter().enumerate().map(|(index, item)| one(index, item, is_vision)).collect()
}

fn one(index: usize, item: Sent, is_vision: bool) -> Result<Input> {
    let refuse = |what: &str| {
        let place = format!("input[{index}]");
        Err(Error::invalid(place.clone(), format!("{place} {what}.")))
    };
    let input = match item {
        Sent::Text(text) => Some(Input::One(text)),
        Sent::List { items, count: 2 } if !is_vision => pair(items),
        _ => None,
    };
    match input {
        None if is_vision => refuse("must be an image as a data URL"),
        None => refuse("must be a text or a pair of texts"),
        Some(Input::One(text)) if text.trim().is_empty() => refuse("is empty"),
        Some(Input::Pair(text, pair)) if text.trim().is_empty() || pair.trim().is_empty() => refuse("is empty"),
        Some(input) => Ok(input),
    }
}

fn pair(items: Vec<Sent>) -> Option<Input> {
    match <[Sent; 2]>::try_from(items) {
        Ok([Sent::Text(text), Sent::Text(pair)]) => Some(Input::Pair(text, pair)),
        _ => None,
    }
}

struct Body {
    input: Sent,
}

/// What stands where inputs may.
enum Sent {
    Text(String),
    /// The first items, and how many there are.
    List {
        items: Vec<Self>,
        count: usize,
    },
    Other,
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Body;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Body, A::Error> {
                let mut input = Sent::Other;
                while let Some(name) = fields.next_key::<String>()? {
                    if name == "input" {
                        input = fields.next_value()?;
                    } else {
                        fields.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Body { input })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Sent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Sent, E> {
        Ok(Sent::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sent, E> {
        Ok(Sent::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Sent, E> {
        Ok(Sent::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Sent, E> {
        Ok(Sent::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Sent, E> {
        Ok(Sent::Other)
    }

    fn visit_unit<E>(self) -> Result<Sent, E> {
        Ok(Sent::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sent, A::Error> {
        let (mut items, mut count) = (Vec::new(), 0);
        while items.len() < MAX_INPUTS {
            let Some(item) = list.next_element()? else { return Ok(Sent::List { items, count }) };
            items.push(item);
            count += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Sent::List { items, count })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Sent, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Sent::Other)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Input, read_inputs};

    fn inputs(input: &Value, is_vision: bool) -> super::Result<Vec<Input>> {
        read_inputs(json!({"model": "m", "input": input, "top_k": 1}).to_string().as_bytes(), is_vision)
    }

    #[test]
    fn texts_pairs_and_images_are_told_apart() {
        assert_eq!(inputs(&json!("a\n\u{e4}"), false).unwrap(), [Input::One("a\n\u{e4}".into())]);
        let mixed = inputs(&json!(["a", ["b", "c"]]), false).unwrap();
        assert_eq!(mixed, [Input::One("a".into()), Input::Pair("b".into(), "c".into())]);
        assert_eq!(inputs(&Value::from(vec!["x"; 256]), true).unwrap().len(), 256);
        let deep = |depth: usize| (1..depth).fold(json!([]), |inner, _| json!([inner]));
        for (value, is_vision, param, message) in [
            (deep(50), false, "input[0]", "a pair of texts"),
            (deep(127), false, "input", "nested too deeply"),
            (json!(true), false, "input", "must be a text"),
            (json!({"text": "a"}), false, "input", "must be a text"),
            (json!([]), false, "input", "has 0 items; 1 to 256"),
            (Value::from(vec!["x"; 257]), false, "input", "has 257 items"),
            (json!(["a", "", "b"]), false, "input[1]", "is empty"),
            (json!([["a", " "]]), false, "input[0]", "is empty"),
            (json!(["a", ["b"]]), false, "input[1]", "a pair of texts"),
            (json!(["a", ["b", "c", "d"]]), false, "input[1]", "a pair of texts"),
            (json!([["a", ["b"]]]), false, "input[0]", "a pair of texts"),
            (json!([1]), false, "input[0]", "must be a text"),
            (json!([null]), false, "input[0]", "must be a text"),
            (json!([["a", "b"]]), true, "input[0]", "an image"),
            (json!(3), true, "input", "an image"),
        ] {
            let error = inputs(&value, is_vision).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{value}");
            assert!(error.message.contains(message), "{value}: {}", error.message);
        }
    }
}
