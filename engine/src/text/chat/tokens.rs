//! Tokens of a rendered conversation, and which of them are learned.

use tokenizers::{Encoding, Tokenizer};

use super::Rendered;

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
