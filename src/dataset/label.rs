//! A label as it may be, wherever it comes from, and as it is kept.

use std::borrow::Cow;

use serde_json::Value;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::row::kind;
use crate::domain::clip::{clipped, clipped_to, is_space};

/// The longest label, in characters.
pub const LABEL_CHARS: usize = 256;

/// The largest whole number up to which a 64-bit float tells all apart.
pub(super) const EXACT: f64 = 9_007_199_254_740_992.0;

/// A label as it is kept, and whether it stands otherwise in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// In Unicode's normal form C (UAX 15), without white space at its ends.
    pub text: String,
    pub is_tidied: bool,
}

/// The label that a text says.
///
/// # Errors
/// It is blank, too long, or holds NUL; in words for its owner.
pub fn label(text: &str) -> Result<Label, String> {
    let trimmed = text.trim_matches(is_space);
    let kept: Cow<'_, str> = if is_nfc(trimmed) { trimmed.into() } else { trimmed.nfc().collect::<String>().into() };
    if kept.is_empty() {
        Err("is empty".to_owned())
    } else if kept.contains('\0') {
        Err("holds a NUL character".to_owned())
    } else if kept.chars().count() > LABEL_CHARS {
        Err(format!("is longer than {LABEL_CHARS} characters"))
    } else {
        Ok(Label { is_tidied: kept != text, text: kept.into_owned() })
    }
}

/// What a label is called that is written as a number.
#[derive(Clone, Debug, Default)]
pub(super) struct Spelling {
    /// Whether all labels are numbers without a fraction, so that 1.0 is 1.
    pub(super) whole: bool,
    /// Names by number.
    pub(super) names: Option<Vec<String>>,
}

/// The label that a value says.
///
/// # Errors
/// It says none; in words for its owner.
pub(super) fn of_value(value: &Value, spelling: &Spelling) -> Result<Label, String> {
    let text = match value {
        Value::String(text) => match number(text.trim()) {
            // Without a point it stands as it is: 007 may be a code.
            Some(number)
                if spelling.whole
                    && text.contains('.')
                    && !text.contains(['e', 'E'])
                    && number.fract() == 0.0
                    && number.abs() < EXACT =>
            {
                whole(number)
            }
            _ => text.clone(),
        },
        Value::Number(number) => number_label(number)?,
        Value::Bool(flag) => flag.to_string(),
        // What was chosen where one may be chosen.
        Value::Array(items) if items.len() == 1 && !items[0].is_array() => return of_value(&items[0], spelling),
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| item.is_string() || item.is_number()) => {
            return Err(format!(
                "is a list of {} labels where one is read; for several, set the hyperparameter problem_type to \
                 multi_label_classification",
                items.len()
            ));
        }
        other => return Err(format!("must be a string, an integer or a boolean, not {}", kind(other))),
    };
    let Some(names) = &spelling.names else { return label(&text) };
    match text.trim().parse::<usize>() {
        Ok(place) => match names.get(place) {
            Some(name) => label(name),
            None => Err(format!("is {place}, but dataset.label_names has {} names, from 0 on", names.len())),
        },
        Err(_) if names.contains(&text) => label(&text),
        Err(_) => Err(format!("\"{}\" is neither a number nor one of dataset.label_names", clipped(&text))),
    }
}

fn whole(number: f64) -> String {
    // Without the sign that a negative zero has.
    format!("{:.0}", number + 0.0)
}

/// A label that is a JSON number.
fn number_label(number: &serde_json::Number) -> Result<String, String> {
    if number.is_i64() || number.is_u64() {
        return Ok(number.to_string());
    }
    match number.as_f64() {
        Some(number) if number.fract() == 0.0 && number.abs() < EXACT => Ok(whole(number)),
        Some(number) if number.fract() == 0.0 => {
            Err("is a number of more digits than are read; write it as a string, in quotes".to_owned())
        }
        _ => Err(format!(
            "must be a string, an integer or a boolean, not a number with a fraction ({number}); to predict numbers, set the \
             hyperparameter problem_type to regression"
        )),
    }
}

/// A number as tables have it; not `inf`, not `nan`.
pub(super) fn number(text: &str) -> Option<f64> {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    text.parse().ok().filter(|number: &f64| is_number && number.is_finite())
}

/// Whether this is a number whose fraction stands behind a comma, as in 0,5.
pub(super) fn has_decimal_comma(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.trim_start_matches(['-', '+']).split_once(',');
    parts.is_some_and(|(whole, fraction)| digits(whole) && digits(fraction))
}

/// How many labels a message shows.
pub(super) const SHOWN: usize = 5;

/// A few labels with their numbers of examples.
pub(super) fn shown<'a>(labels: impl Iterator<Item = (&'a String, &'a u64)>) -> String {
    let mut labels = labels.peekable();
    let few: Vec<String> =
        labels.by_ref().take(SHOWN).map(|(label, count)| format!("\"{}\" ({count})", clipped_to(label, 40))).collect();
    let more = if labels.peek().is_some() { ", …" } else { "" };
    format!("{}{more}", few.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{LABEL_CHARS, label};

    #[test]
    fn white_space_at_the_ends_and_unicode_forms_make_no_other_label() {
        for text in ["café", " café", "cafe\u{301}\u{A0}", "\u{FEFF}café\u{200B}", "\tcafé\r\n"] {
            let found = label(text).unwrap();
            assert_eq!((found.text.as_str(), found.is_tidied), ("café", text != "café"), "{text:?}");
        }
        assert_eq!(label("two words").unwrap().text, "two words");
    }

    #[test]
    fn what_is_no_label_is_said() {
        for (text, why) in [("", "empty"), (" \u{A0}\u{200B}", "empty"), ("a\0b", "NUL")] {
            assert!(label(text).unwrap_err().contains(why), "{text:?}");
        }
        assert!(label(&"é".repeat(LABEL_CHARS)).is_ok());
        assert!(label(&"é".repeat(LABEL_CHARS + 1)).unwrap_err().contains("longer than 256"));
    }
}
