//! Tokens of the beginning of a long text. They are those of the whole text: a text is tokenised as far as its tokens are
//! kept, so that its length costs nothing beyond.

use std::borrow::Cow;
use std::cell::Cell;

use tokenizers::normalizer::{NormalizedString, Range};
use tokenizers::{
    Encoding, Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Result, Token, Tokenizer,
    TruncationDirection,
};

use super::locality::{Locality, Word};
use super::shorten::{is_space, shortened};

/// Bytes of a token of English, and twice that.
const BYTES_PER_TOKEN: usize = 8;
/// Bytes that are read of a text at first, besides.
const LEAST: usize = 512;
/// Bytes that are tokenised to learn how a word begins, at most: the beginning once for each place of its last token.
const MOST_WORK: usize = 16 << 20;

/// The beginning of a text, tokenised.
pub(super) struct Beginning {
    pub(super) encoding: Encoding,
    /// Whether tokens may follow.
    pub(super) is_cut: bool,
    /// Whether there are as many tokens as the tokenizer itself would make before it truncates.
    pub(super) is_counted: bool,
}

/// Reads beginnings of texts.
pub(super) struct PrefixReader<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) locality: &'a Locality,
    /// Tokens that are wanted.
    pub(super) wanted: usize,
    pub(super) offsets: OffsetType,
}

/// Bytes of a text from which on reading its beginning alone pays.
pub(super) fn pays_from(wanted: usize) -> usize {
    2 * first_size(wanted)
}

fn first_size(wanted: usize) -> usize {
    LEAST + BYTES_PER_TOKEN * wanted
}

