//! How far the tokens of a text depend on what follows them, of tokenizers whose parts are known.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Model, Tokenizer};

use super::shorten::is_within_words;

/// Bytes that no part of a tokenizer looks ahead further than: contractions of GPT-2's pattern have three characters.
const LOOK_AHEAD: usize = 64;

/// What a cut text shares with the whole one.
#[derive(Clone, Debug)]
pub(super) struct Locality {
    /// Words that end so many bytes before a plain cut are words of the whole text.
    pub(super) margin: usize,
    /// Whether characters are changed before words are told apart, some of them together with what stands beside them.
    pub(super) normalizes: bool,
    pub(super) word: Word,
    /// Letters of a word from which on it means the same however many follow.
    pub(super) most_letters: Option<usize>,
    /// Whether a run of spaces means the same as a shorter one.
    pub(super) drops_spaces: bool,
    /// Whether spaces at the end of a text are normalised as those in it are.
    pub(super) keeps_last_spaces: bool,
}

/// What is known of the tokens of a word of which only the beginning is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// With more characters than these it is one unknown token (`WordPiece`).
    Unknown { beyond: usize },
    /// No token is longer than these bytes (an unknown character has four), and the tokens up to the end of one are those of the text up to there (BPE,
    /// Unigram).
    Tokens { longest: usize },
    /// Nothing.
    Nothing,
}

/// What `tokenizer.json` says besides its model.
#[derive(Deserialize)]
struct Parts {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    lstrip: bool,
}

impl Locality {
    /// That of a tokenizer and its file; None where a part is not known to look at what is near alone.
    pub(super) fn of(tokenizer: &Tokenizer, json: &[u8]) -> Option<Self> {
        let parts: Parts = serde_json::from_slice(json).ok()?;
        let added = parts.added_tokens.iter().map(|token| token.content.len()).max().unwrap_or_default();
        let (normalizer, pre_tokenizer) = (parts.normalizer.as_ref(), parts.pre_tokenizer.as_ref());
        let reach =
            normalizer.map_or(Some(0), reach_of_normalizer)? + pre_tokenizer.map_or(Some(0), reach_of_splits)?;
        let word = word(tokenizer);
        let shortens = normalizer.is_none_or(keeps_letters)
            && pre_tokenizer.is_some_and(splits_at_characters)
            && !parts.added_tokens.iter().any(|token| is_within_words(tokenizer, &token.content));
        let most_letters = match word {
            Word::Unknown { beyond } if shortens => Some(4 * (beyond + 1)),
            _ => None,
        };
        Some(Self {
            normalizes: normalizer.is_some(),
            margin: LOOK_AHEAD + 4 * added + reach,
            word,
            most_letters,
            drops_spaces: pre_tokenizer.is_some_and(drops_spaces),
            // A token that takes the spaces before it may follow.
            keeps_last_spaces: normalizer.is_none_or(keeps_spaces)
                && !parts.added_tokens.iter().any(|token| token.lstrip),
        })
    }
}

fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or_default()
}

fn list<'a>(part: &'a Value, name: &str) -> &'a [Value] {
    part[name].as_array().map_or(&[], Vec::as_slice)
}

/// How many bytes a normalizer looks ahead beyond the usual; None where that is not known.
fn reach_of_normalizer(part: &Value) -> Option<usize> {
    match kind(part) {
        "BertNormalizer" | "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" | "Strip" | "Nmt"
        | "Precompiled" | "Prepend" | "ByteLevel" => Some(0),
        "Replace" => reach_of_pattern(part),
        "Sequence" => list(part, "normalizers").iter().map(reach_of_normalizer).sum(),
        _ => None,
    }
}

/// The same of a pre-tokenizer.
fn reach_of_splits(part: &Value) -> Option<usize> {
    match kind(part) {
        "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" | "Digits" | "Punctuation" | "Metaspace"
        | "ByteLevel" | "CharDelimiterSplit" => Some(0),
        "Split" => reach_of_pattern(part),
        "Sequence" => list(part, "pretokenizers").iter().map(reach_of_splits).sum(),
        _ => None,
    }
}

/// A string is looked for near by. Runs of spaces, which `SentencePiece`'s tokenizers shorten, never reach across a cut.
fn reach_of_pattern(part: &Value) -> Option<usize> {
    match (part["pattern"]["String"].as_str(), part["pattern"]["Regex"].as_str()) {
        (Some(string), _) => Some(4 * string.len()),
        (_, Some(" {2,}")) => Some(0),
        _ => None,
    }
}

/// Whether a normalizer leaves as many letters as there were.
fn keeps_letters(part: &Value) -> bool {
    match kind(part) {
        "BertNormalizer" | "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" => true,
        "Sequence" => list(part, "normalizers").iter().all(keeps_letters),
        _ => false,
    }
}

/// Whether a normalizer leaves spaces where they are.
fn keeps_spaces(part: &Value) -> bool {
    match kind(part) {
        "Strip" | "Replace" => false,
        "Sequence" => list(part, "normalizers").iter().all(keeps_spaces),
        _ => true,
    }
}

/// Whether a pre-tokenizer leaves spaces out before it does anything else.
fn drops_spaces(part: &Value) -> bool {
    match kind(part) {
        "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" => true,
        "Sequence" => list(part, "pretokenizers").first().is_some_and(drops_spaces),
        _ => false,
    }
}

/// Whether a pre-tokenizer splits at characters that are no letters, and nowhere else.
fn splits_at_characters(part: &Value) -> bool {
    match kind(part) {
        "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" => true,
        "Sequence" => list(part, "pretokenizers").iter().all(splits_at_characters),
        _ => false,
    }
}

fn word(tokenizer: &Tokenizer) -> Word {
    let longest = || tokenizer.get_vocab(true).keys().map(String::len).max().unwrap_or_default().max(4);
    match tokenizer.get_model() {
        ModelWrapper::WordPiece(model) => Word::Unknown { beyond: model.max_input_chars_per_word },
        ModelWrapper::Unigram(_) => Word::Tokens { longest: longest() },
        ModelWrapper::BPE(model) => {
            // A character without token would leave no trace, and tokens would reach over it.
            let whole = model.unk_token.is_some()
                || ByteLevel::alphabet().iter().all(|letter| model.token_to_id(&letter.to_string()).is_some());
            let plain = model.dropout.is_none_or(|share| share == 0.0)
                && model.continuing_subword_prefix.as_ref().is_none_or(String::is_empty)
                && model.end_of_word_suffix.as_ref().is_none_or(String::is_empty)
                && !model.byte_fallback;
            if whole && plain { Word::Tokens { longest: longest() } } else { Word::Nothing }
        }
        ModelWrapper::WordLevel(_) => Word::Nothing,
    }
}
