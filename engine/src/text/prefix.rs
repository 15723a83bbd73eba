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
/// Bytes in which the tokens of a pair's text are counted as the tokenizer counts them. Of more that is nothing but spellings
/// of special tokens, which of two texts is the longer is not found out, and so not which of them keeps one token more.
const MOST_COUNTED: usize = 16 << 10;
/// Bytes that a normalizer looks back at most: of one letter with so many marks on it, which no language has, what is
/// beyond is not looked at.
const REACH: usize = 4 << 10;
/// Bytes that are tokenised to learn how a word begins, at most: the beginning once for each place of its last token.
const MOST_WORK: usize = 16 << 20;

/// The beginning of a text, tokenised.
pub(super) struct Beginning {
    pub(super) encoding: Encoding,
    /// Whether tokens may follow.
    pub(super) is_cut: bool,
    /// Whether there are as many tokens as the tokenizer itself would make before it truncates; if not, it would make more.
    pub(super) is_counted: bool,
}

impl Beginning {
    /// Whether it is known if this or `second` gives more tokens: of an odd number of tokens the longer one of two texts keeps
    /// one more, and the second of two that are equal.
    pub(super) fn tells_the_longer(&self, second: &Self) -> bool {
        let (own, theirs) = (self.encoding.len(), second.encoding.len());
        match (self.is_counted, second.is_counted) {
            (true, true) => true,
            (true, false) => theirs >= own,
            (false, true) => own > theirs,
            (false, false) => false,
        }
    }
}

/// Reads beginnings of texts.
pub(super) struct PrefixReader<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) locality: &'a Locality,
    /// Tokens that are wanted.
    pub(super) wanted: usize,
    /// Whether it matters how many tokens the tokenizer makes before it truncates: for pairs, of which it cuts the longer.
    pub(super) counts: bool,
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
            let cut = cut(&rest, size, self.locality);
            if cut.map_or(rest.len(), |(end, _)| end) > most {
                return Ok(None);
            }
            let (part, certain) = match cut {
                Some((end, reach)) => (&rest[..end], end.saturating_sub(self.locality.margin + reach)),
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
        let mut splits = split(self.tokenizer, part)?;
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
            let stops = !is_added || !self.counts || part.len() > MOST_COUNTED;
            enough = count >= self.wanted && stops && (end <= certain || begun.get());
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

/// The tokens of a whole text, as many as the tokenizer itself makes before it truncates to `most`.
pub(super) fn whole(
    tokenizer: &Tokenizer,
    text: &str,
    type_id: u32,
    most: usize,
    offsets: OffsetType,
) -> Result<Encoding> {
    let mut splits = split(tokenizer, text)?;
    let model = tokenizer.get_model();
    splits.tokenize_with_limit(|word| model.tokenize(word.get()), most, TruncationDirection::Right)?;
    splits.into_encoding(None, type_id, offsets)
}

/// The words of a text; those that were added to the vocabulary are tokens already.
fn split(tokenizer: &Tokenizer, text: &str) -> Result<PreTokenizedString> {
    let added = tokenizer.get_added_vocabulary();
    let mut splits = added.extract_and_normalize(tokenizer.get_normalizer(), text);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut splits)?;
    }
    Ok(splits)
}

/// Where the words of a text lie in it, and how many tokens they have.
fn places(splits: &PreTokenizedString) -> impl Iterator<Item = ((usize, usize), Option<usize>)> {
    let all = splits.get_splits(OffsetReferential::Original, OffsetType::Byte);
    all.into_iter().map(|(_, place, tokens)| (place, tokens.as_ref().map(Vec::len)))
}

/// The first place from `least` bytes on, before the end, where a text can be cut so that both sides are normalised as
/// in the whole text, and how many bytes before it may be normalised otherwise. It is not between spaces unless those at
/// the end are kept.
fn cut(text: &str, least: usize, locality: &Locality) -> Option<(usize, usize)> {
    let start = (least..text.len()).find(|&at| text.is_char_boundary(at))?;
    let mut before = text[..start].chars().next_back()?;
    let mut other = None;
    for (at, after) in text[start..].char_indices() {
        if locality.keeps_last_spaces || !is_space(before) {
            if !locality.normalizes || separates(before, after) {
                return Some((start + at, 0));
            }
            other = other.or(Some((start + at, REACH)));
        }
        if at > REACH && other.is_some() {
            return other;
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
