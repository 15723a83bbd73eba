//! How sure a score is.

use finetuned::domain::random::mix_all;

/// Samples that an interval is made from.
const SAMPLES: u64 = 1000;

/// The 95 % interval of a score by the percentile bootstrap (Efron 1979): the score of a thousand samples drawn with
/// replacement from `examples` examples. Deterministic: sample `s` draws the same examples whenever it is asked.
pub fn interval(examples: usize, score: impl Fn(&[usize]) -> f64) -> Option<[f64; 2]> {
    if examples == 0 {
        return None;
    }
    let mut scores: Vec<f64> = (0..SAMPLES)
        .map(|sample| {
            let draw = |i: usize| (mix_all(&[sample, i as u64]) % examples as u64) as usize;
            score(&(0..examples).map(draw).collect::<Vec<_>>())
        })
        .collect();
    scores.sort_by(f64::total_cmp);
    let at = |share: f64| scores[((SAMPLES - 1) as f64 * share).round() as usize];
    Some([at(0.025), at(0.975)])
}

#[cfg(test)]
mod tests {
    use super::interval;

    #[test]
    fn the_interval_of_a_share_is_that_of_the_binomial_distribution() {
        // 80 of 100 right: the normal approximation gives 0.80 ± 0.0784.
        let share = |chosen: &[usize]| chosen.iter().filter(|&&i| i < 80).count() as f64 / chosen.len() as f64;
        let [low, high] = interval(100, share).unwrap();
        assert!((low - 0.7216).abs() < 0.02 && (high - 0.8784).abs() < 0.02, "{low} {high}");
        assert_eq!(interval(100, share), interval(100, share));
        assert_eq!(interval(0, share), None);
    }
}
