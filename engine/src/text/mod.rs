//! From texts to token ids.

pub mod chat;
mod locality;
mod pieces;
mod prefix;
mod shorten;
mod special;
mod vocabulary;

use std::cmp::Ordering;
use std::path::Path;

use tokenizers::parallelism::MaybeParallelRefIterator;
use tokenizers::{
    EncodeInput, Encoding, OffsetType, PostProcessor, Tokenizer, TruncationDirection, TruncationParams,
    TruncationStrategy,
};

use self::chat::Rendered;
use self::locality::Locality;
pub use self::pieces::PieceDecoder;
use self::prefix::PrefixReader;
pub use self::vocabulary::build_missing;

use crate::error::{EngineError, Result};
use finetuned::domain::model::without_mark;

/// The tokenizer of a model directory (`tokenizer.json`).
pub struct TextTokenizer {
    inner: Tokenizer,
    max_tokens: usize,
    /// None where a text must be read whole to know its first tokens.
    locality: Option<Locality>,
    mask: Option<u32>,
    /// The tokens that end a text, the tokenizer's own first.
    ends: Vec<u32>,
    /// Whether words are told apart; if not, each token is a word, and encoding is faster.
    words: bool,
}

/// The ids of one text or pair of texts, special tokens included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// Where the second text of a pair begins, its separator before it not counted; the number of ids without one.
    pub second: usize,
    /// Which word of its text each id belongs to, from 1; 0 for special tokens.
    pub words: Vec<u32>,
    /// Whether the text was cut to fit.
    pub truncated: bool,
}

/// More tokens than any text has: none is cut.
pub const UNCUT: usize = 1 << 30;

/// The names that mask tokens go by where `tokenizer_config.json` does not say.
const USUAL_MASKS: [&str; 2] = ["[MASK]", "<mask>"];

