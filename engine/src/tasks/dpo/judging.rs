//! The loss of preferences, as TRL's `DPOTrainer` has it.

use tch::{Kind, Tensor};

use crate::error::Result;
use finetuned::domain::method::dpo::Loss;

/// How pairs of answers are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    pub(super) beta: f64,
    pub(super) loss: Loss,
    /// How likely a preference is the wrong way round.
    pub(super) label_smoothing: f64,
}

/// The log-probabilities of pairs of answers, float32 `[P, 2]`, from the losses of their tokens `[R]`, and how many tokens
/// each has (float32 `[P, 2]`), of which `lengths` (int64 `[2 P]`) says how many follow each other.
pub(super) fn log_probabilities(losses: &Tensor, lengths: &Tensor) -> Result<(Tensor, Tensor)> {
    let none = None::<&Tensor>;
    let sums = Tensor::f_segment_reduce(losses, "sum", Some(lengths), none, none, 0, false, 0.0)?;
    Ok((sums.f_neg()?.f_view([-1, 2])?, lengths.f_to_kind(Kind::Float)?.f_view([-1, 2])?))
}

impl Judge {
    /// Losses `[P]`, and rewards `[P, 2]`, of how much likelier answers have become as logarithms (`[P, 2]`, the preferred one
    /// first), and of their numbers of tokens (`[P, 2]`).
    pub(super) fn judge(&self, likelier: &Tensor, counts: &Tensor) -> Result<(Tensor, Tensor)> {
        let between = |pairs: &Tensor| -> Result<Tensor> { Ok(pairs.f_select(1, 0)?.f_sub(&pairs.f_select(1, 1)?)?) };
        let losses = match self.loss {
            Loss::Sigmoid => {
                let margin = between(likelier)?.f_mul_scalar(self.beta)?;
                let right = margin.f_log_sigmoid()?.f_mul_scalar(self.label_smoothing - 1.0)?;
                let wrong = margin.f_neg()?.f_log_sigmoid()?.f_mul_scalar(self.label_smoothing)?;
                right.f_sub(&wrong)?
            }
            Loss::Ipo => {
                let target = 1.0 / (2.0 * self.beta);
                let margin = between(&likelier.f_div(counts)?)?;
                let right = margin.f_sub_scalar(target)?.f_square()?.f_mul_scalar(1.0 - self.label_smoothing)?;
                let wrong = margin.f_add_scalar(target)?.f_square()?.f_mul_scalar(self.label_smoothing)?;
                right.f_add(&wrong)?
            }
        };
        Ok((losses, likelier.f_mul_scalar(self.beta)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::path::Path;

    use tch::{Device, Kind, Tensor};

    use super::{Judge, log_probabilities};
    use crate::data::rivals::Rivals;
    use crate::models::text::{CausalLm, TextConfig};
    use crate::nn::Mode;
    use crate::params::{self, ParamTable, Placement};
    use crate::weights::{self, Weights};
    use finetuned::domain::method::dpo::Loss;

    type Golden = HashMap<String, Tensor>;

    fn golden() -> (Golden, TextConfig) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let golden: Golden =
            Tensor::read_safetensors(folder.join("preferences.safetensors")).unwrap().into_iter().collect();
        let configs: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("lm_configs.json")).unwrap()).unwrap();
        let mut config = configs["families"]["llama"].clone();
        config["vocab_size"] = golden["after.model.embed_tokens.weight"].size()[0].into();
        (golden, TextConfig::parse(&config.to_string()).unwrap())
    }

    fn model(golden: &Golden, config: &TextConfig, prefix: &str) -> (CausalLm, ParamTable) {
        let named = golden.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
        let named: BTreeMap<_, _> = named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect();
        let folder = tempfile::tempdir().unwrap();
        weights::write(&folder.path().join("model.safetensors"), &named).unwrap();
        let weights = Weights::open(folder.path(), "model").unwrap();
        let placement = Placement::new(Device::Cpu, Kind::Float, 0);
        let (model, table, _) = params::build(&weights, placement, |root| CausalLm::new(root, config)).unwrap();
        (model, table)
    }

