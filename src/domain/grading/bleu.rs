//! BLEU (Papineni et al. 2002) as sacrebleu 2 has it of single sentences, and Google's BLEU.

use super::overlap::Overlap;
use super::words::marked;

/// The longest runs of words that count.
const LONGEST: usize = 4;

/// sacrebleu's `sentence_bleu`, divided by 100: 13a tokens, exponential smoothing, and no runs longer than the sentence.
pub(super) fn bleu(input: &str, reference: &str) -> f64 {
    let (input, reference) = (marked(input), marked(reference));
    let overlaps: Vec<Overlap> =
        (1..=LONGEST).map(|n| Overlap::new(&input, &reference, n)).take_while(|overlap| overlap.input > 0).collect();
    if overlaps.iter().all(|overlap| overlap.shared == 0) {
        return 0.0;
    }
    let mut smoothing = 1.0;
    let logarithms = overlaps.iter().map(|overlap| {
        let shared = if overlap.shared == 0 {
            smoothing *= 2.0;
            1.0 / smoothing
        } else {
            overlap.shared as f64
        };
        (shared / overlap.input as f64).ln()
    });
    let mean = logarithms.sum::<f64>() / overlaps.len() as f64;
    let brevity = (1.0 - reference.len() as f64 / input.len() as f64).min(0.0);
    (mean + brevity).exp()
}

/// GLEU (Wu et al. 2016, arXiv:1609.08144, section 6) as NLTK has it: of all runs of one to four words, those that both
/// texts share, of the runs of the text that has more.
pub(super) fn gleu(input: &str, reference: &str) -> f64 {
    let (input, reference) = (marked(input), marked(reference));
    let overlaps = (1..=LONGEST).map(|n| Overlap::new(&input, &reference, n));
    let (shared, most) = overlaps.fold((0, (0, 0)), |(shared, (a, b)), overlap| {
        (shared + overlap.shared, (a + overlap.input, b + overlap.reference))
    });
    if shared == 0 { 0.0 } else { shared as f64 / most.0.max(most.1) as f64 }
}
