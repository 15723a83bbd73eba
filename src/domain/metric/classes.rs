//! Scores of a classifier that gives each example one label.

use serde::Serialize;

use super::{ACCURACY, Better, Metric, Score, ratio};

/// Mean F1 over the classes, or the labels.
pub const MACRO_F1: Metric = Metric { always_in_result_file: true, ..Metric::new("macro_f1", Better::Higher) };
/// Mean F1 weighted by the examples of each class.
pub const WEIGHTED_F1: Metric = Metric::new("weighted_f1", Better::Higher);
/// Matthews' correlation coefficient.
pub const MCC: Metric = Metric::new("mcc", Better::Higher);
/// The share of examples whose class is among the likeliest five; of more than five classes.
pub const TOP_5_ACCURACY: Metric = Metric::new("top_5_accuracy", Better::Higher);

/// The scores of one class each.
pub const SCORES: [Score<ClassCounts>; 5] = [
    Score::sure(ACCURACY, |counts| Some(counts.accuracy())),
    Score::sure(MACRO_F1, |counts| Some(counts.macro_f1())),
    Score::new(WEIGHTED_F1, |counts| Some(counts.weighted_f1())),
    Score::new(MCC, |counts| Some(counts.mcc())),
    Score::new(TOP_5_ACCURACY, |counts| (counts.counts.len() > 5).then(|| ratio(counts.near, counts.total))),
];

/// Examples of each class, and how many of them are predicted right: all that the scores need. Which class is taken for
/// which other one is in [`confusion_matrix`] and [`confusion_entries`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCounts {
    /// Of each class: rightly predicted, true, predicted.
    counts: Vec<[u64; 3]>,
    total: u64,
    /// Examples whose class is among the likeliest five.
    near: u64,
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

impl ClassCounts {
    /// Counts pairs of (true, predicted) among `classes` classes; of `near` the class is among the likeliest five.
    pub fn new(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>, near: u64) -> Self {
        let mut counts = Self { counts: vec![[0; 3]; classes], total: 0, near: 0 };
        counts.recount(pairs);
        Self { near, ..counts }
    }

    /// Counts other pairs in place of these, of which only the likeliest class is known.
    pub fn recount(&mut self, pairs: impl IntoIterator<Item = (usize, usize)>) {
        self.counts.fill([0; 3]);
        (self.total, self.near) = (0, 0);
        for (truth, prediction) in pairs {
            self.counts[truth][0] += u64::from(truth == prediction);
            self.counts[truth][1] += 1;
            self.counts[prediction][2] += 1;
            self.total += 1;
        }
    }

    /// Share of right predictions; 0 of none.
    pub fn accuracy(&self) -> f64 {
        ratio(self.counts.iter().map(|[right, ..]| right).sum(), self.total)
    }

    /// The scores of every class.
    pub fn classes(&self) -> impl Iterator<Item = ClassScore> {
        self.counts.iter().map(|&[right, support, predicted]| ClassScore {
            precision: ratio(right, predicted),
            recall: ratio(right, support),
            f1: ratio(2 * right, support + predicted),
            support,
        })
    }

    /// Mean F1 weighted by the examples of each class (scikit-learn's `f1_score(average="weighted")`).
    pub fn weighted_f1(&self) -> f64 {
        let weighted: f64 = self.classes().map(|score| score.f1 * score.support as f64).sum();
        weighted / self.total.max(1) as f64
    }

    /// The multi-class correlation coefficient of Matthews (Gorodkin 2004), as scikit-learn's `matthews_corrcoef`; 0 where
    /// all truths or all predictions are one class.
    pub fn mcc(&self) -> f64 {
        let total = self.total as f64;
        let (mut right, mut both, mut truths, mut predictions) = (0.0, 0.0, 0.0, 0.0);
        for counts in &self.counts {
            let [of_right, truth, predicted] = counts.map(|count| count as f64);
            right += of_right;
            both += truth * predicted;
            truths += truth * truth;
            predictions += predicted * predicted;
        }
        let spread = ((total * total - truths) * (total * total - predictions)).sqrt();
        if spread == 0.0 { 0.0 } else { (right * total - both) / spread }
    }

