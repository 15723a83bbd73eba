//! Tokenised texts in memory, and packed batches of them.

use std::rc::Rc;

use tch::{Device, Tensor};

use crate::error::Result;
use crate::models::text::Tokens;
use crate::nn::Sequences;
use crate::text::TextTokenizer;
use finetuned::domain::random::mix_all;
use finetuned::domain::report::{Lengths, TokenLengths};

/// Texts as token ids: one flat vector, so a million short texts cost little more than their tokens.
#[derive(Clone, Debug)]
pub struct Texts {
    ids: Vec<u32>,
    /// Where each text's tokens start; one more than there are texts.
    starts: Vec<usize>,
    /// How many tokens stand before the second text of a pair.
    seconds: Vec<usize>,
    /// The number of each token's word, from 1; 0 for special tokens.
    words: Vec<u32>,
    /// Which texts were cut to fit.
    truncated: Vec<bool>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { ids: Vec::new(), starts: vec![0], seconds: Vec::new(), words: Vec::new(), truncated: Vec::new() }
    }
}

/// Texts on their way from a file to tokens: some at a time, so that all threads tokenise and few texts are held.
pub struct TextsBuilder<'a> {
    tokenizer: &'a TextTokenizer,
    texts: Texts,
    pending: Vec<(String, Option<String>)>,
    pending_bytes: usize,
}

/// Texts and bytes that are pending at most, but for the last text.
const MOST_PENDING: usize = 4096;
const MOST_PENDING_BYTES: usize = 4 << 20;

impl<'a> TextsBuilder<'a> {
    /// One without texts.
    pub fn new(tokenizer: &'a TextTokenizer) -> Self {
        Self { tokenizer, texts: Texts::default(), pending: Vec::new(), pending_bytes: 0 }
    }

    /// Adds a text or a pair of texts.
    ///
    /// # Errors
    /// A text cannot be tokenised.
    pub fn push(&mut self, text: String, pair: Option<String>) -> Result<()> {
        self.pending_bytes += text.len() + pair.as_ref().map_or(0, String::len);
        self.pending.push((text, pair));
        let is_full = self.pending.len() >= MOST_PENDING || self.pending_bytes >= MOST_PENDING_BYTES;
        if is_full { self.tokenise() } else { Ok(()) }
    }

    /// All of them.
    ///
    /// # Errors
    /// A text cannot be tokenised.
    pub fn finish(mut self) -> Result<Texts> {
        self.tokenise()?;
        Ok(self.texts)
    }

    fn tokenise(&mut self) -> Result<()> {
        let slices: Vec<(&str, Option<&str>)> =
            self.pending.iter().map(|(text, pair)| (text.as_str(), pair.as_deref())).collect();
        self.texts.add(&slices, self.tokenizer)?;
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }
}

/// Words of a text that are changed before the model sees it.
pub trait Change {
    /// The ids that stand where `ids` did, of text number `index`; the same places where nothing is left out.
    fn change(&self, index: usize, ids: &[u32], words: &[u32]) -> Vec<u32>;
}

impl Texts {
    /// Tokenises texts or pairs and adds them.
    pub fn add(&mut self, texts: &[(&str, Option<&str>)], tokenizer: &TextTokenizer) -> Result<()> {
        for encoded in tokenizer.encode(texts)? {
            self.truncated.push(encoded.truncated);
            self.seconds.push(encoded.second);
            self.words.extend(encoded.words);
            self.ids.extend(encoded.ids);
            self.starts.push(self.ids.len());
        }
        Ok(())
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.truncated.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.truncated.is_empty()
    }

    /// The number of tokens of all texts together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// How many texts were cut to fit.
    pub fn truncated(&self) -> u64 {
        self.truncated.iter().filter(|&&cut| cut).count() as u64
    }

