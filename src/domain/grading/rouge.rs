//! ROUGE (Lin 2004) as the package rouge-score has it, without stemming: the harmonic mean of precision and recall.

use super::overlap::Overlap;
use super::words::plain;

/// Of runs of `n` words.
pub(super) fn rouge_n(input: &str, reference: &str, n: usize) -> f64 {
    let Overlap { input, reference, shared } = Overlap::new(&plain(input), &plain(reference), n);
    harmonic(shared, input, reference)
}

/// Of the longest words that both have in the same order (`rougeL`).
pub(super) fn rouge_l(input: &str, reference: &str) -> f64 {
    let (input, reference) = (plain(input), plain(reference));
    harmonic(longest_common(&input, &reference), input.len(), reference.len())
}

fn harmonic(shared: usize, input: usize, reference: usize) -> f64 {
    if shared == 0 { 0.0 } else { 2.0 * shared as f64 / (input + reference) as f64 }
}

/// The length of the longest common subsequence, row by row.
fn longest_common(a: &[String], b: &[String]) -> usize {
    let mut lengths = vec![0; b.len() + 1];
    for word in a {
        let mut before = 0;
        for (place, other) in b.iter().enumerate() {
            let above = lengths[place + 1];
            lengths[place + 1] = if word == other { before + 1 } else { above.max(lengths[place]) };
            before = above;
        }
    }
    lengths[b.len()]
}