    /// Mean F1 over the classes that occur as truth or prediction (scikit-learn's `f1_score(average="macro")`).
    pub fn macro_f1(&self) -> f64 {
        let occurs = |counts: &[u64; 3]| counts[1] + counts[2] > 0;
        let scores = self.counts.iter().zip(self.classes()).filter(|(counts, _)| occurs(counts));
        let (sum, count) = scores.fold((0.0, 0_u64), |(sum, count), (_, score)| (sum + score.f1, count + 1));
        if count == 0 { 0.0 } else { sum / count as f64 }
    }
}

/// Examples by true class (row) and predicted class (column): `classes` times `classes` counts.
pub fn confusion_matrix(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; classes]; classes];
    for (truth, prediction) in pairs {
        counts[truth][prediction] += 1;
    }
    counts
}

/// What of a confusion matrix is not 0: (true class, predicted class, examples), by class. Of more than `most` entries
/// the largest; the second value is the number of examples in those left out.
pub fn confusion_entries(pairs: impl IntoIterator<Item = (usize, usize)>, most: usize) -> (Vec<[u64; 3]>, u64) {
    let mut sorted: Vec<[u32; 2]> = pairs.into_iter().map(|(truth, said)| [truth as u32, said as u32]).collect();
    sorted.sort_unstable();
    let entry = |equal: &[[u32; 2]]| [u64::from(equal[0][0]), u64::from(equal[0][1]), equal.len() as u64];
    let mut entries: Vec<[u64; 3]> = sorted.chunk_by(|a, b| a == b).map(entry).collect();
    if entries.len() <= most {
        return (entries, 0);
    }
    entries.sort_by_key(|&[_, _, count]| std::cmp::Reverse(count));
    let rest = entries.drain(most..).map(|[_, _, count]| count).sum();
    entries.sort_unstable();
    (entries, rest)
}

#[cfg(test)]
mod tests {
    use super::{ClassCounts, confusion_entries, confusion_matrix};

    /// Values of scikit-learn 1.7 for `y_true` = [0,0,0,1,1,2], `y_pred` = [0,0,1,1,2,2] over four classes.
    #[test]
    fn scores_are_those_of_scikit_learn() {
        let truth = [0, 0, 0, 1, 1, 2];
        let prediction = [0, 0, 1, 1, 2, 2];
        let mut counts = ClassCounts::new(4, [(3, 0)], 0);
        counts.recount(truth.into_iter().zip(prediction));
        assert!((counts.accuracy() - 0.666_666_666_666_666_6).abs() < 1e-12);
        assert!((counts.macro_f1() - 0.655_555_555_555_555_6).abs() < 1e-12);
        assert!((counts.weighted_f1() - 0.677_777_777_777_777_9).abs() < 1e-12);
        assert!((counts.mcc() - 0.522_232_967_867_093_5).abs() < 1e-12);
        let class = counts.classes().nth(1).unwrap();
        assert_eq!((class.precision, class.recall, class.f1, class.support), (0.5, 0.5, 0.5, 2));
    }

    #[test]
    fn nothing_scores_nothing() {
        let counts = ClassCounts::new(2, [], 0);
        assert_eq!((counts.total, counts.accuracy(), counts.macro_f1(), counts.mcc()), (0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn entries_are_those_of_the_matrix() {
        let pairs = || (0..1000_usize).map(|i| (i % 7, (i * i) % 5));
        let matrix = confusion_matrix(7, pairs());
        let (entries, rest) = confusion_entries(pairs(), 49);
        let of_matrix =
            (0..49).map(|at| [at / 7, at % 7]).map(|[row, column]| [row as u64, column as u64, matrix[row][column]]);
        assert!(entries.iter().copied().eq(of_matrix.filter(|[_, _, count]| *count > 0)) && rest == 0);
        let (largest, rest) = confusion_entries(pairs(), 3);
        let listed: u64 = largest.iter().map(|[_, _, count]| count).sum();
        assert!(largest.len() == 3 && largest.is_sorted() && listed + rest == 1000);
        let mut counts: Vec<u64> = entries.iter().map(|[_, _, count]| *count).collect();
        counts.sort_unstable();
        assert_eq!(listed, counts.iter().rev().take(3).sum::<u64>());
    }
}
