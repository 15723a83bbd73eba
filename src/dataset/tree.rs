//! JSON values as they stand: however deep they lie, and with the keys of objects in their order. Rows of conversations are
//! made of them, since chat templates show tools and arguments to a model in the order in which they are written.

use std::cell::Cell;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::json::{self, MAX_KEPT, MAX_KEYS, duplicate, too_many_keys, too_many_values};

/// How deep lists and objects may lie in each other: less deep than `serde_json` reads, so that whoever reads what a tree is
/// written as can, though something stands around it.
const DEEPEST: usize = 100;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Object(Object),
}

/// Keys, none twice, and their values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object(pub(super) Vec<(String, Tree)>);

impl Object {
    /// The value under `key`; None where it is absent or null, which writers of tables do not tell apart.
    pub(super) fn get(&self, key: &str) -> Option<&Tree> {
        let (_, value) = self.0.iter().find(|(name, _)| name == key)?;
        (*value != Tree::Null).then_some(value)
    }

    /// Its keys, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// About how many bytes it holds.
    pub(super) fn weight(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.weight()).sum()
    }
}

impl Tree {
    /// Reads a JSON text.
    ///
    /// # Errors
    /// What is wrong with it, in words for its owner.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| json::fault(text.as_bytes(), &error))
    }

    /// What it is, as a message says it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    pub(super) fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The same without the order of keys.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => (*flag).into(),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => items.iter().map(Self::value).collect(),
            Self::Object(object) => object.0.iter().map(|(key, value)| (key.clone(), value.value())).collect(),
        }
    }

    fn weight(&self) -> usize {
        const ANY: usize = 32;
        match self {
            Self::Text(text) => ANY + text.len(),
            Self::List(items) => ANY + items.iter().map(Self::weight).sum::<usize>(),
            Self::Object(object) => ANY + object.weight(),
            Self::Null | Self::Bool(_) | Self::Number(_) => ANY,
        }
    }
}

impl From<&Value> for Tree {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(map) => {
                Self::Object(Object(map.iter().map(|(key, value)| (key.clone(), value.into())).collect()))
            }
        }
    }
}

/// As JSON, without white space.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => quoted(text, f),
            Self::List(items) => {
                f.write_str("[")?;
                for (number, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if number > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Object(object) => {
                f.write_str("{")?;
                for (number, (key, value)) in object.0.iter().enumerate() {
                    f.write_str(if number > 0 { "," } else { "" })?;
                    quoted(key, f)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Walk { left: &Cell::new(MAX_KEPT), depth: 0 }.deserialize(deserializer)
    }
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Walk<'a> {
    /// How many more values may be kept.
    left: &'a Cell<usize>,
    /// How many lists and objects it lies in.
    depth: usize,
}

impl Walk<'_> {
    fn keep<E: Error>(self, tree: Tree) -> Result<Tree, E> {
        self.left.set(self.left.get().checked_sub(1).ok_or_else(too_many_values)?);
        Ok(tree)
    }

    fn inside<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(E::custom(format!("lists and objects that lie more than {DEEPEST} deep in each other")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        self.keep(Tree::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        self.keep(Tree::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        self.keep(Tree::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        self.keep(Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        self.keep(Tree::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Tree, E> {
        self.keep(Tree::Text(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        self.keep(Tree::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let (mut list, inside) = (Vec::new(), self.inside()?);
        while let Some(item) = items.next_element_seed(inside)? {
            list.push(item);
        }
        self.keep(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let (mut object, inside) = (Vec::new(), self.inside()?);
        while let Some(key) = entries.next_key::<String>()? {
            if object.len() == MAX_KEYS {
                return Err(too_many_keys());
            }
            object.push((key, entries.next_value_seed(inside)?));
        }
        let mut keys: Vec<&str> = object.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(duplicate(pair[0])),
            None => self.keep(Tree::Object(Object(object))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{DEEPEST, MAX_KEPT, MAX_KEYS, Tree};

    #[test]
    fn what_is_read_is_written_again_key_by_key() {
        for text in [
            r#"{"z":1,"a":{"c":[1,-2.5,1.0,true,null,{"y":"","b":"x\n\"ä"}],"0":[]},"":18446744073709551615}"#,
            r#"[[[[["deep"]]]]]"#,
            "3",
            "\"a\\u0000\"",
        ] {
            let tree = Tree::parse(text).unwrap();
            assert_eq!(tree.to_string(), text);
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!((tree.value(), Tree::from(&value).value()), (value.clone(), value));
        }
        let tree = Tree::parse(r#"{"b":null,"a":2}"#).unwrap();
        let object = tree.as_object().unwrap();
        assert_eq!((object.get("b"), object.get("c")), (None, None));
        assert_eq!((object.get("a").unwrap().kind(), object.keys().collect::<Vec<_>>()), ("a number", vec!["b", "a"]));
    }

    #[test]
    fn what_is_no_json_or_too_much_is_refused() {
        let list = |items: usize| format!("[{}0]", "0,".repeat(items - 1));
        let keys: Vec<String> = (0..=MAX_KEYS).map(|i| format!("\"{i}\":0")).collect();
        for (text, why) in [
            (r#"{"a":[{"b":1,"c":2,"b":3}]}"#.to_owned(), "has a duplicate key \"b\""),
            (format!("{{{}}}", keys.join(",")), "has more than 10000 keys in one object"),
            (list(MAX_KEPT), "has too many values"),
            ("{'a': 1}".to_owned(), "is not valid JSON (column 2: key must be a string)"),
            ("{} {}".to_owned(), "is not valid JSON (column 4: trailing characters)"),
            ("[".repeat(200), "has lists and objects that lie more than 100 deep in each other"),
            (
                "[NaN]".to_owned(),
                "is not valid JSON (column 2: NaN and Infinity, which Python writes, are no JSON; leave the \
                                  key out, or write null)",
            ),
        ] {
            assert_eq!(Tree::parse(&text).unwrap_err(), why);
        }
        assert!(Tree::parse(&list(MAX_KEPT - 1)).is_ok());
        assert!(Tree::parse(&format!("{}{}", "[".repeat(DEEPEST), "]".repeat(DEEPEST))).is_ok());
    }
}
