//! Values that should be there: texts, lists and objects, with what is said where they are not, and JSON within strings.

use std::borrow::Cow;

use crate::dataset::row::{NUL, blemish};
use crate::dataset::tree::Tree;
use crate::domain::clip::clipped;

/// The longest name, of one who speaks or of a function, in characters.
const MOST_NAME: usize = 64;

/// What is not of the kind that it should be.
pub(in crate::dataset) fn must_be(what: &str, tree: &Tree) -> String {
    format!("must be {what}, not {}", tree.kind())
}

/// A text that is not blank.
///
/// # Errors
/// What is wrong with it, here and below, in words for the file's owner.
pub(in crate::dataset) fn text(tree: &Tree) -> Result<String, String> {
    let text = tree.as_text().ok_or_else(|| must_be("a string", tree))?;
    blemish(text).map_or_else(|| Ok(text.to_owned()), |what| Err(what.to_owned()))
}

/// A text that may be blank.
pub(super) fn any_text(tree: &Tree) -> Result<String, String> {
    let text = tree.as_text().ok_or_else(|| must_be("a string", tree))?;
    if text.contains('\0') { Err(NUL.to_owned()) } else { Ok(text.to_owned()) }
}

/// A name of one who speaks.
pub(super) fn name(tree: &Tree) -> Result<String, String> {
    let name = text(tree)?;
    if name.chars().count() > MOST_NAME { Err(format!("is longer than {MOST_NAME} characters")) } else { Ok(name) }
}

/// A name of a function.
pub(super) fn function_name(tree: &Tree) -> Result<String, String> {
    let name = name(tree)?;
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.chars().all(is_fit) {
        Ok(name)
    } else {
        Err(format!("is \"{}\", but names of functions are made of a-z, A-Z, 0-9, _, - and .", clipped(&name)))
    }
}

/// The list or object that a string holds as JSON, as those who write tables have them; anything else as it is.
///
/// # Errors
/// The string begins like one and is none.
pub(in crate::dataset) fn unpacked(tree: &Tree) -> Result<Cow<'_, Tree>, String> {
    match tree.as_text().map(str::trim_start) {
        Some(text) if text.starts_with(['[', '{']) => match Tree::parse(text) {
            Ok(tree) => Ok(Cow::Owned(tree)),
            Err(what) => Err(format!("is a string that {what}{}", remedy(text))),
        },
        _ => Ok(Cow::Borrowed(tree)),
    }
}

/// What helps where the JSON of a string cannot be read.
fn remedy(text: &str) -> &'static str {
    if text.trim_start_matches(['[', '{', ' ']).starts_with('\'') {
        "; Python's str() writes no JSON, json.dumps does"
    } else {
        ""
    }
}

/// The JSON of an object, whether it stands as one or as a string.
///
/// # Errors
/// It is none.
pub(super) fn object_text(tree: &Tree) -> Result<String, String> {
    const NONE: &str = "; write \"{}\" where there are none";
    match tree {
        Tree::Object(_) => Ok(tree.to_string()),
        Tree::Text(text) if text.trim().is_empty() => Err(format!("is empty{NONE}")),
        Tree::Text(text) => match Tree::parse(text) {
            Ok(Tree::Object(_)) => Ok(text.clone()),
            Ok(other) => Err(format!("must be the JSON of an object, not of {}", other.kind())),
            Err(what) => Err(format!("{what}{}", remedy(text))),
        },
        other => Err(must_be("an object, or its JSON in a string", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Tree, function_name, name, object_text, text, unpacked};

    fn string(text: &str) -> Tree {
        Tree::Text(text.to_owned())
    }

    #[test]
    fn texts_and_names_are_what_they_should_be() {
        assert_eq!(text(&string(" a ")), Ok(" a ".to_owned()));
        assert_eq!(text(&string(" \n")), Err("is empty".to_owned()));
        assert!(text(&string("a\0")).unwrap_err().starts_with("holds a NUL"));
        assert_eq!(text(&Tree::Bool(true)), Err("must be a string, not a boolean".to_owned()));
        assert!(name(&string(&"é".repeat(64))).is_ok() && function_name(&string("a.b-c_9")).is_ok());
        assert_eq!(name(&string(&"é".repeat(65))), Err("is longer than 64 characters".to_owned()));
        let expected = "is \"get weather\", but names of functions are made of a-z, A-Z, 0-9, _, - and .";
        assert_eq!(function_name(&string("get weather")), Err(expected.to_owned()));
    }

    #[test]
    fn json_in_a_string_is_read_and_what_is_none_is_said() {
        assert_eq!(unpacked(&string(" [1]")).unwrap().to_string(), "[1]");
        assert_eq!(unpacked(&string("a [1]")).unwrap().to_string(), "\"a [1]\"");
        let python = "is a string that is not valid JSON (column 3: key must be a string); Python's str() writes no JSON, \
                      json.dumps does";
        assert_eq!(unpacked(&string("[{'role': 1}]")).unwrap_err(), python);
        for (arguments, expected) in [
            (r#"{"b": 1, "a":2}"#, Ok(r#"{"b": 1, "a":2}"#)),
            ("", Err("is empty; write \"{}\" where there are none")),
            ("[1]", Err("must be the JSON of an object, not of an array")),
            ("{a}", Err("is not valid JSON (column 2: key must be a string)")),
            (r#"{"a":1,"a":2}"#, Err("has a duplicate key \"a\"")),
        ] {
            assert_eq!(object_text(&string(arguments)).as_deref().map_err(String::as_str), expected);
        }
        let object = Tree::parse(r#"{"b": 1.0, "a": [ ]}"#).unwrap();
        assert_eq!(object_text(&object).unwrap(), r#"{"b":1.0,"a":[]}"#);
        assert_eq!(object_text(&Tree::Null).unwrap_err(), "must be an object, or its JSON in a string, not null");
    }
}
