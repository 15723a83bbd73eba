//! From token ids to a text, as they come.

use tokenizers::Tokenizer;

use crate::error::{EngineError, Result};

/// Ids whose text is not told yet: a character may take several tokens.
const MOST_HELD: usize = 16;

/// Turns ids into a text, piece by piece; special tokens are left out.
pub struct PieceDecoder<'t> {
    tokenizer: &'t Tokenizer,
    /// The ids whose text the next ones may depend on.
    ids: Vec<u32>,
    /// Bytes of the text of `ids` that were told.
    told: usize,
}

/// What stands for bytes that are no character yet.
const INCOMPLETE: char = '\u{FFFD}';

impl<'t> PieceDecoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), told: 0 }
    }

    /// The characters that are whole now that this token has come.
    ///
    /// # Errors
    /// The tokenizer fails, which a well-made one does not.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.text(&self.ids)?;
        if text.ends_with(INCOMPLETE) && self.ids.len() < MOST_HELD {
            return Ok(String::new());
        }
        let piece = text.get(self.told..).unwrap_or_default().to_owned();
        // A decoder may treat the first token of a text otherwise than the next ones, so one is kept before them.
        self.ids.drain(..self.ids.len() - 1);
        self.told = self.text(&self.ids)?.len();
        Ok(piece)
    }

    /// What is left at the end: bytes that never became a character.
    pub fn rest(&mut self) -> String {
        let text = self.text(&self.ids).unwrap_or_default();
        let rest = text.get(self.told..).unwrap_or_default().to_owned();
        self.ids.clear();
        self.told = 0;
        rest
    }

    fn text(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|error| EngineError::model(format!("tokenizer.json: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::text::TextTokenizer;

    #[test]
    fn pieces_are_whole_characters_and_make_up_the_text() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-llama");
        let tokenizer = TextTokenizer::open(&folder, 1000, 1000).unwrap();
        for text in ["how do i get my new card", "Ärger — 日本 😀!", "", " spaces  and\nlines\n"] {
            let ids = tokenizer.encode(&[(text, None)]).unwrap().remove(0).ids;
            let mut decoder = tokenizer.decoder();
            let pieces: Vec<String> = ids.iter().map(|&id| decoder.push(id).unwrap()).collect();
            assert!(pieces.iter().all(|piece| !piece.contains('\u{FFFD}')), "{pieces:?}");
            assert_eq!(pieces.concat() + &decoder.rest(), text);
        }
        // Bytes that never become a character are told at the end.
        let ids = tokenizer.encode(&[("日", None)]).unwrap().remove(0).ids;
        let mut decoder = tokenizer.decoder();
        assert_eq!(decoder.push(ids[0]).unwrap(), "");
        assert_eq!(decoder.rest(), "\u{FFFD}");
    }
}
