//! How many runs of words two texts share.

use std::collections::HashMap;

/// Runs of `n` words of two texts.
pub(super) struct Overlap {
    /// Those of the input, those of the reference, and those that both have, each as often as both have it.
    pub(super) input: usize,
    pub(super) reference: usize,
    pub(super) shared: usize,
}

impl Overlap {
    /// `n` is at least 1.
    pub(super) fn new(input: &[String], reference: &[String], n: usize) -> Self {
        let mut counts: HashMap<&[String], usize> = HashMap::new();
        reference.windows(n).for_each(|run| *counts.entry(run).or_default() += 1);
        let shared = input.windows(n).filter(|run| match counts.get_mut(run) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        });
        let shared = shared.count();
        let runs = |words: &[String]| (words.len() + 1).saturating_sub(n);
        Self { input: runs(input), reference: runs(reference), shared }
    }
}