impl PrefixReader<'_> {
    /// The first tokens of `text`: at least as many as are wanted, or all. None if they are not found in `most` bytes.
    pub(super) fn read(&self, text: &str, type_id: u32, most: usize) -> Result<Option<Beginning>> {
        let (mut size, mut rest) = (first_size(self.wanted) + self.locality.margin, Cow::Borrowed(text));
        let Locality { most_letters, drops_spaces, .. } = *self.locality;
        let mut shortens = most_letters.is_some() || drops_spaces;
        loop {
            let end = plain_cut(&rest, size, self.locality.keeps_last_spaces);
            if end.unwrap_or(rest.len()) > most {
                return Ok(None);
            }
            let (part, certain) = match end {
                Some(end) => (&rest[..end], end.saturating_sub(self.locality.margin)),
                None => (&*rest, usize::MAX),
            };
            if let Some(beginning) = self.tokenise(part, type_id, certain)? {
                return Ok(Some(beginning));
            }
            if std::mem::take(&mut shortens) {
                rest = shortened(text, self.tokenizer, most_letters, drops_spaces, self.locality.margin);
            }
            size *= 4;
        }
    }

    /// Tokenises `part` as far as `certain`, beyond which the rest of the text may change it. None if that gives fewer
    /// tokens than wanted, and is not the whole text.
    fn tokenise(&self, part: &str, type_id: u32, certain: usize) -> Result<Option<Beginning>> {
        let added = self.tokenizer.get_added_vocabulary();
        let mut splits = added.extract_and_normalize(self.tokenizer.get_normalizer(), part);
        if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut splits)?;
        }
        let is_added: Vec<bool> = places(&splits).map(|(_, tokens)| tokens.is_some()).collect();
        let model = self.tokenizer.get_model();
        let begun = Cell::new(false);
        let tokens = |word: &NormalizedString| -> Result<Vec<Token>> {
            let (start, end) = word.offsets_original();
            if end <= certain {
                return model.tokenize(word.get());
            }
            if begun.replace(true) || start >= certain {
                return Ok(Vec::new());
            }
            let known = word.convert_offsets(Range::Original(0..certain - start));
            self.begun(known.and_then(|known| word.get().get(..known.end)).unwrap_or_default())
        };
        splits.tokenize_with_limit(tokens, self.wanted, TruncationDirection::Right)?;
        let (mut count, mut enough, mut read) = (0, false, 0);
        for (((start, end), tokens), is_added) in places(&splits).zip(&is_added) {
            if enough || start >= certain {
                break;
            }
            count += tokens.unwrap_or_default();
            // As the tokenizer stops: not at a token that was added to its vocabulary.
            enough = count >= self.wanted && !is_added && (end <= certain || begun.get());
            read += 1;
            if end > certain && !enough {
                break;
            }
        }
        if !enough && certain != usize::MAX {
            return Ok(None);
        }
        let is_cut = certain != usize::MAX || read < is_added.len();
        let is_counted = !begun.get() || matches!(self.locality.word, Word::Unknown { .. });
        let encoding = splits.into_encoding(None, type_id, self.offsets)?;
        Ok(Some(Beginning { encoding, is_cut, is_counted }))
    }

    /// The tokens that a word surely begins with whose own beginning is `known`.
    fn begun(&self, known: &str) -> Result<Vec<Token>> {
        let model = self.tokenizer.get_model();
        match self.locality.word {
            Word::Unknown { beyond } if known.chars().nth(beyond).is_some() => model.tokenize(known),
            Word::Tokens { longest } if known.len() > 2 * longest && known.len() * longest <= MOST_WORK => {
                // One of the word's tokens ends in the last `longest` bytes, and the tokens up to there are those of the
                // text up to there: BPE never merges across it, and the best path of Unigram to it is part of the best path.
                // What all places that it may be at agree on is certain. The last token may be part of an unknown one.
                let from = known.len() - longest;
                let ends = known.char_indices().map(|(at, _)| at).filter(|&at| at > from).chain([known.len()]);
                let mut agreed: Option<Vec<Token>> = None;
                for end in ends {
                    let mut tokens = model.tokenize(&known[..end])?;
                    tokens.pop();
                    let Some(agreed) = &mut agreed else {
                        agreed = Some(tokens);
                        continue;
                    };
                    let same = agreed.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
                    agreed.truncate(same);
                }
                Ok(agreed.unwrap_or_default())
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// Where the words of a text lie in it, and how many tokens they have.
fn places(splits: &PreTokenizedString) -> impl Iterator<Item = ((usize, usize), Option<usize>)> {
    let all = splits.get_splits(OffsetReferential::Original, OffsetType::Byte);
    all.into_iter().map(|(_, place, tokens)| (place, tokens.as_ref().map(Vec::len)))
}

/// The first place from `least` bytes on, before the end, where a text can be cut so that both sides are normalised as
/// in the whole text; between spaces only where `spaces` at the end are kept.
fn plain_cut(text: &str, least: usize, spaces: bool) -> Option<usize> {
    let start = (least..text.len()).find(|&at| text.is_char_boundary(at))?;
    let mut before = text[..start].chars().next_back()?;
    for (at, after) in text[start..].char_indices() {
        if separates(before, after) && (spaces || !is_space(before)) {
            return Some(start + at);
        }
        before = after;
    }
    None
}

/// Whether no normalizer takes the two characters together.
fn separates(before: char, after: char) -> bool {
    let is_letter = before.is_alphanumeric() && before < '\u{10000}' && before != '\u{d4e}';
    if is_space(after) {
        is_letter || is_plain(before) || is_space(before)
    } else {
        is_plain(after) && (is_plain(before) || is_space(before))
    }
}

/// Whether a character is of those that neither compose nor form a cluster with what stands before or after them, if that
/// is such a character too: common letters, digits, signs and pictures, no marks, joiners or parts of syllables.
fn is_plain(character: char) -> bool {
    matches!(character,
        ' '..='~' | '\u{c0}'..='\u{24f}' | '\u{391}'..='\u{3c9}' | '\u{400}'..='\u{481}' | '\u{5d0}'..='\u{5ea}'
        | '\u{621}'..='\u{64a}' | '\u{3001}'..='\u{3002}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{ff01}'..='\u{ff5e}'
        | '\u{1f300}'..='\u{1f3fa}' | '\u{1f400}'..='\u{1f64f}' | '\u{20000}'..='\u{2fa1f}')
}
