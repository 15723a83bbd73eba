//! What a model says of examples, folded batch by batch: of each as much as its scores and its line need, never the logits
//! of all labels of all examples.

use tch::{Device, Tensor};

use crate::data::examples::Targets;
use crate::error::Result;
use crate::score::{argmax, rank, softmax};
use finetuned::domain::estimate::{EVALUATION_LOGITS, LISTED_LOGITS, MOST_LISTED_LABELS};
use finetuned::domain::metric::labels::LabelSets;

/// What a model said of each example, in the order of the file.
pub(super) struct Outputs<'a> {
    pub(super) labels: &'a [String],
    pub(super) targets: &'a Targets,
    pub(super) losses: Vec<f32>,
    pub(super) said: Said,
    pub(super) listed: Listed,
}

/// What the scores need, by kind of problem.
pub(super) enum Said {
    /// The likeliest class, its probability, and how many examples have their own class among the likeliest five.
    Class {
        predicted: Vec<u32>,
        probabilities: Vec<f64>,
        near: u64,
    },
    Labels(LabelSets),
    Value(Vec<f32>),
}

/// The logits that lines have.
pub(super) struct Listed {
    /// Of each example.
    width: usize,
    logits: Vec<f32>,
    /// The classes they belong to, likeliest first; None where all are listed.
    classes: Option<Vec<u32>>,
    /// A scratch list of all classes.
    order: Vec<u32>,
}

/// Rows of `outputs` logits each that one evaluation batch may have.
pub(super) fn most_rows(outputs: usize) -> usize {
    (EVALUATION_LOGITS / outputs.max(1)).max(1)
}

impl<'a> Outputs<'a> {
    /// Of examples with these targets, of which nothing is said yet.
    pub(super) fn new(labels: &'a [String], targets: &'a Targets, examples: usize) -> Self {
        let said = match targets {
            Targets::Classes(_) => {
                Said::Class { predicted: vec![0; examples], probabilities: vec![0.0; examples], near: 0 }
            }
            Targets::Sets(_) => Said::Labels(LabelSets::new(examples, labels.len())),
            Targets::Values(_) => Said::Value(vec![0.0; examples]),
        };
        // The value that a regression predicts is no logit.
        let listed = if matches!(targets, Targets::Values(_)) { 0 } else { labels.len() };
        Self { labels, targets, losses: vec![0.0; examples], said, listed: Listed::new(examples, listed) }
    }

    /// Takes in a batch: `logits` `[S, C]` and `losses` `[S]` of the examples at `indices`.
    pub(super) fn add(&mut self, indices: &[usize], logits: &Tensor, losses: &Tensor) -> Result<()> {
        let outputs = logits.size()[1] as usize;
        let values = Vec::<f32>::try_from(&logits.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?)?;
        let losses = Vec::<f32>::try_from(&losses.f_to_device(Device::Cpu)?)?;
        for ((&index, row), loss) in indices.iter().zip(values.chunks(outputs.max(1))).zip(losses) {
            self.losses[index] = loss;
            self.listed.keep(index, row);
            match (&mut self.said, self.targets) {
                (Said::Class { predicted, probabilities, near }, Targets::Classes(truth)) => {
                    let best = argmax(row);
                    predicted[index] = best as u32;
                    probabilities[index] = softmax(row)[best];
                    *near += u64::from(rank(row, truth[index]) < 5);
                }
                (Said::Labels(sets), _) => sets.set(index, row),
                (Said::Value(values), _) => values[index] = row.first().copied().unwrap_or_default(),
                (Said::Class { .. }, _) => {}
            }
        }
        Ok(())
    }
}

impl Listed {
    fn new(examples: usize, labels: usize) -> Self {
        let all = labels <= MOST_LISTED_LABELS;
        let width = if all { labels } else { LISTED_LOGITS };
        let (classes, order) =
            if all { (None, Vec::new()) } else { (Some(vec![0; examples * width]), vec![0; labels]) };
        Self { width, logits: vec![0.0; examples * width], classes, order }
    }

    fn keep(&mut self, index: usize, row: &[f32]) {
        let kept = index * self.width..(index + 1) * self.width;
        let Some(classes) = &mut self.classes else {
            return self.logits[kept].copy_from_slice(&row[..self.width]);
        };
        self.order.iter_mut().zip(0..).for_each(|(class, number)| *class = number);
        let likelier = |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
        self.order.select_nth_unstable_by(self.width - 1, likelier);
        let first = &mut self.order[..self.width];
        first.sort_unstable_by(likelier);
        classes[kept.clone()].copy_from_slice(first);
        for (logit, class) in self.logits[kept].iter_mut().zip(first) {
            *logit = row[*class as usize];
        }
    }

    /// All logits of an example, in the order of the classes; None where they are too many.
    pub(super) fn all(&self, index: usize) -> Option<&[f32]> {
        self.classes.is_none().then(|| &self.logits[index * self.width..][..self.width])
    }

    /// The likeliest classes of an example and their logits, likeliest first; none where all are listed.
    pub(super) fn likeliest(&self, index: usize) -> impl Iterator<Item = (usize, f32)> {
        let kept = index * self.width..(index + 1) * self.width;
        let classes = self.classes.as_ref().map_or(&[][..], |classes| &classes[kept.clone()]);
        classes.iter().map(|&class| class as usize).zip(self.logits[kept].iter().copied())
    }
}
