//! How much of what a GPU could compute a run uses: model FLOPs utilisation (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).

use std::fs;
use std::path::Path;

use crate::domain::hyperparameters::Precision;
use crate::domain::run::Started;

/// Dense products of bfloat16 that NVIDIA's data sheets state, in TFLOP/s, by what a card's name has; the first that fits counts.
const PEAKS: [(&str, f64); 20] = [
    ("B200", 2250.0),
    ("H200", 989.4),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.4),
    ("A100", 312.0),
    ("A30", 165.0),
    ("A40", 149.7),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("RTX 6000 Ada", 364.0),
    ("RTX A6000", 154.8),
    ("RTX A5000", 111.1),
    ("RTX 4090", 165.2),
    ("RTX 4080", 97.5),
    ("RTX 3090", 71.0),
    ("RTX 3080", 59.5),
];

/// Where the driver tells of its cards, a folder each.
const CARDS: &str = "/proc/driver/nvidia/gpus";

/// Counts a run's floating-point operations against what its card could do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Utilization {
    /// Operations of a token, forward and backward.
    per_token: f64,
    /// Operations of a second.
    peak: f64,
}

impl Utilization {
    /// Of a run that has started; None where the peak is not known: on a CPU, in float32, on a card that is not listed, or
    /// where there are several kinds.
    pub(super) fn of(started: &Started) -> Option<Self> {
        Self::with_cards(started, Path::new(CARDS))
    }

    fn with_cards(started: &Started, cards: &Path) -> Option<Self> {
        let trained = started.trained_parameters?;
        if started.device != "cuda" || started.precision != Precision::Bf16 {
            return None;
        }
        let peak = peak_of(cards)?;
        // A product forward, one for the gradient of its input, and one for that of what is trained.
        let per_token = 4.0 * started.parameters as f64 + 2.0 * trained as f64;
        Some(Self { per_token, peak })
    }

    /// The share of the peak, 0 to 1, at so many tokens a second. Attention is not counted.
    pub(super) fn at(self, tokens_per_second: f64) -> f64 {
        tokens_per_second * self.per_token / self.peak
    }
}

/// FLOP/s of the cards that a folder of the driver's tells of, which must be equal.
fn peak_of(cards: &Path) -> Option<f64> {
    let known = |name: &str| PEAKS.iter().find(|(part, _)| name.contains(part)).map(|(_, peak)| peak * 1e12);
    let peaks = fs::read_dir(cards).ok()?.map(|card| {
        let text = fs::read_to_string(card.ok()?.path().join("information")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Model:")).and_then(known)
    });
    let peaks: Vec<f64> = peaks.collect::<Option<_>>()?;
    let first = *peaks.first()?;
    peaks.iter().all(|peak| *peak == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::{Utilization, peak_of};

    fn cards(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (number, name) in names.iter().enumerate() {
            let card = folder.path().join(format!("0000:0{number}:00.0"));
            fs::create_dir(&card).unwrap();
            fs::write(card.join("information"), format!("Model: \t\t {name}\nIRQ:   \t\t 16\n")).unwrap();
        }
        folder
    }

    #[test]
    fn cards_are_known_by_their_names() {
        for (names, peak) in [
            (&["NVIDIA H100 80GB HBM3"][..], Some(989.4e12)),
            (&["NVIDIA H100 PCIe"], Some(756e12)),
            (&["NVIDIA L40S", "NVIDIA L40S"], Some(362e12)),
            (&["NVIDIA L4"], Some(121e12)),
            (&["NVIDIA L4", "NVIDIA A100-SXM4-40GB"], None),
            (&["Tesla V100-SXM2-16GB"], None),
            (&[], None),
        ] {
            assert_eq!(peak_of(cards(names).path()), peak, "{names:?}");
        }
        assert_eq!(peak_of(std::path::Path::new("/nowhere")), None);
    }

    #[test]
    fn adapters_count_two_products_and_whole_models_three() {
        let folder = cards(&["NVIDIA H200"]);
        let at = |device: &str, precision: &str, trained: Option<u64>| {
            let started = json!({"device": device, "precision": precision, "step": 0, "total_steps": 1, "training_examples": 1,
                                 "validation_examples": 0, "truncated": 0, "mean_tokens": 1.0,
                                 "parameters": 8_000_000_000_u64, "trained_parameters": trained});
            let started = serde_json::from_value(started).unwrap();
            Utilization::with_cards(&started, folder.path()).map(|of| (1000.0 * of.at(12_000.0)).round())
        };
        assert_eq!(at("cuda", "bf16", Some(0)), Some(388.0));
        assert_eq!(at("cuda", "bf16", Some(8_000_000_000)), Some(582.0));
        for (device, precision, trained) in
            [("cpu", "bf16", Some(1)), ("cuda", "fp32", Some(1)), ("cuda", "bf16", None)]
        {
            assert_eq!(at(device, precision, trained), None);
        }
    }
}
