//! How long what is counted is: its extremes, its mean, and how many are about as long.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Lengths of texts in characters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    pub min: u64,
    pub max: u64,
    pub mean: f64,
    /// Upper bound (a power of two) to the number of texts of at most that length and above the bound before.
    #[serde(deserialize_with = "by_number")]
    pub histogram: BTreeMap<u64, u64>,
}

/// A map by number from JSON, whose keys are texts. Serde reads such a map itself, but not within a value that it must keep
/// first, such as a tagged one.
fn by_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u64, u64>, D::Error> {
    let by_text = BTreeMap::<String, u64>::deserialize(deserializer)?;
    by_text.into_iter().map(|(key, value)| Ok((key.parse().map_err(D::Error::custom)?, value))).collect()
}

impl Lengths {
    /// How many texts were counted.
    pub fn texts(&self) -> u64 {
        self.histogram.values().sum()
    }

    /// Counts one text; `count` is the number of texts with it.
    pub fn add(&mut self, length: u64, count: u64) {
        self.min = if count == 1 { length } else { self.min.min(length) };
        self.max = self.max.max(length);
        self.mean += (length as f64 - self.mean) / count as f64;
        *self.histogram.entry(length.max(1).next_power_of_two()).or_default() += 1;
    }
}

/// Lengths of texts in tokens of the model that is trained, special tokens included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenLengths {
    /// Of what is kept of each text.
    #[serde(flatten)]
    pub lengths: Lengths,
    /// Texts that were cut to `max_sequence_length`.
    pub truncated: u64,
}

#[cfg(test)]
mod tests {
    use super::Lengths;

    #[test]
    fn lengths_keep_extremes_mean_and_powers_of_two() {
        let mut lengths = Lengths::default();
        for (i, length) in [3, 4, 5, 100].into_iter().enumerate() {
            lengths.add(length, i as u64 + 1);
        }
        assert_eq!((lengths.min, lengths.max, lengths.mean), (3, 100, 28.0));
        assert_eq!(lengths.histogram.into_iter().collect::<Vec<_>>(), [(4, 2), (8, 1), (128, 1)]);
    }
}
