//! Long runs of a text that mean the same when they are shorter, for tokenizers that look at words.

use std::borrow::Cow;
use std::collections::HashMap;

use tokenizers::{OffsetReferential, OffsetType, PreTokenizer, Tokenizer};

/// Characters that are left of a run that means nothing.
const LEFT: usize = 512;

/// What a character is to a tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Part of a word.
    Solid,
    /// Left out.
    Gone,
    Space,
    /// Anything else: a word by itself, for one.
    Other,
}

pub(super) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\n' | '\t')
}

/// Whether a token that was added to the vocabulary could stand within a word of any letters.
pub(super) fn is_within_words(tokenizer: &Tokenizer, token: &str) -> bool {
    token.chars().all(|character| matches!(kind(tokenizer, character), Kind::Solid | Kind::Gone))
}

/// What becomes of a character between two letters.
fn kind(tokenizer: &Tokenizer, character: char) -> Kind {
    if is_space(character) {
        return Kind::Space;
    }
    let between = format!("a{character}a");
    let mut splits = tokenizer.get_added_vocabulary().extract_and_normalize(tokenizer.get_normalizer(), &between);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer()
        && pre_tokenizer.pre_tokenize(&mut splits).is_err()
    {
        return Kind::Other;
    }
    match splits.get_splits(OffsetReferential::Original, OffsetType::Byte)[..] {
        [("aa", _, None)] => Kind::Gone,
        // Of whatever script, as long as it leaves nothing.
        [("a", _, None), ("a", _, None)] => Kind::Space,
        [(word, _, None)] if word.chars().nth(2).is_some() => Kind::Solid,
        _ => Kind::Other,
    }
}

/// The text with its long runs cut short. A word of more than `letters` letters means the same however many follow, and
/// spaces mean nothing where `spaces` says so. Of a run its beginning is left and, for what follows it, the last `margin`
/// bytes.
pub(super) fn shortened<'a>(
    text: &'a str,
    tokenizer: &Tokenizer,
    letters: Option<usize>,
    spaces: bool,
    margin: usize,
) -> Cow<'a, str> {
    let mut kinds: HashMap<char, Kind> = HashMap::new();
    let mut of = |character: char| match character {
        _ if is_space(character) && spaces => Kind::Space,
        _ if letters.is_none() => Kind::Other,
        _ => *kinds.entry(character).or_insert_with(|| match kind(tokenizer, character) {
            Kind::Space if !spaces => Kind::Other,
            kind => kind,
        }),
    };
    let kept = letters.unwrap_or_default().max(margin);
    let mut short = String::new();
    let (mut copied, mut run) = (0, Run::default());
    let mut last = ('\0', Kind::Other);
    for (at, character) in text.char_indices().map(|(at, character)| (at, Some(character))).chain([(text.len(), None)])
    {
        let kind = match character {
            Some(character) if character == last.0 => last.1,
            Some(character) => of(character),
            None => Kind::Other,
        };
        last = (character.unwrap_or_default(), kind);
        if !run.takes(kind) {
            if let Some(from) = run.cut {
                let to = (at.saturating_sub(margin)..at).find(|&place| text.is_char_boundary(place)).unwrap_or(at);
                if to > from {
                    short.push_str(&text[copied..from]);
                    copied = to;
                }
            }
            run = Run { is_of_spaces: kind == Kind::Space, ..Run::default() };
        }
        run.add(kind, at, kept);
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    short.push_str(&text[copied..]);
    Cow::Owned(short)
}

/// Characters that follow each other.
#[derive(Default)]
struct Run {
    is_of_spaces: bool,
    /// Whether it can have no second character.
    is_over: bool,
    length: usize,
    solid: usize,
    /// From where on its middle may be left out.
    cut: Option<usize>,
}

impl Run {
    fn takes(&self, kind: Kind) -> bool {
        !self.is_over && kind != Kind::Other && self.is_of_spaces == (kind == Kind::Space)
    }

    fn add(&mut self, kind: Kind, at: usize, kept: usize) {
        self.is_over = kind == Kind::Other;
        self.length += 1;
        if kind == Kind::Solid {
            if self.solid == 0 {
                // What is left out of a word begins after its letters.
                self.cut = None;
            }
            self.solid += 1;
        }
        if self.solid == kept && self.cut.is_none() && kind == Kind::Solid
            || self.solid == 0 && self.length == LEFT.max(kept)
        {
            self.cut = Some(at);
        }
    }
}
