//! Losses of classifiers and regressions, as Transformers chooses them by `problem_type`.

use tch::{Device, Kind, Reduction, Tensor};

use crate::data::examples::Targets;
use crate::error::Result;
use finetuned::domain::method::common::ClassWeights;

/// The loss of a classifier or a regression.
pub(super) struct Loss {
    /// One weight per class, and the same on the device.
    weights: Option<(Vec<f64>, Tensor)>,
    label_smoothing: f64,
    classes: usize,
}

impl Loss {
    /// For `classes` outputs; class weights are taken from the training data's `targets`.
    pub(super) fn new(
        weights: ClassWeights,
        label_smoothing: f64,
        classes: usize,
        targets: &Targets,
        device: Device,
    ) -> Result<Self> {
        let weights = match (weights, targets) {
            (ClassWeights::Balanced, Targets::Classes(chosen)) => Some(balanced(chosen, classes)),
            (ClassWeights::Balanced, Targets::Sets(sets)) => Some(positive_weights(sets, classes)),
            _ => None,
        };
        let on_device = |weights: Vec<f64>| -> Result<(Vec<f64>, Tensor)> {
            let floats: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
            Ok((weights, Tensor::f_from_slice(&floats)?.f_to_device(device)?))
        };
        Ok(Self { weights: weights.map(on_device).transpose()?, label_smoothing, classes })
    }

    /// What the summed loss of these examples is divided by.
    pub(super) fn weight(&self, targets: &Targets, examples: &[usize]) -> f64 {
        match (targets, &self.weights) {
            (Targets::Classes(classes), Some((weights, _))) => examples.iter().map(|&i| weights[classes[i]]).sum(),
            (Targets::Classes(_) | Targets::Values(_), _) => examples.len() as f64,
            // BCEWithLogitsLoss averages over examples and labels.
            (Targets::Sets(_), _) => (examples.len() * self.classes) as f64,
        }
    }

    /// The targets of these examples: int64 `[S]` classes, float32 `[S, C]` indicators, or float32 `[S]` values.
    pub(super) fn targets(&self, targets: &Targets, examples: &[usize], device: Device) -> Result<Tensor> {
        let tensor = match targets {
            Targets::Classes(classes) => {
                Tensor::f_from_slice(&examples.iter().map(|&i| classes[i] as i64).collect::<Vec<_>>())?
            }
            Targets::Sets(sets) => {
                let mut flags = vec![0_f32; examples.len() * self.classes];
                for (row, &example) in examples.iter().enumerate() {
                    for &class in &sets[example] {
                        flags[row * self.classes + class] = 1.0;
                    }
                }
                Tensor::f_from_slice(&flags)?.f_view([examples.len() as i64, self.classes as i64])?
            }
            Targets::Values(values) => {
                Tensor::f_from_slice(&examples.iter().map(|&i| values[i] as f32).collect::<Vec<_>>())?
            }
        };
        Ok(tensor.f_to_device(device)?)
    }

    /// The loss of `logits` `[S, C]` (float32) against [`targets`](Self::targets), summed:
    /// `CrossEntropyLoss`, `BCEWithLogitsLoss` or `MSELoss`.
    pub(super) fn sum(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        self.reduced(logits, targets, Reduction::Sum, true)
    }

    /// The loss of each example `[S]`, without weights and smoothing, for evaluations.
    pub(super) fn each(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let losses = self.reduced(logits, targets, Reduction::None, false)?;
        Ok(if losses.dim() > 1 { losses.f_mean_dim(1, false, Kind::Float)? } else { losses })
    }

