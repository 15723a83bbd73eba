//! Which token comes next.

use std::cmp::Ordering;

use finetuned::domain::random::mix_all;

/// How a token is chosen: the likeliest, or drawn with what a seed gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f64,
    /// Tokens are drawn from the likeliest that have this probability together (Holtzman et al. 2020, arXiv:1904.09751).
    pub top_p: f64,
    /// What draws are made with: the same seed gives the same text.
    pub seed: u64,
    /// How many of the likeliest tokens are told of each choice.
    pub top_logprobs: usize,
}

/// A token, and what the model said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub id: u32,
    /// The logarithm of its probability, whatever the temperature.
    pub logprob: f64,
    /// The likeliest tokens with theirs, likeliest first.
    pub top: Vec<(u32, f64)>,
}

impl Sampling {
    /// The likeliest token each time.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, seed: 0, top_logprobs: 0 };

    /// Chooses token number `place` of a text from finite `logits` `[V]`, of which there is at least one.
    pub fn choose(&self, logits: &[f32], place: u64) -> Choice {
        let id = if self.temperature > 0.0 { self.draw(logits, place) } else { likeliest(logits) };
        let top = logits.iter().fold(f64::NEG_INFINITY, |top, &logit| top.max(f64::from(logit)));
        let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - top).exp()).sum();
        let logprob = |id: usize| f64::from(logits[id]) - top - total.ln();
        let listed = self.top_logprobs.min(logits.len());
        let top = if listed == 0 { Vec::new() } else { first(logits, listed) };
        Choice {
            id: id as u32,
            logprob: logprob(id),
            top: top.into_iter().map(|id| (id as u32, logprob(id))).collect(),
        }
    }

    fn draw(&self, logits: &[f32], place: u64) -> usize {
        let top = logits.iter().fold(f32::NEG_INFINITY, |top, &logit| top.max(logit));
        let weight = |id: usize| (f64::from(logits[id] - top) / self.temperature).exp();
        let total: f64 = (0..logits.len()).map(weight).sum();
        let uniform = (mix_all(&[self.seed, place]) >> 11) as f64 / (1_u64 << 53) as f64;
        if self.top_p >= 1.0 {
            return pick((0..logits.len()).map(|id| (id, weight(id))), uniform * total);
        }
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_unstable_by(|&a, &b| by_logit(logits, a, b));
        let (mut sum, mut count) = (0.0, 0);
        while count < order.len() && (count == 0 || sum < self.top_p * total) {
            sum += weight(order[count]);
            count += 1;
        }
        pick(order[..count].iter().map(|&id| (id, weight(id))), uniform * sum)
    }
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
    use super::Sampling;

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, -3.0];

    fn shares(sampling: Sampling) -> [f64; 4] {
        let mut counts = [0.0; 4];
        for place in 0..20_000 {
            counts[sampling.choose(&LOGITS, place).id as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_likeliest_and_of_equals_the_first() {
        let choice = Sampling { top_logprobs: 2, ..Sampling::GREEDY }.choose(&LOGITS, 0);
        assert_eq!((choice.id, choice.top.iter().map(|top| top.0).collect::<Vec<_>>()), (1, vec![1, 2]));
        let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
        assert!((choice.logprob - (2.0 - total.ln())).abs() < 1e-12 && choice.top[0].1 == choice.logprob);
        assert_eq!(Sampling::GREEDY.choose(&[1.0, 3.0, 3.0], 5).id, 1);
    }

    #[test]
    fn draws_have_the_shares_that_the_model_gives() {
        let sampling = |temperature, top_p| Sampling { temperature, top_p, seed: 7, ..Sampling::GREEDY };
        for temperature in [0.5, 1.0, 2.0] {
            let weights = LOGITS.map(|logit| (f64::from(logit) / temperature).exp());
            let total: f64 = weights.iter().sum();
            for (share, weight) in shares(sampling(temperature, 1.0)).into_iter().zip(weights) {
                assert!((share - weight / total).abs() < 0.015, "{share} {}", weight / total);
            }
        }
        // The likeliest two have 0.9 together, so that no others are drawn.
        let [zero, one, two, three] = shares(sampling(1.0, 0.85));
        assert_eq!((zero, three), (0.0, 0.0));
        assert!((one / two - 1.0_f64.exp()).abs() < 0.15, "{one} {two}");
        assert!(shares(sampling(1.0, 0.1))[1] > 0.999, "at least one is left");
    }

    #[test]
    fn a_seed_gives_the_same_and_another_something_else() {
        let of = |seed| -> Vec<u32> {
            let sampling = Sampling { temperature: 1.0, seed, ..Sampling::GREEDY };
            (0..50).map(|place| sampling.choose(&LOGITS, place).id).collect()
        };
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }
}
