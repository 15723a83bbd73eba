//! A rendered conversation, its tokens, and which of them are learned.

use std::ops::Range;

use tokenizers::{Encoding, Tokenizer};

/// A conversation's text, and what of it assistants write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// In the order of the text, none over another. A message that the template leaves out has none; where the template marks
    /// what is generated, a message may have several.
    pub spans: Vec<Span>,
}

/// What an assistant writes: thoughts, content, calls of tools, and the token that ends its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The message's place in the conversation.
    pub message: usize,
    /// Bytes of the text.
    pub range: Range<usize>,
}

impl Rendered {
    /// The tokens of the text, without those that a tokenizer puts around texts: the template has written them. Each with
    /// whether it is learned: whether it belongs to a span of a message that `learned` says yes to. As in Transformers
    /// (`return_assistant_tokens_mask`), that are the tokens from the one that holds the span's first character to the
    /// first one that holds its last; where none holds one, because the tokenizer leaves it out, all that overlap the span.
    ///
    /// # Errors
    /// The tokenizer fails on the text, which a well-made one does not.
    pub fn tokens(&self, tokenizer: &Tokenizer, learned: impl Fn(usize) -> bool) -> Result<Vec<(u32, bool)>, String> {
        let encoding =
            tokenizer.encode(self.text.as_str(), false).map_err(|error| format!("tokenizer.json: {error}"))?;
        let mut tokens: Vec<(u32, bool)> = encoding.get_ids().iter().map(|&id| (id, false)).collect();
        for span in self.spans.iter().filter(|span| !span.range.is_empty() && learned(span.message)) {
            let last =
                self.text[span.range.clone()].char_indices().next_back().map_or(0, |(at, _)| span.range.start + at);
            let first = holder(&encoding, span.range.start);
            let last = holder(&encoding, last);
            let overlaps = |&(begin, end): &(usize, usize)| begin < span.range.end && span.range.start < end;
            let first = first.or_else(|| encoding.get_offsets().iter().position(overlaps));
            let last = last.or_else(|| encoding.get_offsets().iter().rposition(overlaps));
            if let (Some(first), Some(last)) = (first, last) {
                tokens.iter_mut().take(last + 1).skip(first).for_each(|(_, is_learned)| *is_learned = true);
            }
        }
        Ok(tokens)
    }
}

/// The first token that holds the character at a byte.
fn holder(encoding: &Encoding, byte: usize) -> Option<usize> {
    let offsets = encoding.get_offsets();
    let from = offsets.partition_point(|&(_, end)| end <= byte);
    offsets.get(from).filter(|&&(begin, _)| begin <= byte).map(|_| from)
}

#[cfg(test)]
mod tests {
    use tokenizers::models::wordlevel::WordLevel;
    use tokenizers::pre_tokenizers::whitespace::Whitespace;

    use super::*;

    #[test]
    fn tokens_of_messages_that_are_learned_are_learned() {
        let words = ["[UNK]", "q", "a", "b", "é", "."];
        let vocabulary = words.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), id)).collect();
        let model = WordLevel::builder().vocab(vocabulary).unk_token("[UNK]".to_owned()).build().unwrap();
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(Whitespace {}));
        let text = "q  a é. q b .".to_owned();
        let span = |message, range| Span { message, range };
        let rendered = Rendered { text, spans: vec![span(1, 2..8), span(3, 11..13), span(5, 13..13)] };
        let learned = |message| {
            let tokens = rendered.tokens(&tokenizer, |other| message == other).unwrap();
            assert_eq!(tokens.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 4, 5, 1, 3, 5]);
            tokens.iter().map(|(_, is_learned)| u8::from(*is_learned)).collect::<Vec<_>>()
        };
        assert_eq!(learned(1), [0, 1, 1, 1, 0, 0, 0], "the space that begins the span has no token");
        assert_eq!(learned(3), [0, 0, 0, 0, 0, 1, 0], "the space that ends it has none");
        assert_eq!(learned(5), [0; 7], "an empty span has no tokens");
    }
}
