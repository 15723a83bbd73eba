//! Which token comes next.

use std::cmp::Ordering;
use std::collections::HashMap;

use finetuned::domain::random::mix_all;
use finetuned::domain::serving::Sampling;

/// A token's id and the logarithm of its probability, whatever the temperature.
pub(super) type LogProb = (u32, f64);

/// Chooses the token that follows `written` from finite `logits` `[V]`, of which there is at least one.
pub(super) fn choose(sampling: &Sampling, logits: &[f32], written: &[u32]) -> u32 {
    let shifted = shifted(sampling, logits, written);
    let logits = shifted.as_deref().unwrap_or(logits);
    let id = if sampling.temperature > 0.0 { draw(sampling, logits, written.len() as u64) } else { likeliest(logits) };
    id as u32
}

/// What the model thinks of the token `id`, and the likeliest `count` tokens, likeliest first.
pub(super) fn told(logits: &[f32], id: u32, count: usize) -> (LogProb, Vec<LogProb>) {
    let top = logits.iter().fold(f64::NEG_INFINITY, |top, &logit| top.max(f64::from(logit)));
    let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - top).exp()).sum();
    let logprob = |id: usize| (id as u32, f64::from(logits[id]) - top - total.ln());
    let listed = if count == 0 { Vec::new() } else { first(logits, count) };
    (logprob(id as usize), listed.into_iter().map(logprob).collect())
}

/// The logits that tokens are chosen by, where they are not the model's own.
fn shifted(sampling: &Sampling, logits: &[f32], written: &[u32]) -> Option<Vec<f32>> {
    let Sampling { frequency_penalty, presence_penalty, logit_bias, .. } = sampling;
    if *frequency_penalty == 0.0 && *presence_penalty == 0.0 && logit_bias.is_empty() {
        return None;
    }
    let mut counts: HashMap<u32, f64> = HashMap::new();
    for &id in written {
        *counts.entry(id).or_default() += 1.0;
    }
    let penalties = counts.into_iter().map(|(id, count)| (id, -(count * frequency_penalty + presence_penalty)));
    let mut shifted = logits.to_vec();
    for (id, shift) in penalties.chain(logit_bias.iter().copied()) {
        if let Some(logit) = shifted.get_mut(id as usize) {
            *logit += shift as f32;
        }
    }
    Some(shifted)
}

