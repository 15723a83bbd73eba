//! Texts that are nearly equal, found by `MinHash` (Broder 1997, <https://doi.org/10.1109/SEQUEN.1997.666900>): the share of
//! equal minima of two texts estimates the Jaccard similarity of their sets of five characters in a row. Candidates are those
//! that share a band of minima (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3), so that the time grows
//! with the number of texts, not of pairs.

use std::collections::HashMap;

use crate::domain::random::mix;

/// Characters in a row that are one item.
const SHINGLE: usize = 5;

/// Minima of a text. The estimate's standard error is 0.05 at a similarity of 0.8.
const MINIMA: usize = 64;

/// Minima that must be equal for two texts to be compared: at 0.8 of 16 bands of 4 one is with a probability of 0.9998.
const BAND: usize = 4;

/// Texts of one band that a text is compared with. What shares a band with thousands is found by the first few.
const COMPARED: usize = 16;

/// The most texts that are looked at, which is 256 MiB of their minima. The rest of a file is not compared.
pub(super) const MOST_TEXTS: usize = 1_000_000;

/// 64 minima of 16 bits; the chance that two that differ share one is 1 in 65,536.
type Sketch = [u16; MINIMA];

/// The minima of a file's texts, with the lines that they stand on.
#[derive(Default)]
pub(super) struct Sketches {
    all: Vec<(u64, u64, Sketch)>,
    /// Texts beyond what is looked at.
    pub(super) left_out: u64,
}

impl Sketches {
    /// Adds a text that is folded, unless there are enough.
    pub(super) fn add(&mut self, line: u64, print: u64, folded: &str) {
        if self.all.len() < MOST_TEXTS {
            self.all.push((line, print, sketch(folded)));
        } else {
            self.left_out += 1;
        }
    }

    /// Lines and prints of the texts of which `others` has one that is at least so similar, in percent, or equal.
    pub(super) fn near(&self, others: &Self, percent: u32) -> Vec<(u64, u64)> {
        let mut found = vec![false; self.all.len()];
        let least = (percent as usize * MINIMA).div_ceil(100);
        for band in 0..MINIMA / BAND {
            let mut index: HashMap<u64, Vec<u32>> = HashMap::new();
            for (number, (_, _, sketch)) in others.all.iter().enumerate() {
                let members = index.entry(key(sketch, band)).or_default();
                if members.len() < COMPARED {
                    members.push(number as u32);
                }
            }
            for (found, (.., sketch)) in found.iter_mut().zip(&self.all).filter(|(found, _)| !**found) {
                let members = index.get(&key(sketch, band)).map_or(&[][..], Vec::as_slice);
                let is_near = |&member: &u32| similarity(sketch, &others.all[member as usize].2) >= least;
                *found = members.iter().any(is_near);
            }
        }
        let near = self.all.iter().zip(&found).filter(|(_, found)| **found);
        near.map(|(&(line, print, _), _)| (line, print)).collect()
    }
}

fn key(sketch: &Sketch, band: usize) -> u64 {
    sketch[band * BAND..(band + 1) * BAND].iter().fold(0, |key, &minimum| key << 16 | u64::from(minimum))
}

/// How many minima are equal.
fn similarity(one: &Sketch, other: &Sketch) -> usize {
    one.iter().zip(other).filter(|(a, b)| a == b).count()
}

/// The minima of a text: of each of 64 orders of all items the first one that the text has.
fn sketch(text: &str) -> Sketch {
    let mut minima = [u32::MAX; MINIMA];
    let bytes = text.as_bytes();
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let last = starts.len().saturating_sub(SHINGLE - 1).max(1);
    for (number, &start) in starts.iter().take(last).enumerate() {
        let end = starts.get(number + SHINGLE).copied().unwrap_or(bytes.len());
        let item = bytes[start..end]
            .iter()
            .fold(0xCBF2_9CE4_8422_2325, |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        let (low, high) = (mix(item) as u32, (mix(item) >> 32) as u32 | 1);
        // Orders as a walk of odd steps: double hashing (Kirsch, Mitzenmacher 2006).
        let mut order = low;
        for minimum in &mut minima {
            order = order.wrapping_add(high);
            *minimum = (*minimum).min(order.wrapping_mul(0x9E37_79B1).rotate_left(15).wrapping_mul(0x85EB_CA77));
        }
    }
    minima.map(|minimum| (minimum >> 16) as u16 ^ minimum as u16)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{MINIMA, Sketches, similarity, sketch};
    use crate::dataset::prints::print;
    use crate::domain::random::mix;

    fn jaccard(one: &str, other: &str) -> f64 {
        let items = |text: &str| text.as_bytes().windows(5).map(<[u8]>::to_vec).collect::<HashSet<_>>();
        let (one, other) = (items(one), items(other));
        one.intersection(&other).count() as f64 / one.union(&other).count() as f64
    }

    fn text(seed: u64, words: u64) -> Vec<String> {
        (0..words).map(|i| format!("w{}", mix(seed * 1000 + i) % 5000)).collect()
    }

    #[test]
    fn equal_minima_estimate_the_similarity_of_texts() {
        let mut errors = Vec::new();
        for seed in 0..60 {
            let one = text(seed, 40);
            let mut other = one.clone();
            for place in 0..(seed % 12) as usize {
                other[place * 3] = format!("x{}", mix(seed + 7 * place as u64) % 5000);
            }
            let (one, other) = (one.join(" "), other.join(" "));
            let estimate = similarity(&sketch(&one), &sketch(&other)) as f64 / MINIMA as f64;
            errors.push(estimate - jaccard(&one, &other));
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let deviation = (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
        assert!(mean.abs() < 0.02 && deviation < 0.075, "{mean} {deviation}");
    }

    #[test]
    fn nearly_equal_texts_are_found_and_equal_or_other_ones_are_not() {
        let (mut one, mut other) = (Sketches::default(), Sketches::default());
        let add = |to: &mut Sketches, line: u64, text: &str| to.add(line, print(text.as_bytes()), text);
        for i in 0..200 {
            add(&mut one, i, &text(i, 20).join(" "));
        }
        add(&mut other, 1, &text(5, 20).join(" "));
        add(&mut other, 2, &format!("{}!", text(6, 20).join(" ")));
        add(&mut other, 3, &text(999, 20).join(" "));
        add(&mut other, 4, "");
        let found = other.near(&one, 80);
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2], "the first is equal");
        assert_eq!(found[0].1, one.all[5].1);
    }
}
