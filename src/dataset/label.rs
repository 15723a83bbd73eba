//! A label as it may be, wherever it comes from, and as it is kept.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// The longest label, in characters.
pub const LABEL_CHARS: usize = 256;

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

/// Whether a character shows nothing: white space, and what stands between characters without width.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}')
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
