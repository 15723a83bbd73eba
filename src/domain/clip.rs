//! Texts of strangers as messages and log lines show them: short, whatever was sent.

use std::borrow::Cow;

/// What a message quotes of a word, in characters.
const WORD: usize = 60;

/// A word that somebody else chose, for a message.
pub fn clipped(text: &str) -> Cow<'_, str> {
    clipped_to(text, WORD)
}

/// The same with at most `most` characters; an ellipsis says that there were more.
pub fn clipped_to(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// Whether a character shows nothing: white space, and what stands between characters without width.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}')
}

/// A name with what cannot be seen of it written out, as in `\u{200b}`.
pub fn visible(name: &str) -> String {
    let shown = |c: char| {
        if c != ' ' && (c.is_control() || is_space(c)) { c.escape_unicode().to_string() } else { c.to_string() }
    };
    name.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::{clipped, clipped_to, visible};

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(visible("two words"), "two words");
        assert_eq!(visible("text\u{200B}\u{1}label\r\u{A0}é"), "text\\u{200b}\\u{1}label\\u{d}\\u{a0}é");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clipped("short"), "short");
        assert_eq!(clipped_to("ääää", 4), "ääää");
        assert_eq!(clipped_to("äääää", 4), "ääää…");
        assert_eq!(clipped(&"x".repeat(1 << 20)).chars().count(), 61);
    }
}