    /// The lengths of all texts, for the job's owner.
    pub fn token_lengths(&self) -> TokenLengths {
        let mut lengths = Lengths::default();
        for (index, length) in self.lengths().into_iter().enumerate() {
            lengths.add(length as u64, index as u64 + 1);
        }
        TokenLengths { lengths, truncated: self.truncated() }
    }

    /// Whether a text was cut to fit.
    pub fn is_truncated(&self, index: usize) -> bool {
        self.truncated[index]
    }

    /// The number of tokens of each text.
    pub fn lengths(&self) -> Vec<usize> {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// The texts for which `keep` is true, and the others.
    pub fn partition(self, keep: &[bool]) -> (Self, Self) {
        let (mut kept, mut others) = (Self::default(), Self::default());
        for (index, &keep) in keep.iter().enumerate() {
            let part = if keep { &mut kept } else { &mut others };
            part.ids.extend_from_slice(self.ids_of(index));
            part.words.extend_from_slice(self.words_of(index));
            part.starts.push(part.ids.len());
            part.seconds.push(self.seconds[index]);
            part.truncated.push(self.truncated[index]);
        }
        (kept, others)
    }

    /// The ids of a text.
    pub fn ids_of(&self, index: usize) -> &[u32] {
        &self.ids[self.starts[index]..self.starts[index + 1]]
    }

    /// The number of each token's word, from 1; 0 for special tokens.
    pub fn words_of(&self, index: usize) -> &[u32] {
        &self.words[self.starts[index]..self.starts[index + 1]]
    }

    /// The texts at `indices`, packed: their tokens laid end to end, changed by `change`.
    pub fn pack(&self, indices: &[usize], change: Option<&dyn Change>) -> Packed {
        let (mut ids, mut positions, mut types) = (Vec::new(), Vec::new(), Vec::new());
        let mut lengths = Vec::with_capacity(indices.len());
        for &index in indices {
            let original = self.ids_of(index);
            let changed = change.map(|change| change.change(index, original, self.words_of(index)));
            let tokens = changed.as_deref().unwrap_or(original);
            ids.extend(tokens.iter().map(|&id| i64::from(id)));
            positions.extend(0..tokens.len() as i64);
            types.extend((0..tokens.len()).map(|place| i64::from(place >= self.seconds[index])));
            lengths.push(tokens.len() as i64);
        }
        Packed { ids, positions, types, lengths }
    }
}

impl Texts {
    /// The texts at `indices`, packed, with `noise` where an epoch of a training sees them.
    pub fn pack_noisy(&self, indices: &[usize], noise: Option<&TokenNoise>, epoch: Option<u64>) -> Packed {
        match noise.zip(epoch) {
            Some((noise, epoch)) => self.pack(indices, Some(&TokenNoise { epoch, ..*noise })),
            None => self.pack(indices, None),
        }
    }
}

/// A packed batch in host memory.
pub struct Packed {
    ids: Vec<i64>,
    positions: Vec<i64>,
    types: Vec<i64>,
    lengths: Vec<i64>,
}

impl Packed {
    /// Sequences of one segment, laid end to end.
    pub fn of<'a>(sequences: impl Iterator<Item = &'a [u32]>) -> Self {
        let (mut ids, mut positions, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for sequence in sequences {
            ids.extend(sequence.iter().map(|&id| i64::from(id)));
            positions.extend(0..sequence.len() as i64);
            lengths.push(sequence.len() as i64);
        }
        Self { types: vec![0; ids.len()], ids, positions, lengths }
    }

    /// The number of tokens, `T`.
    pub fn tokens(&self) -> u64 {
        self.ids.len() as u64
    }

    /// The batch on the model's device.
    ///
    /// # Errors
    /// A text is empty, all together have over 2³¹ tokens, or libtorch fails.
    pub fn on(&self, device: Device) -> Result<Tokens> {
        Ok(Tokens {
            ids: Tensor::f_from_slice(&self.ids)?.f_to_device(device)?,
            positions: Tensor::f_from_slice(&self.positions)?.f_to_device(device)?,
            types: Tensor::f_from_slice(&self.types)?.f_to_device(device)?,
            sequences: Rc::new(Sequences::from_lengths(self.lengths.clone(), device)?),
            past: None,
        })
    }
}

/// Augmentation of texts: tokens are left out or masked, special tokens never. What happens to a token is a function of
/// seed, epoch, text and place, so a resumed run sees the same.
pub struct TokenNoise {
    pub seed: i64,
    pub epoch: u64,
    pub dropout: f64,
    pub masking: f64,
    /// The mask token's id.
    pub mask: u32,
}

impl TokenNoise {
    /// What `h` asks for, of the first epoch; None where that is nothing.
    ///
    /// # Errors
    /// Tokens are to be masked, and the tokenizer has no mask token.
    pub fn wanted(dropout: f64, masking: f64, seed: i64, tokenizer: &TextTokenizer) -> Result<Option<Self>> {
        if dropout == 0.0 && masking == 0.0 {
            return Ok(None);
        }
        let mask = if masking > 0.0 { tokenizer.mask()? } else { 0 };
        Ok(Some(Self { seed, epoch: 0, dropout, masking, mask }))
    }
}

/// A number from 0 to below 1.
pub fn uniform(place: &[u64]) -> f64 {
    (mix_all(place) >> 11) as f64 / (1_u64 << 53) as f64
}

impl Change for TokenNoise {
    fn change(&self, index: usize, ids: &[u32], words: &[u32]) -> Vec<u32> {
        let draw = |place: usize, what: u64| {
            uniform(&[self.seed.cast_unsigned(), self.epoch, index as u64, place as u64, what])
        };
        let noisy: Vec<u32> = ids
            .iter()
            .zip(words)
            .enumerate()
            .filter_map(|(place, (&id, &word))| {
                if word == 0 {
                    Some(id)
                } else if draw(place, 0) < self.dropout {
                    None
                } else {
                    Some(if draw(place, 1) < self.masking { self.mask } else { id })
                }
            })
            .collect();
        // Where a tokenizer puts no special tokens around a text, all of it may be left out, and nothing is no text.
        if noisy.is_empty() { ids.iter().take(1).copied().collect() } else { noisy }
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, TokenNoise, uniform};

