//! What looks like a special token, and what texts have in common without cutting one.

/// Bytes between the brackets of a special token, at most.
const LONGEST: usize = 64;

/// Bytes that two texts begin with, so that neither is cut within a character or a special token.
pub(super) fn common(a: &str, b: &str) -> usize {
    let mut end = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    loop {
        while !a.is_char_boundary(end) || !b.is_char_boundary(end) {
            end -= 1;
        }
        match begin_of_cut(a, end).into_iter().chain(begin_of_cut(b, end)).min() {
            Some(begin) => end = begin,
            None => return end,
        }
    }
}

/// Where a special token begins that would be cut at `at`.
fn begin_of_cut(text: &str, at: usize) -> Option<usize> {
    let open = text[..at].char_indices().rev().take_while(|&(begin, _)| at - begin <= LONGEST);
    let (begin, _) = open.into_iter().find(|&(_, character)| matches!(character, '<' | '['))?;
    (begin + token(&text[begin..])?.len() > at).then_some(begin)
}

/// The special token that a text begins with: `<|im_end|>`, `</s>`, `[/INST]`.
pub(super) fn token(text: &str) -> Option<&str> {
    let close = match text.as_bytes().first()? {
        b'<' => '>',
        b'[' => ']',
        _ => return None,
    };
    let end = text.char_indices().skip(1).find(|&(at, character)| {
        at > LONGEST || character == close || matches!(character, '<' | '[') || character.is_whitespace()
    });
    end.filter(|&(at, character)| character == close && at > 1).map(|(at, _)| &text[..=at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_beginning_ends_before_tokens_that_differ() {
        assert_eq!(common("<|end|>\n<|endoftext|>", "<|end|>\n<|user|>\n"), 8);
        assert_eq!(
            common("<｜tool▁output▁end｜>\n", "<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"),
            "<｜tool▁output▁end｜>".len()
        );
        assert_eq!(common("a <b c", "a <b d"), 5, "no token is cut");
        assert_eq!(common("[INST] x", "[INST] y"), 7);
        assert_eq!(common("[1, 2]", "[1, 3]"), 4);
        assert_eq!(common("é", "è"), 0, "no character is cut");
        assert_eq!(common("same<s>", "same<s>"), 7);
    }

    #[test]
    fn a_token_is_what_stands_in_brackets_without_spaces() {
        assert_eq!(token("</s>\n"), Some("</s>"));
        assert_eq!(token("[/INST] a"), Some("[/INST]"));
        assert_eq!(token("<｜User｜>hi"), Some("<｜User｜>"));
        for text in ["<a b>", "x<s>", "<<s>", "<>", "", "<|im_end|"] {
            assert_eq!(token(text), None, "{text}");
        }
    }
}
