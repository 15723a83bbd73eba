//! JSON as it is meant to be written: a key stands once in an object. Readers differ in which of two values they take,
//! so taking either would be a guess.
//!
//! Memory is bounded by what is kept, not by what is written: values that nobody asks for are walked over, and of their
//! objects only the keys are held, while they are read. All errors of our own have the category `Data`.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::domain::clip::clipped;

/// The most keys of one object.
pub const MAX_KEYS: usize = 10_000;

/// A list in a row keeps one item more than this, which tells that it is too long.
pub const MAX_ITEMS: usize = 10_000;

/// The most values that are kept of a row.
pub(super) const MAX_KEPT: usize = 10 * (MAX_KEYS + MAX_ITEMS);

/// A row of a data file: its fields, the items of lists in them, and the values and lists of objects in them. What lies deeper is
/// there, but empty.
pub struct Row(pub Value);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let left = Cell::new(MAX_KEPT);
        Walk { place: Level::Row, left: &left }.deserialize(deserializer).map(Self)
    }
}

/// Walks over a JSON text and keeps nothing of it.
///
/// # Errors
/// An object has a key twice or too many keys, or there are more than `most` values; or the text is no JSON.
pub fn check(text: &[u8], most: usize) -> serde_json::Result<()> {
    let left = Cell::new(most);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Walk { place: Level::Checked, left: &left }.deserialize(&mut deserializer).map(drop)
}

/// What is said of a key that stands twice, of an object with too many keys, and of too many values in all.
pub(super) fn duplicate<E: Error>(key: &str) -> E {
    E::custom(format!("a duplicate key {:?}", clipped(key)))
}

pub(super) fn too_many_keys<E: Error>() -> E {
    E::custom(format!("more than {MAX_KEYS} keys in one object"))
}

pub(super) fn too_many_values<E: Error>() -> E {
    E::custom("too many values")
}

/// What is wrong with a JSON text, in words for its owner.
pub(super) fn fault(text: &[u8], error: &serde_json::Error) -> String {
    let said = error.to_string();
    let what = said.split(" at line ").next().unwrap_or(&said);
    if error.is_data() {
        return format!("has {what}");
    }
    let place = text.split(|&byte| byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before = &place[..error.column().min(place.len())];
    let is_near = |word: &str| {
        place.windows(word.len()).skip(before.len().saturating_sub(2)).take(3).any(|w| w == word.as_bytes())
    };
    let what = if ["NaN", "Infinity"].into_iter().any(is_near) {
        "NaN and Infinity, which Python writes, are no JSON; leave the key out, or write null".into()
    } else if what.contains("hex escape") || what.contains("surrogate") {
        Cow::Borrowed("a character is escaped by half, as in \\ud83d alone; write the text in UTF-8")
    } else {
        Cow::Borrowed(what)
    };
    format!("is not valid JSON (column {}: {what})", error.column())
}

/// Where a value stands, which decides whether it is kept and counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Counted, and not kept.
    Checked,
    Row,
    Field,
    /// In an object that is a field.
    Inner,
    Item,
    /// Neither.
    Deeper,
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Walk<'a> {
    place: Level,
    /// How many more values may be counted.
    left: &'a Cell<usize>,
}

