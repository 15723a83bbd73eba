//! Scores of a classifier that gives each example any number of labels.

use serde::Serialize;

use super::classes::ClassScore;
use super::ratio;

/// Counts per label: right, wrongly predicted, missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    counts: Vec<[u64; 3]>,
    examples: u64,
    /// Examples with exactly the right labels.
    exact: u64,
}

impl LabelCounts {
    /// Counts among `labels` labels; each example is (true, predicted), one flag per label.
    pub fn new<'a>(labels: usize, examples: impl IntoIterator<Item = (&'a [bool], &'a [bool])>) -> Self {
        let mut all = Self { counts: vec![[0; 3]; labels], examples: 0, exact: 0 };
        for (truth, predicted) in examples {
            all.examples += 1;
            all.exact += u64::from(truth == predicted);
            for (counts, (&truth, &predicted)) in all.counts.iter_mut().zip(truth.iter().zip(predicted)) {
                counts[0] += u64::from(truth && predicted);
                counts[1] += u64::from(!truth && predicted);
                counts[2] += u64::from(truth && !predicted);
            }
        }
        all
    }

    /// Share of examples with exactly the right labels (scikit-learn's `accuracy_score` of indicators).
    pub fn accuracy(&self) -> f64 {
        ratio(self.exact, self.examples)
    }

    /// F1 over all labels of all examples (scikit-learn's `f1_score(average="micro")`).
    pub fn micro_f1(&self) -> f64 {
        let [right, wrong, missed] = [0, 1, 2].map(|kind| self.counts.iter().map(|counts| counts[kind]).sum::<u64>());
        ratio(2 * right, 2 * right + wrong + missed)
    }

    /// Mean F1 of the labels (scikit-learn's `f1_score(average="macro", zero_division=0)`).
    pub fn macro_f1(&self) -> f64 {
        let scores = self.labels();
        scores.iter().map(|score| score.f1).sum::<f64>() / scores.len().max(1) as f64
    }

    /// The scores of every label.
    pub fn labels(&self) -> Vec<ClassScore> {
        let score = |&[right, wrong, missed]: &[u64; 3]| ClassScore {
            precision: ratio(right, right + wrong),
            recall: ratio(right, right + missed),
            f1: ratio(2 * right, 2 * right + wrong + missed),
            support: right + missed,
        };
        self.counts.iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::LabelCounts;

    #[test]
    fn scores_are_those_of_scikit_learn() {
        let truth = [[true, false, true], [false, true, false], [false, false, false], [true, true, false]];
        let predicted = [[true, false, false], [false, true, true], [false, false, false], [true, false, false]];
        let pairs = truth.iter().zip(&predicted).map(|(truth, predicted)| (&truth[..], &predicted[..]));
        let counts = LabelCounts::new(3, pairs);
        assert_eq!(counts.accuracy(), 0.25);
        assert!((counts.micro_f1() - 0.666_666_666_666_666_6).abs() < 1e-12);
        assert!((counts.macro_f1() - 0.555_555_555_555_555_5).abs() < 1e-12);
    }
}
