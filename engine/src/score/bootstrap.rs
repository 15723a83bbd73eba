//! How sure scores are.

use finetuned::domain::random::mix_all;

/// Samples that intervals are made from.
const SAMPLES: u64 = 1000;

/// The 95 % intervals of scores by the percentile bootstrap (Efron 1979): the scores of a thousand samples drawn with
/// replacement from `examples` examples. `scores` gives those of a sample, as many for each. Deterministic: sample `s`
/// draws the same examples whenever it is asked. None without examples, or where `scores` says None of a sample.
pub fn intervals(examples: usize, mut scores: impl FnMut(&[usize]) -> Option<Vec<f64>>) -> Option<Vec<[f64; 2]>> {
    if examples == 0 {
        return None;
    }
    let mut chosen = vec![0; examples];
    let mut found = Vec::with_capacity(SAMPLES as usize);
    for sample in 0..SAMPLES {
        for (i, example) in chosen.iter_mut().enumerate() {
            *example = (mix_all(&[sample, i as u64]) % examples as u64) as usize;
        }
        found.push(scores(&chosen)?);
    }
    let interval = |score: usize| {
        let mut values: Vec<f64> = found.iter().map(|scores| scores[score]).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((SAMPLES - 1) as f64 * share).round() as usize];
        [at(0.025), at(0.975)]
    };
    Some((0..found[0].len()).map(interval).collect())
}

#[cfg(test)]
mod tests {
    use super::intervals;

    #[test]
    fn the_interval_of_a_share_is_that_of_the_binomial_distribution() {
        // 80 of 100 right: the normal approximation gives 0.80 ± 0.0784.
        let share =
            |chosen: &[usize]| Some(vec![chosen.iter().filter(|&&i| i < 80).count() as f64 / chosen.len() as f64]);
        let [low, high] = intervals(100, share).unwrap()[0];
        assert!((low - 0.7216).abs() < 0.02 && (high - 0.8784).abs() < 0.02, "{low} {high}");
        assert_eq!(intervals(100, share), intervals(100, share));
        assert_eq!(intervals(0, share), None);
        assert_eq!(intervals(100, |_| None), None);
    }
}