    /// TRL's batch as pairs: its rows are all preferred answers, and then all others.
    fn rivals(golden: &Golden) -> Rivals {
        let rows = |name: &str| Vec::<Vec<f32>>::try_from(&golden[name]).unwrap();
        let (ids, real, learned) = (rows("input_ids"), rows("attention_mask"), rows("completion_mask"));
        let sequence = |row: usize| -> Vec<(u32, bool)> {
            let tokens = ids[row].iter().zip(&real[row]).zip(&learned[row]);
            tokens
                .filter(|((_, real), _)| **real > 0.0)
                .map(|((&id, _), &learned)| (id as u32, learned > 0.0))
                .collect()
        };
        let mut rivals = Rivals::default();
        for pair in 0..ids.len() / 2 {
            rivals.push([sequence(pair), sequence(pair + ids.len() / 2)], pair as u64, pair as u64, false);
        }
        rivals
    }

    /// To 1e-4 of the value, or of 0.1, where means of rewards of about that size cancel out.
    fn close(found: f64, expected: f64, what: &str) {
        assert!((found - expected).abs() <= 1e-4 * expected.abs().max(0.1), "{what}: {found} {expected}");
    }

    #[test]
    fn losses_rewards_and_gradients_are_those_of_trl() {
        let (golden, config) = golden();
        let lesson = rivals(&golden).pack(&[0, 1, 2]);
        let (before, _) = model(&golden, &config, "before.");
        let asked = |model: &CausalLm| {
            let (places, targets) = (Tensor::from_slice(&lesson.places), Tensor::from_slice(&lesson.targets));
            let tokens = lesson.tokens.on(Device::Cpu).unwrap();
            let (losses, _) = model.losses(&tokens, &places, &targets, &Mode::eval()).unwrap();
            let lengths: Vec<i64> = lesson.counts.iter().map(|&count| count as i64).collect();
            log_probabilities(&losses, &Tensor::from_slice(&lengths)).unwrap()
        };
        let (reference, _) = tch::no_grad(|| asked(&before));
        for (name, beta, loss) in [("sigmoid", 0.3, Loss::Sigmoid), ("ipo", 0.2, Loss::Ipo)] {
            let (after, table) = model(&golden, &config, "after.");
            let (found, counts) = asked(&after);
            let judge = Judge { beta, loss, label_smoothing: 0.0 };
            let (losses, rewards) = judge.judge(&(found - &reference), &counts).unwrap();
            let mean = losses.mean(Kind::Float);
            let told = |what: &str| golden[&format!("{name}.{what}")].double_value(&[0]);
            close(mean.double_value(&[]), told("loss"), "loss");
            let (chosen, rejected) = (rewards.select(1, 0), rewards.select(1, 1));
            close(chosen.mean(Kind::Float).double_value(&[]), told("chosen"), "chosen");
            close(rejected.mean(Kind::Float).double_value(&[]), told("rejected"), "rejected");
            let right = chosen.gt_tensor(&rejected).to_kind(Kind::Float).mean(Kind::Float);
            close(right.double_value(&[]), told("accuracies"), "accuracies");
            mean.backward();
            for param in table.iter() {
                for (part, grad) in param.split(&param.grad().unwrap()).unwrap() {
                    let expected = &golden[&format!("{name}.grad.{part}")];
                    let largest = expected.abs().max().double_value(&[]).max(1e-6);
                    let distance = (grad - expected).abs().max().double_value(&[]) / largest;
                    assert!(distance < 1e-4, "{name}: gradient of {part}: {distance}");
                }
            }
        }
    }

    /// `-(1 - e) log σ(x) - e log σ(-x)` (Mitchell 2023) and its like of squares, by hand.
    #[test]
    fn smoothing_believes_a_preference_less() {
        let likelier = Tensor::from_slice(&[0.5_f32, -0.25, -1.0, 2.0]).view([2, 2]);
        let counts = Tensor::from_slice(&[2.0_f32, 1.0, 4.0, 2.0]).view([2, 2]);
        let losses = |loss, label_smoothing| {
            let judge = Judge { beta: 0.4, loss, label_smoothing };
            Vec::<f32>::try_from(&judge.judge(&likelier, &counts).unwrap().0).unwrap()
        };
        let log_sigmoid = |x: f64| -(1.0 + (-x).exp()).ln();
        for (place, margin) in [(0, 0.4 * 0.75), (1, 0.4 * -3.0)] {
            let expected = -0.8 * log_sigmoid(margin) - 0.2 * log_sigmoid(-margin);
            close(losses(Loss::Sigmoid, 0.2)[place].into(), expected, "sigmoid");
        }
        for (place, margin) in [(0, 0.25 + 0.25), (1, -0.25 - 1.0)] {
            let expected = 0.8 * (margin - 1.25_f64).powi(2) + 0.2 * (margin + 1.25_f64).powi(2);
            close(losses(Loss::Ipo, 0.2)[place].into(), expected, "ipo");
        }
    }
}