fn draw(sampling: &Sampling, logits: &[f32], place: u64) -> usize {
    let top = logits.iter().fold(f32::NEG_INFINITY, |top, &logit| top.max(logit));
    let weight = |id: usize| (f64::from(logits[id] - top) / sampling.temperature).exp();
    let total: f64 = (0..logits.len()).map(weight).sum();
    let uniform = (mix_all(&[sampling.seed, place]) >> 11) as f64 / (1_u64 << 53) as f64;
    if sampling.top_p >= 1.0 {
        return pick((0..logits.len()).map(|id| (id, weight(id))), uniform * total);
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_unstable_by(|&a, &b| by_logit(logits, a, b));
    let (mut sum, mut count) = (0.0, 0);
    while count < order.len() && (count == 0 || sum < sampling.top_p * total) {
        sum += weight(order[count]);
        count += 1;
    }
    pick(order[..count].iter().map(|&id| (id, weight(id))), uniform * sum)
}

/// The first whose weights up to its own are more than `place`.
fn pick(weighted: impl Iterator<Item = (usize, f64)>, place: f64) -> usize {
    let (mut sum, mut last) = (0.0, 0);
    for (id, weight) in weighted {
        sum += weight;
        if weight > 0.0 {
            last = id;
            if sum > place {
                break;
            }
        }
    }
    last
}

/// The likelier first, of equals the one with the smaller id.
fn by_logit(logits: &[f32], a: usize, b: usize) -> Ordering {
    logits[b].total_cmp(&logits[a]).then(a.cmp(&b))
}

fn likeliest(logits: &[f32]) -> usize {
    (0..logits.len()).min_by(|&a, &b| by_logit(logits, a, b)).unwrap_or(0)
}

/// So many of the likeliest, likeliest first.
fn first(logits: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    if count < order.len() {
        order.select_nth_unstable_by(count - 1, |&a, &b| by_logit(logits, a, b));
        order.truncate(count);
    }
    order.sort_unstable_by(|&a, &b| by_logit(logits, a, b));
    order
}

#[cfg(test)]
mod tests {
    use super::{Sampling, choose, told};

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, -3.0];

    fn shares(sampling: &Sampling) -> [f64; 4] {
        let mut counts = [0.0; 4];
        let mut written = Vec::new();
        for _ in 0..20_000 {
            let id = choose(sampling, &LOGITS, &written);
            counts[id as usize] += 1.0 / 20_000.0;
            written.push(id);
        }
        counts
    }

    #[test]
    fn greedy_takes_the_likeliest_and_of_equals_the_first() {
        assert_eq!(choose(&Sampling::GREEDY, &LOGITS, &[]), 1);
        assert_eq!(choose(&Sampling::GREEDY, &[1.0, 3.0, 3.0], &[5]), 1);
    }

    #[test]
    fn what_is_told_of_a_choice_is_the_models_own() {
        let ((id, logprob), top) = told(&LOGITS, 2, 2);
        let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
        assert!(id == 2 && (logprob - (1.0 - total.ln())).abs() < 1e-12);
        assert_eq!(top.iter().map(|top| top.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(top[1].1, logprob);
        assert_eq!(told(&LOGITS, 0, 9).1.len(), 4);
        assert_eq!(told(&LOGITS, 0, 0).1, []);
    }

    #[test]
    fn draws_have_the_shares_that_the_model_gives() {
        let sampling = |temperature, top_p| Sampling { temperature, top_p, seed: 7, ..Sampling::GREEDY };
        for temperature in [0.5, 1.0, 2.0] {
            let weights = LOGITS.map(|logit| (f64::from(logit) / temperature).exp());
            let total: f64 = weights.iter().sum();
            for (share, weight) in shares(&sampling(temperature, 1.0)).into_iter().zip(weights) {
                assert!((share - weight / total).abs() < 0.015, "{share} {}", weight / total);
            }
        }
        // The likeliest two have 0.9 together, so that no others are drawn.
        let [zero, one, two, three] = shares(&sampling(1.0, 0.85));
        assert_eq!((zero, three), (0.0, 0.0));
        assert!((one / two - 1.0_f64.exp()).abs() < 0.15, "{one} {two}");
        assert!(shares(&sampling(1.0, 0.1))[1] > 0.999, "at least one is left");
    }

    #[test]
    fn a_seed_gives_the_same_and_another_something_else() {
        let of = |seed| {
            let sampling = Sampling { temperature: 1.0, seed, ..Sampling::GREEDY };
            let mut written = Vec::new();
            for _ in 0..50 {
                written.push(choose(&sampling, &LOGITS, &written));
            }
            written
        };
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }

    #[test]
    fn penalties_and_biases_shift_the_choice() {
        let frequent = Sampling { frequency_penalty: 0.6, ..Sampling::GREEDY };
        assert_eq!(choose(&frequent, &LOGITS, &[1]), 1, "2.0 - 0.6");
        assert_eq!(choose(&frequent, &LOGITS, &[1, 1]), 2, "2.0 - 1.2");
        let present = Sampling { presence_penalty: 0.9, ..Sampling::GREEDY };
        assert_eq!(choose(&present, &LOGITS, &[1, 1, 1]), 1, "once, however often it was there");
        let biased = Sampling { logit_bias: vec![(3, 100.0), (99, 100.0)], ..Sampling::GREEDY };
        assert_eq!(choose(&biased, &LOGITS, &[]), 3, "a token that there is not has no effect");
    }
}
