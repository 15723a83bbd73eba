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

#[cfg(test)]
mod tests {
    use super::{clipped, clipped_to};

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clipped("short"), "short");
        assert_eq!(clipped_to("ääää", 4), "ääää");
        assert_eq!(clipped_to("äääää", 4), "ääää…");
        assert_eq!(clipped(&"x".repeat(1 << 20)).chars().count(), 61);
    }
}
