//! What was read lately, so that a text that goes on from the same tokens reads none of them again.

use crate::error::Result;
use crate::nn::KvCache;

/// Bytes of what is remembered beside the text that is being written.
const MOST_BYTES: usize = 1 << 30;
/// Texts that are remembered.
const MOST_TEXTS: usize = 32;

/// Texts that were read, the latest last.
#[derive(Default)]
pub struct Memory {
    texts: Vec<(Vec<u32>, KvCache)>,
}

impl Memory {
    /// What is known of the beginning of `ids`: as many of them as are told, and what was read of those.
    ///
    /// # Errors
    /// libtorch fails.
    pub(super) fn recall(&mut self, ids: &[u32]) -> Result<(usize, KvCache)> {
        let shared = |read: &[u32]| read.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let known = self.texts.iter().enumerate().map(|(place, (read, _))| (shared(read), place));
        let Some((count, place)) = known.max().filter(|(count, _)| *count > 0) else {
            return Ok((0, KvCache::default()));
        };
        if self.texts[place].0.len() == count {
            return Ok((count, self.texts.remove(place).1));
        }
        // Another text goes on otherwise from here, and may be asked for again.
        Ok((count, self.texts[place].1.beginning(count as i64)?))
    }

    /// Remembers what was read of these tokens, and forgets what was used longest ago where it is too much. These are kept, however
    /// large they are: the text is to go on.
    pub(super) fn keep(&mut self, ids: Vec<u32>, cache: KvCache) {
        self.texts.push((ids, cache));
        let mut bytes = 0;
        let before = self.texts.iter().rev().skip(1).take(MOST_TEXTS).take_while(|(_, cache)| {
            bytes += cache.bytes();
            bytes <= MOST_BYTES
        });
        let kept = 1 + before.count();
        self.texts.drain(..self.texts.len() - kept);
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::{KvCache, MOST_TEXTS, Memory};

    /// A cache whose one layer's keys are the tokens themselves.
    fn cache(ids: &[u32]) -> KvCache {
        let values: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
        let tensor = Tensor::from_slice(&values).view([1, -1, 1]);
        let mut cache = KvCache::default();
        drop(cache.extend(0, &tensor, &tensor).unwrap());
        cache.advance(ids.len() as i64);
        cache
    }

    fn keys(mut cache: KvCache) -> Vec<f32> {
        let none = Tensor::zeros([1, 0, 1], (Kind::Float, Device::Cpu));
        Vec::try_from(cache.extend(0, &none, &none).unwrap().0.flatten(0, -1)).unwrap()
    }

    #[test]
    fn the_longest_beginning_that_is_known_is_used() {
        let mut memory = Memory::default();
        for ids in [&[1, 2][..], &[1, 2, 3, 4], &[9]] {
            memory.keep(ids.to_vec(), cache(ids));
        }
        let (count, found) = memory.recall(&[1, 2, 3, 5]).unwrap();
        assert_eq!((count, keys(found)), (3, vec![1.0, 2.0, 3.0]));
        let (count, found) = memory.recall(&[1, 2, 3, 4, 5]).unwrap();
        assert_eq!((count, keys(found)), (4, vec![1.0, 2.0, 3.0, 4.0]), "it is there still");
        let (count, _) = memory.recall(&[1, 2, 3, 4, 5]).unwrap();
        assert_eq!(count, 2, "what goes on as it is is handed out, not copied");
        assert_eq!(memory.recall(&[7]).unwrap().0, 0);
        assert_eq!(memory.recall(&[]).unwrap().0, 0);
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten() {
        let mut memory = Memory::default();
        for id in 0..=1 + MOST_TEXTS as u32 {
            memory.keep(vec![id], cache(&[id]));
        }
        assert_eq!(memory.recall(&[0, 1]).unwrap().0, 0);
        assert_eq!(memory.recall(&[1, 1]).unwrap().0, 1);
    }
}