impl TextTokenizer {
    /// Opens a model's tokenizer so that no text gives more than `max_tokens` ids.
    ///
    /// # Errors
    /// `tokenizer.json` is missing, malformed, or knows ids that a table of `vocab_size` rows does not have.
    pub fn open(directory: &Path, max_tokens: usize, vocab_size: i64) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        if !path.is_file() {
            return Err(EngineError::model(
                "the model has no tokenizer.json; Transformers writes one: \
                 AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)",
            ));
        }
        let bytes = std::fs::read(&path).map_err(EngineError::io(&path))?;
        let mut inner = Tokenizer::from_bytes(without_mark(&bytes))
            .map_err(|error| EngineError::model(format!("tokenizer.json: {error}")))?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        if i64::from(largest) >= vocab_size {
            return Err(EngineError::model(format!(
                "tokenizer.json has token id {largest}, but config.json's vocab_size is {vocab_size}; after adding tokens, \
                 call model.resize_token_embeddings(len(tokenizer)) and save the model again"
            )));
        }
        inner.with_padding(None);
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        inner
            .with_truncation(Some(truncation))
            .map_err(|error| EngineError::Hyperparameter { name: "max_sequence_length", message: error.to_string() })?;
        let config = json(directory, "tokenizer_config.json").unwrap_or_default();
        let named = configured(&config, "mask_token");
        let mask = named.into_iter().chain(USUAL_MASKS).find_map(|token| inner.token_to_id(token));
        let ends =
            ends(directory, configured(&config, "eos_token").and_then(|token| inner.token_to_id(token)), largest);
        let locality = Locality::of(&inner, without_mark(&bytes));
        Ok(Self { inner, max_tokens, locality, mask, ends, words: false })
    }

    /// The same tokenizer, telling which tokens make up a word.
    #[must_use]
    pub fn with_words(self) -> Self {
        Self { words: true, ..self }
    }

    /// How many tokens it knows.
    pub fn tokens(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of the mask token.
    ///
    /// # Errors
    /// The tokenizer has none.
    pub fn mask(&self) -> Result<u32> {
        self.mask.ok_or_else(|| EngineError::model("the tokenizer has no mask token, which this needs"))
    }

    /// The id of the token that ends a text.
    ///
    /// # Errors
    /// Neither the tokenizer nor the model names one.
    pub fn end(&self) -> Result<u32> {
        let message =
            "neither tokenizer_config.json nor config.json names a token that ends a text (eos_token, eos_token_id)";
        self.ends.first().copied().ok_or_else(|| EngineError::model(message))
    }

    /// The ids of all tokens that end a text, as tokenizer and model name them.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The id of a token by its name.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The ids of a whole text, with those that the tokenizer puts around texts where `is_bare`, which one that a chat template
    /// has written is not.
    ///
    /// # Errors
    /// The tokenizer fails on the text, which a well-made one does not.
    pub fn ids(&self, text: &str, is_bare: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, is_bare);
        let encoding = encoding.map_err(|error| EngineError::model(format!("tokenizer.json: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// What a token stands for by itself. Of one that is a part of a character that is U+FFFD.
    ///
    /// # Errors
    /// The tokenizer fails, which a well-made one does not.
    pub fn token_text(&self, id: u32) -> Result<String> {
        self.inner.decode(&[id], false).map_err(|error| EngineError::model(format!("tokenizer.json: {error}")))
    }

    /// The tokens of a conversation that a chat template has written, and whether each is of a message that `learned` says yes to.
    ///
    /// # Errors
    /// The tokenizer fails on the text, which a well-made one does not.
    pub fn rendered(
        &self,
        rendered: &Rendered,
        learned: impl Fn(usize) -> bool,
    ) -> std::result::Result<Vec<(u32, bool)>, String> {
        rendered.tokens(&self.inner, learned)
    }

    /// The tokens of a text that goes on as `completion` and then ends with `end`, and whether each is learned: all behind
    /// what the prompt by itself begins with, as in TRL.
    ///
    /// # Errors
    /// The tokenizer fails on the text, which a well-made one does not.
    pub fn completion(
        &self,
        prompt: &str,
        completion: &str,
        end: u32,
    ) -> std::result::Result<Vec<(u32, bool)>, String> {
        let encode =
            |text: &str| self.inner.encode_fast(text, true).map_err(|error| format!("tokenizer.json: {error}"));
        let (before, whole) = (encode(prompt)?, encode(&format!("{prompt}{completion}"))?);
        let pairs = before.get_ids().iter().zip(whole.get_ids());
        let shared = pairs.take_while(|(before, whole)| before == whole).count();
        let mut tokens: Vec<(u32, bool)> =
            whole.get_ids().iter().enumerate().map(|(place, &id)| (id, place >= shared)).collect();
        if tokens.last().map(|(id, _)| *id) != Some(end) {
            tokens.push((end, true));
        }
        Ok(tokens)
    }

    /// What turns ids back into a text, as they come.
    pub fn decoder(&self) -> PieceDecoder<'_> {
        PieceDecoder::new(&self.inner)
    }

    /// Encodes texts or pairs of texts in parallel, in order. Of long texts no more is read than is kept, and those of which
    /// much must be read are read one after the other.
    ///
    /// # Errors
    /// The tokenizer fails on a text, which a well-made one does not.
    pub fn encode(&self, texts: &[(&str, Option<&str>)]) -> Result<Vec<Encoded>> {
        self.encode_all(texts).map_err(|error| EngineError::model(format!("tokenizer.json: {error}")))
    }

    fn encode_all(&self, texts: &[(&str, Option<&str>)]) -> tokenizers::Result<Vec<Encoded>> {
        let long = prefix::pays_from(self.max_tokens);
        let is_long = |(text, pair): &(&str, Option<&str>)| text.len().max(pair.map_or(0, str::len)) >= long;
        let (long, short): (Vec<_>, Vec<_>) = texts.iter().copied().partition(is_long);
        let inputs: Vec<EncodeInput<'_>> = short.into_iter().map(input).collect();
        let short =
            if self.words { self.inner.encode_batch(inputs, true) } else { self.inner.encode_batch_fast(inputs, true) };
        let mut short = short?.into_iter();
        let begun: Vec<Option<Encoded>> = long
            .maybe_par_iter()
            .map(|&text| self.beginning(text, MOST_IN_PARALLEL))
            .collect::<tokenizers::Result<_>>()?;
        let mut begun = begun.into_iter();
        let mut all = Vec::with_capacity(texts.len());
        for &text in texts {
            let encoded = if is_long(&text) {
                match begun.next().flatten() {
                    Some(encoded) => Some(encoded),
                    None => self.beginning(text, usize::MAX)?,
                }
            } else {
                short.next().map(|encoding| self.encoded(&encoding))
            };
            all.push(match encoded {
                Some(encoded) => encoded,
                None => self.whole(text)?,
            });
        }
        Ok(all)
    }

    /// A text of which no more is read than must be; None if that is more than `most` bytes, or if all of it must be.
    fn beginning(&self, (text, pair): (&str, Option<&str>), most: usize) -> tokenizers::Result<Option<Encoded>> {
        let Some(locality) = &self.locality else { return Ok(None) };
        let offsets = if self.words { OffsetType::Byte } else { OffsetType::None };
        let special = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(true));
        let is_odd = self.max_tokens.abs_diff(special) % 2 == 1;
        let counts = pair.is_some() && is_odd;
        let reader = PrefixReader { tokenizer: &self.inner, locality, wanted: self.max_tokens, counts, offsets };
        let Some(first) = reader.read(text, 0, most)? else { return Ok(None) };
        let second = match pair.map(|pair| reader.read(pair, 1, most)).transpose()? {
            Some(None) => return Ok(None),
            Some(Some(second)) if counts && !first.tells_the_longer(&second) => return Ok(None),
            second => second.flatten(),
        };
        let is_cut = first.is_cut || second.as_ref().is_some_and(|second| second.is_cut);
        let encoded = self.joined(first.encoding, second.map(|second| second.encoding))?;
        Ok(Some(Encoded { truncated: encoded.truncated || is_cut, ..encoded }))
    }

    fn whole(&self, (text, pair): (&str, Option<&str>)) -> tokenizers::Result<Encoded> {
        let offsets = if self.words { OffsetType::Byte } else { OffsetType::None };
        let all = |text, type_id| prefix::whole(&self.inner, text, type_id, self.max_tokens, offsets);
        self.joined(all(text, 0)?, pair.map(|pair| all(pair, 1)).transpose()?)
    }

    /// Truncates and joins the tokens of a text and of the second one of a pair.
    fn joined(&self, mut first: Encoding, mut second: Option<Encoding>) -> tokenizers::Result<Encoded> {
        // The tokenizer keeps everything that it cuts off, of pairs each part of one with each of the other. Which of two is
        // the longer must stay so.
        let longer = second.as_ref().map(|second| first.len().cmp(&second.len()));
        let more = |which| usize::from(longer == Some(which));
        cap(&mut first, self.max_tokens + 1 + more(Ordering::Greater));
        if let Some(second) = &mut second {
            cap(second, self.max_tokens + 1 + more(Ordering::Less));
        }
        Ok(self.encoded(&self.inner.post_process(first, second, true)?))
    }

    fn encoded(&self, encoding: &Encoding) -> Encoded {
        let ids = encoding.get_ids().to_vec();
        let words = encoding.get_word_ids().iter().zip(encoding.get_special_tokens_mask()).enumerate();
        let word = |(place, (word, &special)): (usize, (&Option<u32>, &u32))| match word {
            _ if special > 0 => 0,
            Some(word) if self.words => word + 1,
            _ => place as u32 + 1,
        };
        Encoded {
            second: encoding.get_type_ids().iter().position(|&kind| kind > 0).unwrap_or(ids.len()),
            words: words.map(word).collect(),
            truncated: !encoding.get_overflowing().is_empty(),
            ids,
        }
    }
}

/// Leaves the first `most` tokens.
fn cap(encoding: &mut Encoding, most: usize) {
    encoding.truncate(most, 0, TruncationDirection::Right);
    encoding.take_overflowing();
}

/// Bytes of a text that are tokenised beside others.
const MOST_IN_PARALLEL: usize = 64 << 10;

fn input<'a>((text, pair): (&'a str, Option<&'a str>)) -> EncodeInput<'a> {
    match pair {
        Some(pair) => EncodeInput::Dual(text.into(), pair.into()),
        None => EncodeInput::Single(text.into()),
    }
}

/// The token that a `tokenizer_config.json` names in this role.
fn configured<'a>(config: &'a serde_json::Value, role: &str) -> Option<&'a str> {
    let token = &config[role];
    token.as_str().or_else(|| token["content"].as_str())
}

/// The tokens that end a text: the tokenizer's, then those that the model's own configurations name by their ids, which are
/// `largest` at most.
fn ends(directory: &Path, own: Option<u32>, largest: u32) -> Vec<u32> {
    let mut ends: Vec<u32> = own.into_iter().collect();
    for name in ["generation_config.json", "config.json"] {
        let Some(config) = json(directory, name) else { continue };
        let stated = &config["eos_token_id"];
        let stated = stated.as_array().map_or(std::slice::from_ref(stated), Vec::as_slice);
        let ids = stated.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok());
        for id in ids.filter(|&id| id <= largest) {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
    }
    ends
}

fn json(directory: &Path, name: &str) -> Option<serde_json::Value> {
    let text = std::fs::read(directory.join(name)).ok()?;
    serde_json::from_slice(without_mark(&text)).ok()
}
