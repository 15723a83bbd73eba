//! How much of a request to classify a process is handed at once.

use std::time::Duration;

use crate::domain::serving::Input;

/// The most inputs of a slice.
const SLICE_INPUTS: usize = 32;
/// Bytes of a process's first slice: a few long texts, which the largest models read in less than a minute.
const FIRST_SLICE: usize = 8 << 10;
const SMALLEST_SLICE: usize = 1 << 10;
const LARGEST_SLICE: usize = 4 << 20;

/// A slice that took longer is followed by smaller ones; a full one that was quicker, by larger ones.
const SLOW: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_millis(500);

/// How much of a request a process is handed at once: what it does in a second or so. It is found by trying, since a
/// large model takes a hundred times as long for the same text as a small one.
pub(super) struct SliceSize {
    bytes: usize,
}

impl Default for SliceSize {
    fn default() -> Self {
        Self { bytes: FIRST_SLICE }
    }
}

impl SliceSize {
    /// How many of the inputs come next; at least one, if there is one.
    pub(super) fn count(&self, inputs: &[Input]) -> usize {
        let mut bytes = 0;
        let fitting = inputs.iter().take(SLICE_INPUTS).take_while(|input| {
            bytes += input.bytes();
            bytes <= self.bytes
        });
        fitting.count().max(1).min(inputs.len())
    }

    /// Learns from a slice of so many bytes.
    pub(super) fn learn(&mut self, bytes: usize, took: Duration) {
        if took > SLOW {
            self.bytes = (self.bytes.min(bytes) / 2).max(SMALLEST_SLICE);
        } else if took < QUICK && bytes > self.bytes / 2 {
            self.bytes = (self.bytes * 2).min(LARGEST_SLICE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FIRST_SLICE, LARGEST_SLICE, SLICE_INPUTS, SMALLEST_SLICE, SliceSize};
    use crate::domain::serving::Input;

    #[test]
    fn a_slice_has_few_inputs_and_few_bytes_but_at_least_one() {
        let count = |bytes: &[usize]| {
            let inputs: Vec<Input> = bytes.iter().map(|&bytes| Input::One("x".repeat(bytes))).collect();
            SliceSize::default().count(&inputs)
        };
        assert_eq!(count(&[1; 256]), SLICE_INPUTS);
        assert_eq!(count(&[1, 2, 3]), 3);
        assert_eq!(count(&[FIRST_SLICE / 2; 5]), 2);
        assert_eq!(count(&[FIRST_SLICE + 1, 1]), 1);
        assert_eq!(count(&[1, FIRST_SLICE, 1]), 1);
        assert_eq!(count(&[]), 0);
        let pair = Input::Pair("x".repeat(FIRST_SLICE / 2), "x".repeat(FIRST_SLICE / 2));
        assert_eq!(SliceSize::default().count(&[pair.clone(), pair]), 1);
    }

    #[test]
    fn slices_shrink_where_they_take_long_and_grow_where_they_do_not() {
        let mut size = SliceSize::default();
        size.learn(FIRST_SLICE, Duration::from_secs(1));
        assert_eq!(size.bytes, FIRST_SLICE, "about as long as it should");
        size.learn(FIRST_SLICE / 4, Duration::from_millis(1));
        assert_eq!(size.bytes, FIRST_SLICE, "a small request tells nothing of large ones");
        size.learn(FIRST_SLICE, Duration::from_millis(1));
        assert_eq!(size.bytes, 2 * FIRST_SLICE);
        size.learn(FIRST_SLICE / 2, Duration::from_secs(3));
        assert_eq!(size.bytes, FIRST_SLICE / 4);
        for _ in 0..20 {
            size.learn(LARGEST_SLICE, Duration::from_millis(1));
        }
        assert_eq!(size.bytes, LARGEST_SLICE);
        for _ in 0..20 {
            size.learn(LARGEST_SLICE, Duration::from_secs(3));
        }
        assert_eq!(size.bytes, SMALLEST_SLICE);
    }
}
