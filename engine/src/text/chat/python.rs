//! Values as Python prints them, for templates that print what is no text.

use std::fmt::Write;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Lists and objects within one another that are read or written. Python's own limit is its stack, of a thousand frames.
pub(super) const DEEPEST: usize = 200;
/// Bytes that a list or an object may take.
const LONGEST: usize = 4 << 20;

/// A number that the engine would write otherwise than Python: an integer of very many digits, a float with an exponent.
#[derive(Debug)]
pub(super) struct Numeral(pub(super) String);

impl Object for Numeral {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// `str(value)`.
///
/// # Errors
/// Lists or objects lie too deep in one another, or take too much text.
pub(super) fn text_of(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    if !value.is_undefined() {
        write_repr(&mut out, value, 0)?;
    }
    Ok(out)
}

/// Appends `repr(value)`.
fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    check(out, depth)?;
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Number if !value.is_integer() => out.push_str(&float(f64::try_from(value.clone())?)),
        ValueKind::Map => {
            out.push('{');
            for (place, key) in value.try_iter()?.enumerate() {
                out.push_str(if place > 0 { ", " } else { "" });
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter()?.checked() {
                out.push_str(if count > 0 { ", " } else { "" });
                write_repr(out, &item?, depth + 1)?;
                count += 1;
            }
            out.push_str(if value.is_tuple() && count == 1 { "," } else { "" });
            out.push(close);
        }
        // Integers, True, False and None are printed by the engine as by Python.
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Refuses what would not end, or not soon: lists can hold one list many times.
pub(super) fn check(written: &str, depth: usize) -> Result<(), Error> {
    if depth > DEEPEST {
        let message = format!("lists and objects lie more than {DEEPEST} deep in one another");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    if written.len() > LONGEST {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("a value takes more than {LONGEST} bytes of text"),
        ));
    }
    Ok(())
}

/// `repr(number)`: the fewest digits that give the number again, and of those that are as near the ones that end even.
pub(super) fn float(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string().to_lowercase();
    }
    let shortest = format!("{:e}", number.abs());
    let precision = shortest.split('e').next().map_or(0, |digits| digits.len().saturating_sub(2));
    // Rust rounds up where two texts are as short and as near, but not where it is told how many digits to write.
    let rounded = format!("{:.precision$e}", number.abs());
    let written = if rounded.parse() == Ok(number.abs()) { rounded } else { shortest };
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let (digits, exponent) = (digits.replace('.', ""), exponent.parse::<i32>().unwrap_or_default());
    let point = usize::try_from(exponent + 1).unwrap_or_default();
    let sign = if number.is_sign_negative() { "-" } else { "" };
    match exponent {
        0..16 if digits.len() > point => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        0..16 => format!("{sign}{digits:0<point$}.0"),
        -4..0 => format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            format!("{sign}{first}{point}{rest}e{exponent:+03}")
        }
    }
}

/// `repr(text)`.
fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        let code = u32::from(character);
        // A string takes whatever is written to it.
        let _ = match character {
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            _ if character == quote => write!(out, "\\{character}"),
            _ if is_printable(character) => out.write_char(character),
            _ if code <= 0xff => write!(out, "\\x{code:02x}"),
            _ if code <= 0xffff => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
    }
    out.push(quote);
}

/// `str.isprintable`. Rust escapes the same characters, marks apart, which it leaves behind a letter.
fn is_printable(character: char) -> bool {
    let word = ['a', character].iter().collect::<String>();
    matches!(character, '\'' | '"') || word.escape_debug().count() == 2
}

/// `str.isspace` of one character: Unicode's white space and four separators of ASCII.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        floats: Vec<String>,
    }

    #[test]
    fn floats_have_the_digits_that_python_gives_them() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat/chat_jinja.json"));
        let golden: Golden = serde_json::from_str(text).unwrap();
        for text in golden.floats {
            assert_eq!(float(text.parse().unwrap()), text);
        }
        let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0].map(float);
        assert_eq!(special, ["nan", "inf", "-inf", "0.0", "-0.0"]);
    }

    #[test]
    fn texts_in_lists_are_quoted() {
        let quoted = |text: &str| text_of(&Value::from(vec![Value::from(text)])).unwrap();
        assert_eq!(quoted("it's"), "[\"it's\"]");
        assert_eq!(quoted("it's \"\\n\n"), "['it\\'s \"\\\\n\\n']");
        assert_eq!(quoted("é🙂e\u{301}"), "['é🙂e\u{301}']");
        assert_eq!(quoted("\u{a0}\u{200b}\u{e000}\u{10ffff}\0"), r"['\xa0\u200b\ue000\U0010ffff\x00']");
    }
}
