//! Methods of Python's texts and lists, as far as those of `pycompat` are not Python's.

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::python::is_space;

/// Calls a method that the engine does not know by itself.
///
/// # Errors
/// There is none of that name, or it does not take these arguments.
pub(super) fn call(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let made = match value.as_str() {
        Some(text) => of_text(text, method, args)?,
        None if method == "index" && matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) => {
            let (item,): (&Value,) = from_args(args)?;
            let place = value.try_iter()?.position(|other| other == *item);
            Some(Value::from(place.ok_or_else(|| invalid("the list has no such item"))?))
        }
        None => None,
    };
    match made {
        Some(value) => Ok(value),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// What a method of a text gives; None where it is none of those here.
fn of_text(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, characters, method != "rstrip", method != "lstrip"))
        }
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let parts = text.split_once(separator).map(|(before, behind)| [before, separator, behind]);
            Value::from(Tuple::from(parts.unwrap_or([text, "", ""]).map(Value::from)))
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let parts = text.rsplit_once(separator).map(|(before, behind)| [before, separator, behind]);
            Value::from(Tuple::from(parts.unwrap_or(["", "", text]).map(Value::from)))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "index" => {
            let (part,): (&str,) = from_args(args)?;
            let at = text.find(part).ok_or_else(|| invalid("the text has no such part"))?;
            Value::from(text[..at].chars().count())
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "splitlines" => {
            let (keeps_ends,): (Option<bool>,) = from_args(args)?;
            lines(text, keeps_ends.unwrap_or_default())
        }
        _ => return Ok(None),
    }))
}

/// `str.strip`, of one or both sides.
pub(super) fn strip<'a>(text: &'a str, characters: Option<&str>, left: bool, right: bool) -> &'a str {
    let goes = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

/// `str.split(sep=None, maxsplit=-1)` and `str.rsplit`.
fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (args, named): (&[Value], Kwargs) = from_args(args)?;
    let argument = |place: usize, name: &str| -> Result<Value, Error> {
        Ok(match args.get(place) {
            Some(value) => value.clone(),
            None => named.get::<Option<Value>>(name)?.unwrap_or_default(),
        })
    };
    let (separator, most) = (argument(0, "sep")?, argument(1, "maxsplit")?);
    named.assert_all_used()?;
    let most =
        if most.is_undefined() { usize::MAX } else { usize::try_from(i64::try_from(most)?).unwrap_or(usize::MAX) };
    let mut parts: Vec<&str> = match separator.as_str() {
        Some("") => return Err(invalid("a text cannot be split at an empty one")),
        Some(separator) if from_right => text.rsplitn(most.saturating_add(1), separator).collect(),
        Some(separator) => text.splitn(most.saturating_add(1), separator).collect(),
        None => words(text, most, from_right),
    };
    if from_right {
        parts.reverse();
    }
    Ok(parts.into_iter().collect())
}

/// The words of a text, from its end on where that is asked, and behind `most` of them the rest of it.
fn words(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let (mut rest, mut words) = (strip(text, None, !from_right, from_right), Vec::new());
    while !rest.is_empty() && words.len() < most {
        let (word, further) = if from_right {
            let at = rest.rfind(is_space).map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
            (&rest[at..], &rest[..at])
        } else {
            rest.split_at(rest.find(is_space).unwrap_or(rest.len()))
        };
        words.push(word);
        rest = strip(further, None, !from_right, from_right);
    }
    if !rest.is_empty() {
        words.push(rest);
    }
    words
}

/// `str.title`: a capital behind all that is no letter.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_begun = false;
    for character in text.chars() {
        if is_begun {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        is_begun = character.is_alphabetic();
    }
    out
}

/// `str.splitlines`.
fn lines(text: &str, keeps_ends: bool) -> Value {
    let (mut lines, mut begin) = (Vec::new(), 0);
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if !matches!(
            character,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        ) {
            continue;
        }
        let mut end = at + character.len_utf8();
        if character == '\r' && characters.next_if(|&(_, next)| next == '\n').is_some() {
            end += 1;
        }
        lines.push(&text[begin..if keeps_ends { end } else { at }]);
        begin = end;
    }
    if begin < text.len() {
        lines.push(&text[begin..]);
    }
    lines.into_iter().collect()
}