impl Walk<'_> {
    fn at(self, place: Level) -> Self {
        Self { place, ..self }
    }

    fn one<E: Error>(self, value: impl FnOnce() -> Value) -> Result<Value, E> {
        if self.place == Level::Deeper {
            return Ok(Value::Null);
        }
        let left = self.left.get().checked_sub(1).ok_or_else(too_many_values)?;
        self.left.set(left);
        Ok(if self.place == Level::Checked { Value::Null } else { value() })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.one(|| Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.one(|| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.one(|| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.one(|| Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.one(|| Value::String(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.one(|| Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.at(match self.place {
            Level::Checked => Level::Checked,
            Level::Field | Level::Inner => Level::Item,
            Level::Row | Level::Item | Level::Deeper => Level::Deeper,
        });
        let mut list = Vec::new();
        loop {
            let walk = if list.len() > MAX_ITEMS { self.at(Level::Deeper) } else { inside };
            let Some(item) = items.next_element_seed(walk)? else { break };
            if walk.place == Level::Item {
                list.push(item);
            }
        }
        self.one(|| Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inside = self.at(match self.place {
            Level::Checked => Level::Checked,
            Level::Row => Level::Field,
            Level::Field => Level::Inner,
            Level::Inner | Level::Item | Level::Deeper => Level::Deeper,
        });
        let (mut keys, mut map) = (HashSet::new(), Map::new());
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) || keys.contains(&key) {
                return Err(duplicate(&key));
            }
            if map.len().max(keys.len()) == MAX_KEYS {
                return Err(too_many_keys());
            }
            let value = entries.next_value_seed(inside)?;
            if matches!(inside.place, Level::Field | Level::Inner) {
                map.insert(key, value);
            } else {
                keys.insert(key);
            }
        }
        self.one(|| Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{MAX_ITEMS, MAX_KEYS, Row, check};

    fn row(text: &str) -> Value {
        serde_json::from_str::<Row>(text).unwrap().0
    }

    #[test]
    fn a_rows_values_are_those_of_serde_json() {
        for text in [r#"{"a":[1,-2,0.5,1e300,true,null,"x\n\u00e4"],"b":18446744073709551615}"#, "3", "\"a\""] {
            assert_eq!(row(text), serde_json::from_str::<Value>(text).unwrap());
        }
    }

    #[test]
    fn what_no_row_needs_is_not_kept() {
        assert_eq!(
            row(r#"{"a":[{"b":1},["c"],2],"d":{"e":[1,[2]],"f":{"g":3}}}"#),
            json!({"a": [{}, [], 2], "d": {"e": [1, []], "f": {}}})
        );
        let list = |items: usize| format!("[{}0]", "0,".repeat(items - 1));
        let long = format!("{{\"a\":{}}}", list(3 * MAX_ITEMS));
        assert_eq!(row(&long)["a"].as_array().unwrap().len(), MAX_ITEMS + 1);
        let many: Vec<String> = (0..30).map(|i| format!("\"{i}\":{}", list(MAX_ITEMS))).collect();
        let error = serde_json::from_str::<Row>(&format!("{{{}}}", many.join(","))).err().unwrap();
        assert!(error.is_data() && error.to_string().starts_with("too many values"), "{error}");
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error_wherever_it_is() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"b":{"a":1,"\u0061":2}}]}"#] {
            for error in [serde_json::from_str::<Row>(text).err().unwrap(), check(text.as_bytes(), 99).unwrap_err()] {
                assert!(error.is_data() && error.to_string().starts_with("a duplicate key \"a\""), "{error}");
            }
        }
    }

    #[test]
    fn keys_and_values_are_counted() {
        let keys: Vec<String> = (0..=MAX_KEYS).map(|i| format!("\"{i}\":0")).collect();
        let object = |count: usize| format!("{{{}}}", keys[..count].join(","));
        assert!(check(object(MAX_KEYS).as_bytes(), usize::MAX).is_ok());
        let error = check(object(MAX_KEYS + 1).as_bytes(), usize::MAX).unwrap_err();
        assert!(error.is_data() && error.to_string().starts_with("more than 10000 keys"), "{error}");
        // Two numbers, the list around them, and the object.
        let text = br#"{"a":[1,2]}"#;
        assert!(check(text, 4).is_ok());
        assert!(check(text, 3).unwrap_err().is_data());
        for broken in ["{", "{\"a\":", "[1,", "\"\\x\"", &"[".repeat(200)] {
            assert!(!check(broken.as_bytes(), 99).unwrap_err().is_data(), "{broken}");
        }
    }
}
