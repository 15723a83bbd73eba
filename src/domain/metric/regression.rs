//! Scores of a regression.

use super::{Better, Metric, Score};

/// Mean squared error.
pub const MSE: Metric = Metric::new("mse", Better::Lower);
/// Mean absolute error.
pub const MAE: Metric = Metric::new("mae", Better::Lower);
/// Pearson's correlation coefficient.
pub const PEARSON: Metric = Metric::new("pearson", Better::Higher);

/// The scores of values.
pub const SCORES: [Score<RegressionScores>; 3] = [
    Score::sure(MSE, |scores| Some(scores.mse)),
    Score::new(MAE, |scores| Some(scores.mae)),
    Score::sure(PEARSON, |scores| Some(scores.pearson)),
];

/// Errors and correlation of predictions, over pairs of (true, predicted).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RegressionScores {
    /// Mean squared error.
    pub mse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Pearson's correlation coefficient; 0 where either side does not vary.
    pub pearson: f64,
}

impl RegressionScores {
    /// Scores `pairs`; all 0 of none.
    pub fn new(pairs: &[(f64, f64)]) -> Self {
        if pairs.is_empty() {
            return Self::default();
        }
        let count = pairs.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
        let (truth, predicted) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let (mut together, mut of_truth, mut of_predicted) = (0.0, 0.0, 0.0);
        for pair in pairs {
            let (t, p) = (pair.0 - truth, pair.1 - predicted);
            together += t * p;
            of_truth += t * t;
            of_predicted += p * p;
        }
        let spread = (of_truth * of_predicted).sqrt();
        Self {
            mse: mean(|pair| (pair.0 - pair.1).powi(2)),
            mae: mean(|pair| (pair.0 - pair.1).abs()),
            pearson: if spread == 0.0 { 0.0 } else { together / spread },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RegressionScores;

    #[test]
    fn scores_are_those_of_scikit_learn_and_scipy() {
        let pairs = [(1.0, 1.1), (2.0, 1.9), (3.0, 3.5), (4.5, 4.0), (5.0, 5.2)];
        let scores = RegressionScores::new(&pairs);
        assert!((scores.mse - 0.112).abs() < 1e-12 && (scores.mae - 0.28).abs() < 1e-12);
        assert!((scores.pearson - 0.975_074_260_065_374_5).abs() < 1e-12);
        assert_eq!(RegressionScores::new(&[(1.0, 1.0), (1.0, 2.0)]).pearson, 0.0);
        assert_eq!(RegressionScores::new(&[]), RegressionScores::default());
    }
}
