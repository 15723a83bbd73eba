//! Scores of a classifier that gives each example any number of labels.

use super::classes::{ClassScore, MACRO_F1};
use super::{ACCURACY, Better, Metric, Score, ratio};

/// F1 over all labels of all examples.
pub const MICRO_F1: Metric = Metric::new("micro_f1", Better::Higher);

/// The scores of several labels each.
pub const SCORES: [Score<LabelCounts>; 3] = [
    Score::sure(ACCURACY, |counts| Some(counts.accuracy())),
    Score::sure(MICRO_F1, |counts| Some(counts.micro_f1())),
    Score::sure(MACRO_F1, |counts| Some(counts.macro_f1())),
];

/// The labels that were predicted of each example, a bit each.
#[derive(Clone, Debug, Default)]
pub struct LabelSets {
    /// Words of 64 bits that one example has.
    width: usize,
    bits: Vec<u64>,
}

impl LabelSets {
    /// `examples` empty sets of `labels` labels.
    pub fn new(examples: usize, labels: usize) -> Self {
        let width = labels.div_ceil(64);
        Self { width, bits: vec![0; examples * width] }
    }

    /// Adds the labels whose logits say that their probability is more than one half.
    pub fn set(&mut self, example: usize, logits: &[f32]) {
        let words = &mut self.bits[example * self.width..][..self.width];
        for (label, _) in logits.iter().enumerate().filter(|(_, logit)| **logit > 0.0) {
            words[label / 64] |= 1 << (label % 64);
        }
    }

    /// The labels of an example, in order.
    pub fn of(&self, example: usize) -> impl Iterator<Item = usize> {
        let words = self.bits[example * self.width..][..self.width].iter().enumerate();
        words.flat_map(|(at, &word)| {
            let next = |rest: &u64| Some(rest & (rest - 1)).filter(|&rest| rest > 0);
            let ones = std::iter::successors(Some(word).filter(|&word| word > 0), next);
            ones.map(move |rest| 64 * at + rest.trailing_zeros() as usize)
        })
    }
}

/// Counts per label: right, wrongly predicted, missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCounts {
    counts: Vec<[u64; 3]>,
    examples: u64,
    /// Examples with exactly the right labels.
    exact: u64,
}

impl LabelCounts {
    /// No examples of `labels` labels.
    pub fn new(labels: usize) -> Self {
        Self { counts: vec![[0; 3]; labels], examples: 0, exact: 0 }
    }

    /// Counts `examples` in place of others, by their numbers; `truth` has the labels of each, sorted.
    pub fn recount(&mut self, examples: impl IntoIterator<Item = usize>, truth: &[Vec<usize>], predicted: &LabelSets) {
        self.counts.fill([0; 3]);
        (self.examples, self.exact) = (0, 0);
        for example in examples {
            let (mut rest, mut is_exact) = (&truth[example][..], true);
            for label in predicted.of(example) {
                let missed = rest.iter().take_while(|&&wanted| wanted < label).count();
                for &label in &rest[..missed] {
                    self.counts[label][2] += 1;
                }
                rest = &rest[missed..];
                let is_right = rest.first() == Some(&label);
                self.counts[label][usize::from(!is_right)] += 1;
                rest = &rest[usize::from(is_right)..];
                is_exact &= is_right && missed == 0;
            }
            for &label in rest {
                self.counts[label][2] += 1;
            }
            self.examples += 1;
            self.exact += u64::from(is_exact && rest.is_empty());
        }
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
        self.labels().map(|score| score.f1).sum::<f64>() / self.counts.len().max(1) as f64
    }

    /// The scores of every label.
    pub fn labels(&self) -> impl Iterator<Item = ClassScore> {
        self.counts.iter().map(|&[right, wrong, missed]| ClassScore {
            precision: ratio(right, right + wrong),
            recall: ratio(right, right + missed),
            f1: ratio(2 * right, 2 * right + wrong + missed),
            support: right + missed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{LabelCounts, LabelSets};

    #[test]
    fn scores_are_those_of_scikit_learn() {
        let truth = [vec![0, 2], vec![1], vec![], vec![0, 1]];
        let predicted = [[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 0.0, -1.0], [1.0, -1.0, -1.0]];
        let mut sets = LabelSets::new(4, 3);
        predicted.iter().enumerate().for_each(|(example, logits)| sets.set(example, logits));
        let mut counts = LabelCounts::new(3);
        counts.recount([0, 0, 1], &truth, &sets);
        counts.recount(0..4, &truth, &sets);
        assert_eq!(counts.accuracy(), 0.25);
        assert!((counts.micro_f1() - 0.666_666_666_666_666_6).abs() < 1e-12);
        assert!((counts.macro_f1() - 0.555_555_555_555_555_5).abs() < 1e-12);
    }

    /// Against a count of every label of every example.
    #[test]
    fn counts_of_many_labels_are_those_of_flags() {
        let (examples, labels) = (50, 200);
        let is_true = |example: usize, label: usize| (example * 7 + label * 3).is_multiple_of(11);
        let logit = |example: usize, label: usize| if (example + label * 5).is_multiple_of(7) { 1.0 } else { -1.0 };
        let truth: Vec<Vec<usize>> =
            (0..examples).map(|example| (0..labels).filter(|&label| is_true(example, label)).collect()).collect();
        let mut sets = LabelSets::new(examples, labels);
        for example in 0..examples {
            sets.set(example, &(0..labels).map(|label| logit(example, label)).collect::<Vec<_>>());
        }
        let mut expected = vec![[0; 3]; labels];
        for (example, label) in (0..examples).flat_map(|example| (0..labels).map(move |label| (example, label))) {
            let (truth, said) = (is_true(example, label), logit(example, label) > 0.0);
            for (kind, counts) in [truth && said, !truth && said, truth && !said].into_iter().enumerate() {
                expected[label][kind] += u64::from(counts);
            }
        }
        let mut counts = LabelCounts::new(labels);
        counts.recount(0..examples, &truth, &sets);
        assert_eq!(counts.counts, expected);
    }
}
