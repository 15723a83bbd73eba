//! What was read lately, so that a text that goes on from the same tokens reads none of them again.

use crate::error::Result;
use crate::nn::KvCache;

/// Bytes of what is remembered beside the text that is being written.
const MOST_BYTES: usize = 1 << 30;
/// Texts that are remembered.
const MOST_TEXTS: usize = 32;

/// Texts that models have read, the latest last.
#[derive(Default)]
pub struct Memory {
    texts: Vec<Read>,
}

struct Read {
    /// The number of the model.
    by: u64,
    ids: Vec<u32>,
    cache: KvCache,
}

impl Memory {
    /// What the model of that number has read of the beginning of `ids`: as many of them as are told, and what was read of those.
    ///
    /// # Errors
    /// libtorch fails.
    pub(super) fn recall(&mut self, by: u64, ids: &[u32]) -> Result<(usize, KvCache)> {
        let shared = |read: &[u32]| read.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let own = self.texts.iter().enumerate().filter(|(_, read)| read.by == by);
        let known = own.map(|(place, read)| (shared(&read.ids), place));
        let Some((count, place)) = known.max().filter(|(count, _)| *count > 0) else {
            return Ok((0, KvCache::default()));
        };
        if self.texts[place].ids.len() == count {
            return Ok((count, self.texts.remove(place).cache));
        }
        // Another text goes on otherwise from here, and may be asked for again.
        Ok((count, self.texts[place].cache.beginning(count as i64)?))
    }

    /// Remembers what was read of these tokens, and forgets what was used longest ago where it is too much. These are kept, however
    /// large they are: the text is to go on.
    pub(super) fn keep(&mut self, by: u64, ids: Vec<u32>, cache: KvCache) {
        self.texts.push(Read { by, ids, cache });
        let mut bytes = 0;
        let before = self.texts.iter().rev().skip(1).take(MOST_TEXTS).take_while(|read| {
            bytes += read.cache.bytes();
            bytes <= MOST_BYTES
        });
        let kept = 1 + before.count();
        self.texts.drain(..self.texts.len() - kept);
    }

    /// Forgets what the model of that number has read.
    pub fn forget(&mut self, by: u64) {
        self.texts.retain(|read| read.by != by);
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
            memory.keep(1, ids.to_vec(), cache(ids));
        }
        let (count, found) = memory.recall(1, &[1, 2, 3, 5]).unwrap();
        assert_eq!((count, keys(found)), (3, vec![1.0, 2.0, 3.0]));
        let (count, found) = memory.recall(1, &[1, 2, 3, 4, 5]).unwrap();
        assert_eq!((count, keys(found)), (4, vec![1.0, 2.0, 3.0, 4.0]), "it is there still");
        let (count, _) = memory.recall(1, &[1, 2, 3, 4, 5]).unwrap();
        assert_eq!(count, 2, "what goes on as it is is handed out, not copied");
        assert_eq!(memory.recall(1, &[7]).unwrap().0, 0);
        assert_eq!(memory.recall(1, &[]).unwrap().0, 0);
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten() {
        let mut memory = Memory::default();
        for id in 0..=1 + MOST_TEXTS as u32 {
            memory.keep(1, vec![id], cache(&[id]));
        }
        assert_eq!(memory.recall(1, &[0, 1]).unwrap().0, 0);
        assert_eq!(memory.recall(1, &[1, 1]).unwrap().0, 1);
    }

    #[test]
    fn each_model_remembers_what_it_has_read_itself() {
        let mut memory = Memory::default();
        for by in [1, 2] {
            memory.keep(by, vec![5, 6], cache(&[5, by as u32]));
        }
        assert_eq!(memory.recall(3, &[5, 6]).unwrap().0, 0);
        let (count, found) = memory.recall(1, &[5, 6]).unwrap();
        assert_eq!((count, keys(found)), (2, vec![5.0, 1.0]));
        memory.forget(2);
        assert_eq!(memory.recall(2, &[5, 6]).unwrap().0, 0);
    }
}
