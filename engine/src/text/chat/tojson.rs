//! JSON as Python's `json` writes it.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::python::{Numeral, check, float};

/// How `json.dumps` lays a value out.
struct Layout {
    ensure_ascii: bool,
    sort_keys: bool,
    /// What a line is indented with, for each level.
    indent: Option<String>,
    /// What stands between items.
    comma: String,
    /// What stands between a key and its value.
    colon: String,
}

/// The filter `tojson` of Transformers: `json.dumps` that leaves letters as they are.
///
/// # Errors
/// The value, or an argument, is nothing that `json.dumps` takes.
pub(super) fn tojson(value: &Value, ensure_ascii: Option<bool>, arguments: &Kwargs) -> Result<String, Error> {
    let indent = match arguments.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(i64::try_from(indent)?.clamp(0, 64)).unwrap_or_default()),
        }),
    };
    let separators = arguments.get::<Option<Value>>("separators")?.filter(|separators| !separators.is_none());
    let (comma, colon) = match separators {
        Some(separators) => {
            let part =
                |place: usize| -> Result<String, Error> {
                    separators.get_item(&Value::from(place))?.as_str().map(str::to_owned).ok_or_else(|| {
                        Error::new(ErrorKind::InvalidOperation, "tojson's separators are a pair of texts")
                    })
                };
            (part(0)?, part(1)?)
        }
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let layout = Layout {
        ensure_ascii: ensure_ascii.or(arguments.get("ensure_ascii")?).unwrap_or_default(),
        sort_keys: arguments.get::<Option<bool>>("sort_keys")?.unwrap_or_default(),
        indent,
        comma,
        colon,
    };
    arguments.assert_all_used()?;
    let mut out = String::new();
    layout.write(&mut out, value, 0)?;
    Ok(out)
}

/// `json.dumps(value, ensure_ascii=False)`.
///
/// # Errors
/// As of [`tojson`].
pub(super) fn dumps(value: &Value) -> Result<String, Error> {
    tojson(value, None, &Kwargs::from_iter([] as [(&str, Value); 0]))
}

impl Layout {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        check(out, depth)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&number(f64::try_from(value.clone())?)),
            ValueKind::String => self.quote(out, value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    entries.push((key_of(&key)?, value.get_item(&key)?));
                }
                if self.sort_keys {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                let write = |out: &mut String, (key, value): &(String, Value)| {
                    self.quote(out, key);
                    out.push_str(&self.colon);
                    self.write(out, value, depth + 1)
                };
                self.enclose(out, ('{', '}'), &entries, depth, write)?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                self.enclose(out, ('[', ']'), &items, depth, |out, item| self.write(out, item, depth + 1))?;
            }
            _ => {
                let numeral = value.downcast_object_ref::<Numeral>();
                let refused = || format!("tojson cannot write a value of type {}", value.kind());
                out.push_str(&numeral.ok_or_else(|| Error::new(ErrorKind::BadSerialization, refused()))?.0);
            }
        }
        Ok(())
    }

    fn enclose<T>(
        &self,
        out: &mut String,
        (open, close): (char, char),
        items: &[T],
        depth: usize,
        write: impl Fn(&mut String, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for (place, item) in items.iter().enumerate() {
            out.push_str(if place > 0 { &self.comma } else { "" });
            self.new_line(out, depth + 1);
            write(out, item)?;
        }
        if !items.is_empty() {
            self.new_line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn quote(&self, out: &mut String, text: &str) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\0'..='\x1f' => escape(out, character),
                '\x7f'.. if self.ensure_ascii => escape(out, character),
                _ => out.push(character),
            }
        }
        out.push('"');
    }
}

fn escape(out: &mut String, character: char) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        // A string takes whatever is written to it.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

fn number(number: f64) -> String {
    match number {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ if number.is_nan() => "NaN".to_owned(),
        _ => float(number),
    }
}

/// A key of an object, as a text.
fn key_of(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number if key.is_integer() => key.to_string(),
        ValueKind::Number => number(f64::try_from(key.clone())?),
        kind => return Err(Error::new(ErrorKind::BadSerialization, format!("a key of JSON cannot be a {kind}"))),
    })
}
