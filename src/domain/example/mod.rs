//! What the forward passes of a training say of its examples, summed over the epochs: which of them may be labelled wrongly.

pub mod columns;

use std::cmp::Ordering;

use super::metric::LOSS;

/// What one forward pass of a training says of an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Against the example's own label, without weights and smoothing.
    pub loss: f64,
    /// The number of the likeliest label; of several labels the one with the smallest margin; or the value.
    pub prediction: f32,
    /// The logit of the label minus the largest other one. Of several labels the smallest over all of them, a label that the
    /// example lacks counting with its sign turned. Values have none.
    pub margin: Option<f64>,
}

/// An example over the epochs that count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ExampleStatistics {
    pub epochs: u32,
    /// Summed.
    loss: f64,
    /// The latest.
    pub prediction: f32,
    /// None of values, and before the first epoch.
    labels: Option<LabelStatistics>,
}

/// What only examples with labels have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct LabelStatistics {
    /// Summed.
    margin: f64,
    /// Epochs in which the margin was positive: the prediction was right.
    correct: u32,
    forgetting_events: u32,
    /// In the latest epoch.
    was_correct: bool,
}

impl ExampleStatistics {
    /// Adds an epoch.
    pub fn add(&mut self, seen: Observation) {
        self.epochs += 1;
        self.loss += seen.loss;
        self.prediction = seen.prediction;
        let Some(margin) = seen.margin else { return };
        let labels = self.labels.get_or_insert_default();
        let is_correct = margin > 0.0;
        labels.margin += margin;
        labels.correct += u32::from(is_correct);
        labels.forgetting_events += u32::from(labels.was_correct && !is_correct);
        labels.was_correct = is_correct;
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.epochs > 0).then(|| sum / f64::from(self.epochs))
    }

    /// None before the first epoch.
    pub fn mean_loss(&self) -> Option<f64> {
        self.mean(self.loss)
    }

    /// The mean margin: the area under the margin (Pleiss et al. 2020, arXiv:2001.10528).
    pub fn margin(&self) -> Option<f64> {
        self.labels.and_then(|labels| self.mean(labels.margin))
    }

    /// The share of epochs in which the prediction was right (Swayamdipta et al. 2020, arXiv:2009.10795).
    pub fn correctness(&self) -> Option<f64> {
        self.labels.and_then(|labels| self.mean(labels.correct.into()))
    }

    /// How often a right prediction was followed by a wrong one (Toneva et al. 2019, arXiv:1812.05159).
    pub fn forgetting_events(&self) -> Option<u32> {
        self.labels.map(|labels| labels.forgetting_events)
    }
}

/// Which examples come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExampleOrder {
    /// Those of the smallest mean margin.
    Margin,
    /// Those of the largest mean loss.
    Loss,
    /// Those that were never predicted right, then those that were forgotten most often.
    Forgetting,
}

impl ExampleOrder {
    pub const ALL: [Self; 3] = [Self::Margin, Self::Loss, Self::Forgetting];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Margin => "margin",
            Self::Loss => LOSS.name(),
            Self::Forgetting => "forgetting",
        }
    }

    /// Where an example stands in this order. What no epoch counts of comes last.
    pub fn rank(self, number: u64, example: &ExampleStatistics) -> Rank {
        let margin = example.margin().unwrap_or(f64::INFINITY);
        let surprise = -example.mean_loss().unwrap_or(f64::NEG_INFINITY);
        let keys = match self {
            Self::Margin => [margin, surprise],
            Self::Loss => [surprise, margin],
            Self::Forgetting if example.correctness() == Some(0.0) => [f64::NEG_INFINITY, margin],
            Self::Forgetting => {
                [example.forgetting_events().map_or(f64::INFINITY, |events| -f64::from(events)), margin]
            }
        };
        Rank { keys, number }
    }
}

/// A place in an order: the least comes first, and no two examples have the same.
#[derive(Clone, Copy, Debug)]
pub struct Rank {
    keys: [f64; 2],
    pub number: u64,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let keys = self.keys.iter().zip(&other.keys).map(|(own, other)| own.total_cmp(other));
        keys.fold(Ordering::Equal, Ordering::then).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

#[cfg(test)]
mod tests {
    use super::{ExampleOrder, ExampleStatistics, Observation};

    fn seen(passes: &[(f64, Option<f64>)]) -> ExampleStatistics {
        let mut example = ExampleStatistics::default();
        for &(loss, margin) in passes {
            example.add(Observation { loss, prediction: 1.0, margin });
        }
        example
    }

    fn with_margins(margins: &[f64]) -> ExampleStatistics {
        seen(&margins.iter().map(|&margin| (1.0, Some(margin))).collect::<Vec<_>>())
    }

    #[test]
    fn epochs_add_up_to_means_and_forgetting_is_right_before_wrong() {
        let example = seen(&[(0.5, Some(1.0)), (1.5, Some(-3.0)), (1.0, Some(2.0)), (4.0, Some(0.0))]);
        assert_eq!((example.epochs, example.mean_loss(), example.margin()), (4, Some(1.75), Some(0.0)));
        assert_eq!((example.correctness(), example.forgetting_events()), (Some(0.5), Some(2)));
        let value = seen(&[(0.5, None)]);
        assert_eq!((value.mean_loss(), value.margin(), value.forgetting_events()), (Some(0.5), None, None));
        assert_eq!(ExampleStatistics::default().mean_loss(), None);
    }

    #[test]
    fn each_order_has_its_own_first_and_what_was_not_seen_comes_last() {
        let examples = [
            ExampleStatistics::default(),
            // Never right; forgotten once; always right.
            with_margins(&[-1.0, -1.0, -1.0]),
            with_margins(&[1.0, -9.0, -9.0]),
            with_margins(&[2.0, 2.0, 2.0]),
            seen(&[(7.0, Some(3.0))]),
        ];
        let ordered = |order: ExampleOrder| {
            let mut ranks: Vec<_> = (0..).zip(&examples).map(|(number, example)| order.rank(number, example)).collect();
            ranks.sort();
            ranks.iter().map(|rank| rank.number).collect::<Vec<_>>()
        };
        assert_eq!(ordered(ExampleOrder::Margin), [2, 1, 3, 4, 0]);
        assert_eq!(ordered(ExampleOrder::Loss), [4, 2, 1, 3, 0]);
        assert_eq!(ordered(ExampleOrder::Forgetting), [1, 2, 3, 4, 0]);
    }
}
