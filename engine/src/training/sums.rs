//! What is summed over the batches of a step.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::error::{EngineError, Result};
use crate::native::readback::Readback;
use crate::tasks::Forward;
use finetuned::domain::metric::Metric;

/// What the batches of a step add up to. It stays where it is computed until the step is done: reading a number waits for
/// the device.
#[derive(Default)]
pub(super) struct Sums {
    /// Float64, 0-dimensional, as the others.
    loss: Option<Tensor>,
    ratios: BTreeMap<Metric, (Tensor, f64)>,
    /// Of each batch, as [`Forward::seen`].
    seen: Vec<Option<Tensor>>,
}

/// The numbers of a step on their way to the host.
pub(super) struct Sent {
    values: Readback,
    ratios: Vec<(Metric, f64)>,
    /// How many numbers each batch's forward pass said of its examples.
    seen: Vec<Option<usize>>,
}

/// The numbers of a step.
pub(super) struct Read {
    pub(super) loss: f64,
    /// Of the gradient.
    pub(super) norm: f64,
    pub(super) ratios: Vec<(Metric, f64)>,
    /// What each batch's forward pass said of its examples, row by row.
    pub(super) seen: Vec<Option<Vec<f64>>>,
}

impl Sums {
    /// Adds a batch, whose part of the step's mean loss is `mean`, and whose parts are of `whole`.
    pub(super) fn add(&mut self, mean: &Tensor, forward: Forward, whole: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let mean = mean.f_detach()?.f_to_kind(Kind::Double)?;
        self.loss = Some(match &self.loss {
            Some(sum) => sum.f_add(&mean)?,
            None => mean,
        });
        for (metric, part) in forward.parts {
            let part = part.f_to_kind(Kind::Double)?;
            let summed = match self.ratios.get(&metric) {
                Some((sum, before)) => (sum.f_add(&part)?, before + whole),
                None => (part, whole),
            };
            self.ratios.insert(metric, summed);
        }
        self.seen.push(forward.seen);
        Ok(())
    }

    /// The mean loss of the step.
    pub(super) fn loss(&self) -> Result<&Tensor> {
        self.loss.as_ref().ok_or_else(|| EngineError::native("a step has no batch"))
    }

    /// Sends all of them to the host at once, with the gradient's `norm`.
    pub(super) fn send(self, norm: &Tensor) -> Result<Sent> {
        let mut all = vec![self.loss()?.shallow_clone(), norm.f_to_kind(Kind::Double)?];
        all.extend(self.ratios.values().map(|(part, _)| part.shallow_clone()));
        let mut parts = vec![Tensor::f_stack(&all, 0)?];
        for seen in self.seen.iter().flatten() {
            parts.push(seen.f_reshape([-1])?);
        }
        Ok(Sent {
            values: Readback::begin(&Tensor::f_cat(&parts, 0)?)?,
            ratios: self.ratios.into_iter().map(|(metric, (_, whole))| (metric, whole)).collect(),
            seen: self.seen.iter().map(|seen| seen.as_ref().map(Tensor::numel)).collect(),
        })
    }
}

impl Sent {
    /// The numbers, once they are there.
    pub(super) fn read(self) -> Result<Read> {
        let values = Vec::<f64>::try_from(&self.values.wait()?)?;
        let (sums, seen) = values.split_at(2 + self.ratios.len());
        let mut rest = seen.iter().copied();
        let seen = self.seen.iter().map(|count| count.map(|count| rest.by_ref().take(count).collect())).collect();
        let ratios = self.ratios.into_iter().zip(&sums[2..]).filter(|((_, whole), _)| *whole > 0.0);
        let ratios = ratios.map(|((metric, whole), part)| (metric, part / whole)).collect();
        Ok(Read { loss: sums[0], norm: sums[1], ratios, seen })
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::Sums;
    use crate::tasks::Forward;
    use finetuned::domain::metric::ACCURACY;

    #[test]
    fn batches_add_up_to_a_step() {
        let mut sums = Sums::default();
        let seen = [Some(vec![0.5, 1.5, 1.0, 0.0]), None, Some(vec![2.5, 3.0])];
        for ((mean, right, whole), seen) in [(0.1_f32, 3_i64, 4.0), (0.2, 1, 2.0), (0.0, 0, 0.0)].into_iter().zip(&seen)
        {
            let loss = Tensor::from(mean).set_requires_grad(true);
            let parts = vec![(ACCURACY, Tensor::from(right))];
            let seen = seen.as_ref().map(|seen| Tensor::from_slice(seen).view([2, -1]));
            sums.add(&loss, Forward { loss_sum: loss.shallow_clone(), parts, seen }, whole).unwrap();
        }
        let read = sums.send(&Tensor::from(0.5_f32)).unwrap().read().unwrap();
        assert_eq!((read.loss, read.norm), (f64::from(0.1_f32) + f64::from(0.2_f32), 0.5));
        assert_eq!(read.ratios, [(ACCURACY, 4.0 / 6.0)]);
        assert_eq!(read.seen, seen);
        assert!(Sums::default().send(&Tensor::from(0.5_f32)).is_err());
    }

    #[test]
    fn a_share_of_nothing_is_none() {
        let mut sums = Sums::default();
        let loss = Tensor::from(1.0_f32);
        let parts = vec![(ACCURACY, Tensor::from(0_i64))];
        sums.add(&loss, Forward { loss_sum: loss.shallow_clone(), parts, seen: None }, 0.0).unwrap();
        assert!(sums.send(&loss).unwrap().read().unwrap().ratios.is_empty());
    }
}
