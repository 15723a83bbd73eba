//! Scores of preferences: what a model has come to think of answers since it was what it was.

use super::{ACCURACY, Better, Metric, Score, ratio};

/// By how much more the preferred answer is rewarded, in the mean.
pub const REWARD_MARGIN: Metric = Metric::new("reward_margin", Better::Higher);
/// The mean reward of preferred answers: beta times how much likelier they have become, as a logarithm.
pub const CHOSEN_REWARD: Metric = Metric::new("chosen_reward", Better::Higher);
/// The same of those that are not preferred.
pub const REJECTED_REWARD: Metric = Metric::new("rejected_reward", Better::Lower);

/// Scores of pairs of answers; a pair is right where the preferred one is rewarded more.
pub const SCORES: [Score<Judged>; 4] = [
    Score::new(ACCURACY, |judged| Some(ratio(judged.right, judged.count))),
    Score::new(REWARD_MARGIN, |judged| Some(judged.mean(judged.chosen - judged.rejected))),
    Score::new(CHOSEN_REWARD, |judged| Some(judged.mean(judged.chosen))),
    Score::new(REJECTED_REWARD, |judged| Some(judged.mean(judged.rejected))),
];

/// Pairs, counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    pub loss_sum: f64,
    pub right: u64,
    /// Sums of rewards.
    pub chosen: f64,
    pub rejected: f64,
    pub count: u64,
}

impl Judged {
    /// The mean loss; 0 of none.
    pub fn loss(&self) -> f64 {
        self.mean(self.loss_sum)
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{Judged, SCORES};
    use crate::domain::metric::scores;

    #[test]
    fn margins_are_between_the_means() {
        let judged = Judged { loss_sum: 2.0, right: 3, chosen: 2.0, rejected: -6.0, count: 4 };
        let values: Vec<f64> = scores(&SCORES, &judged).into_iter().map(|(_, value)| value).collect();
        assert_eq!((values, judged.loss()), (vec![0.75, 2.0, 0.5, -1.5], 0.5));
    }
}
