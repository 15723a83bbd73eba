//! Scores of a classifier that gives each example one label.

use serde::Serialize;

use super::ratio;

/// Counts of (true class, predicted class).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfusionMatrix {
    /// Row: true class; column: predicted class.
    counts: Vec<Vec<u64>>,
}

/// Precision, recall and F1 of one class; 0 where undefined, as in scikit-learn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Examples of the class.
    pub support: u64,
}

impl ConfusionMatrix {
    /// Counts pairs of (true, predicted) among `classes` classes.
    pub fn new(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (truth, prediction) in pairs {
            counts[truth][prediction] += 1;
        }
        Self { counts }
    }

    /// The number of examples.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Share of right predictions; 0 of none.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.counts.iter().enumerate().map(|(class, row)| row[class]).sum();
        ratio(right, self.total())
    }

    /// The scores of every class.
    pub fn classes(&self) -> Vec<ClassScore> {
        (0..self.counts.len())
            .map(|class| {
                let right = self.counts[class][class];
                let support: u64 = self.counts[class].iter().sum();
                let predicted = self.predicted(class);
                ClassScore {
                    precision: ratio(right, predicted),
                    recall: ratio(right, support),
                    f1: ratio(2 * right, support + predicted),
                    support,
                }
            })
            .collect()
    }

    fn predicted(&self, class: usize) -> u64 {
        self.counts.iter().map(|row| row[class]).sum()
    }

    /// Mean F1 weighted by the examples of each class (scikit-learn's `f1_score(average="weighted")`).
    pub fn weighted_f1(&self) -> f64 {
        let weighted: f64 = self.classes().iter().map(|score| score.f1 * score.support as f64).sum();
        weighted / self.total().max(1) as f64
    }

    /// The multi-class correlation coefficient of Matthews (Gorodkin 2004), as scikit-learn's `matthews_corrcoef`; 0 where
    /// all truths or all predictions are one class.
    pub fn mcc(&self) -> f64 {
        let total = self.total() as f64;
        let (mut right, mut both, mut truths, mut predictions) = (0.0, 0.0, 0.0, 0.0);
        for (class, row) in self.counts.iter().enumerate() {
            let (truth, predicted) = (row.iter().sum::<u64>() as f64, self.predicted(class) as f64);
            right += row[class] as f64;
            both += truth * predicted;
            truths += truth * truth;
            predictions += predicted * predicted;
        }
        let spread = ((total * total - truths) * (total * total - predictions)).sqrt();
        if spread == 0.0 { 0.0 } else { (right * total - both) / spread }
    }

    /// Mean F1 over the classes that occur as truth or prediction (scikit-learn's `f1_score(average="macro")`).
    pub fn macro_f1(&self) -> f64 {
        let scores: Vec<f64> = self
            .classes()
            .iter()
            .enumerate()
            .filter(|(class, score)| score.support + self.predicted(*class) > 0)
            .map(|(_, score)| score.f1)
            .collect();
        if scores.is_empty() { 0.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::ConfusionMatrix;

    /// Values of scikit-learn 1.7 for `y_true` = [0,0,0,1,1,2], `y_pred` = [0,0,1,1,2,2] over four classes.
    #[test]
    fn scores_are_those_of_scikit_learn() {
        let truth = [0, 0, 0, 1, 1, 2];
        let prediction = [0, 0, 1, 1, 2, 2];
        let matrix = ConfusionMatrix::new(4, truth.into_iter().zip(prediction));
        assert!((matrix.accuracy() - 0.666_666_666_666_666_6).abs() < 1e-12);
        assert!((matrix.macro_f1() - 0.655_555_555_555_555_6).abs() < 1e-12);
        assert!((matrix.weighted_f1() - 0.677_777_777_777_777_9).abs() < 1e-12);
        assert!((matrix.mcc() - 0.522_232_967_867_093_5).abs() < 1e-12);
        let class = matrix.classes()[1];
        assert_eq!((class.precision, class.recall, class.f1, class.support), (0.5, 0.5, 0.5, 2));
    }

    #[test]
    fn nothing_scores_nothing() {
        let matrix = ConfusionMatrix::new(2, []);
        assert_eq!((matrix.total(), matrix.accuracy(), matrix.macro_f1(), matrix.mcc()), (0, 0.0, 0.0, 0.0));
    }
}