    fn reduced(&self, logits: &Tensor, targets: &Tensor, reduction: Reduction, weighted: bool) -> Result<Tensor> {
        let weights = self.weights.as_ref().map(|(_, tensor)| tensor).filter(|_| weighted);
        let smoothing = if weighted { self.label_smoothing } else { 0.0 };
        if targets.kind() == Kind::Int64 {
            return Ok(logits.f_cross_entropy_loss(targets, weights, reduction, -100, smoothing)?);
        }
        if targets.dim() == 1 {
            return Ok(logits.f_squeeze_dim(1)?.f_mse_loss(targets, reduction)?);
        }
        let softened = if smoothing > 0.0 {
            targets.f_mul_scalar(1.0 - smoothing)?.f_add_scalar(smoothing / 2.0)?
        } else {
            targets.shallow_clone()
        };
        let none = None::<&Tensor>;
        Ok(logits.f_binary_cross_entropy_with_logits(&softened, none, weights, reduction)?)
    }
}

/// scikit-learn's `class_weight="balanced"`: examples / (classes × examples of the class); 0 for an absent class.
fn balanced(classes: &[usize], count: usize) -> Vec<f64> {
    let mut support = vec![0_u64; count];
    for &class in classes {
        support[class] += 1;
    }
    let total = classes.len() as f64;
    support.into_iter().map(|n| if n == 0 { 0.0 } else { total / (count as f64 * n as f64) }).collect()
}

/// PyTorch's advice for `pos_weight`: examples without the label / examples with it; 1 for an absent one.
fn positive_weights(sets: &[Vec<usize>], count: usize) -> Vec<f64> {
    let mut support = vec![0_u64; count];
    for &class in sets.iter().flatten() {
        support[class] += 1;
    }
    let total = sets.len() as f64;
    support.into_iter().map(|n| if n == 0 { 1.0 } else { (total - n as f64) / n as f64 }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use tch::{Device, Kind, Tensor};

    use super::{Loss, balanced, positive_weights};
    use crate::data::examples::Targets;
    use finetuned::domain::method::common::ClassWeights;

    #[test]
    fn losses_of_several_labels_and_of_values_are_those_of_pytorch() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/losses.safetensors");
        let golden: HashMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
        let of = |name: &str| golden[&format!("several.{name}")].shallow_clone();
        let rows = Vec::<Vec<f32>>::try_from(of("sets")).unwrap();
        let classes = |row: &Vec<f32>| (0..row.len()).filter(|&class| row[class] > 0.0).collect();
        let sets = Targets::Sets(rows.iter().map(classes).collect());
        let values = Vec::<f32>::try_from(of("values")).unwrap();
        let values = Targets::Values(values.into_iter().map(f64::from).collect());
        let (many, one) = (of("logits"), of("logits").narrow(1, 0, 1));
        for (name, targets, logits, weights, smoothing) in [
            ("plain", &sets, &many, ClassWeights::None, 0.0),
            ("weighted", &sets, &many, ClassWeights::Balanced, 0.0),
            ("both", &sets, &many, ClassWeights::Balanced, 0.1),
            ("mse", &values, &one, ClassWeights::None, 0.0),
        ] {
            let loss = Loss::new(weights, smoothing, logits.size()[1] as usize, targets, Device::Cpu).unwrap();
            let all: Vec<usize> = (0..9).collect();
            let leaf = logits.copy().set_requires_grad(true);
            // As the training loop has it: a sum, divided by what the whole step weighs.
            let sum = loss.sum(&leaf, &loss.targets(targets, &all, Device::Cpu).unwrap()).unwrap();
            let mean = sum / loss.weight(targets, &all);
            mean.backward();
            for (what, actual) in [("loss", mean.reshape([1])), ("grad", leaf.grad())] {
                let expected = of(&format!("{name}.{what}"));
                assert_eq!(actual.size(), expected.size());
                let difference = (actual - expected).abs().max().to_kind(Kind::Double).double_value(&[]);
                assert!(difference <= 1e-6, "{what}, {name}: {difference:.2e}");
            }
        }
    }

    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        assert_eq!(balanced(&[0, 0, 0, 1], 2), [4.0 / 6.0, 2.0]);
        assert_eq!(balanced(&[0], 2), [0.5, 0.0]);
    }

    #[test]
    fn rare_labels_weigh_more() {
        assert_eq!(positive_weights(&[vec![0], vec![0, 1], vec![0], vec![]], 3), [1.0 / 3.0, 3.0, 1.0]);
    }
}
