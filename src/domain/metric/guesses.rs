//! Scores of guesses: each has a loss, and is right or wrong.

use super::{ACCURACY, Better, Metric, Score, ratio};

/// How few choices a model hesitates between: e to the mean loss of a word.
pub const PERPLEXITY: Metric = Metric::new("perplexity", Better::Lower);

/// Scores of words that are guessed; the loss is the mean over the words, not over the texts.
pub const WORDS: [Score<Guesses>; 2] = [
    Score::new(ACCURACY, |guesses| Some(guesses.accuracy())),
    Score::new(PERPLEXITY, |guesses| Some(guesses.loss().exp())),
];

/// Scores of the nearest text: right if it is the positive of the anchor.
pub const NEAREST: [Score<Guesses>; 1] = [Score::new(ACCURACY, |guesses| Some(guesses.accuracy()))];

/// Guesses, counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guesses {
    pub loss_sum: f64,
    pub right: u64,
    pub count: u64,
}

impl Guesses {
    /// The mean loss; 0 of none.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.count.max(1) as f64
    }

    /// The share of right ones; 0 of none.
    pub fn accuracy(&self) -> f64 {
        ratio(self.right, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::{Guesses, WORDS};
    use crate::domain::metric::scores;

    #[test]
    fn perplexity_is_e_to_the_mean_loss() {
        let guesses = Guesses { loss_sum: 4.0, right: 1, count: 2 };
        let values: Vec<f64> = scores(&WORDS, &guesses).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [0.5, 2.0_f64.exp()]);
        assert_eq!((Guesses::default().loss(), Guesses::default().accuracy()), (0.0, 0.0));
    }
}