    #[test]
    fn noise_depends_on_the_place_alone_and_spares_special_tokens() {
        let ids: Vec<u32> = (100..1100).collect();
        let words: Vec<u32> = (0..1000).map(|place| u32::from(place > 0 && place < 999)).collect();
        let noise = |epoch| TokenNoise { seed: 1, epoch, dropout: 0.2, masking: 0.1, mask: 7 };
        let first = noise(0).change(3, &ids, &words);
        assert_eq!(first, noise(0).change(3, &ids, &words));
        assert_ne!(first, noise(1).change(3, &ids, &words));
        assert_ne!(first, noise(0).change(4, &ids, &words));
        assert_eq!((first[0], first[first.len() - 1]), (100, 1099));
        let masked = first.iter().filter(|&&id| id == 7).count();
        assert!((760..840).contains(&first.len()) && (50..110).contains(&masked), "{} {masked}", first.len());
    }

    #[test]
    fn a_text_without_special_tokens_keeps_one_token() {
        let noise = TokenNoise { seed: 1, epoch: 0, dropout: 0.99, masking: 0.0, mask: 0 };
        let kept: Vec<Vec<u32>> = (0..50).map(|text| noise.change(text, &[5, 6], &[1, 2])).collect();
        assert!(kept.iter().all(|ids| !ids.is_empty()) && kept.contains(&vec![5]));
        assert!(noise.change(0, &[], &[]).is_empty());
    }

    #[test]
    fn draws_are_spread_evenly() {
        let below = (0..10_000).filter(|&i| uniform(&[5, i]) < 0.25).count();
        assert!((2300..2700).contains(&below), "{below}");
    }
}
