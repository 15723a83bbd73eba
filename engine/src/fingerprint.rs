//! What a run must have in common with the one that saved a checkpoint, to go on from it.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use finetuned::domain::hex::hex;
use finetuned::domain::hyperparameters::{Augmentation, Hyperparameters, Precision};
use finetuned::domain::run::RunSpec;

/// Two runs with the same fingerprint can go on from each other's checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    current: String,
    /// As version 0.1 made it, of all hyperparameters that there were. Accepted until 0.3, so that jobs which an upgrade finds
    /// paused or interrupted go on.
    legacy: String,
    /// That of another precision, of a job that an upgrade found before its precision was settled: it was begun where "auto" is
    /// something else, and going on in what is fast here is better than not at all.
    unsettled: Option<String>,
}

impl Fingerprint {
    /// Of a run of `examples` training examples that computes in `precision`.
    pub fn new(spec: &RunSpec, precision: Precision, examples: usize) -> Self {
        let mut hyperparameters = spec.hyperparameters.clone();
        hyperparameters.precision = precision;
        let hash = |hyperparameters: Map<String, Value>| {
            let identity = json!({
                "method": spec.method,
                "model": spec.model_name,
                "training": spec.training.as_ref().map(|file| &file.sha256),
                "validation": spec.validation.as_ref().map(|file| &file.sha256),
                "examples": examples,
                "labels": spec.labels,
                "hyperparameters": hyperparameters,
                "seed": spec.seed,
            });
            hex(&Sha256::digest(identity.to_string()))
        };
        let (current, old) = (hash(hyperparameters.that_shape(spec.method)), hash(legacy(&hyperparameters)));
        let unsettled = (spec.hyperparameters.precision == Precision::Auto).then(|| {
            let other = if precision == Precision::Fp32 { Precision::Bf16 } else { Precision::Fp32 };
            hash(legacy(&Hyperparameters { precision: other, ..hyperparameters }))
        });
        Self { current, legacy: old, unsettled }
    }

    /// What is saved.
    pub fn as_str(&self) -> &str {
        &self.current
    }

    /// Whether a run that saved this fingerprint can go on as this one.
    pub fn accepts(&self, saved: &str) -> bool {
        saved == self.current || saved == self.legacy || Some(saved) == self.unsettled.as_deref()
    }
}

/// The hyperparameters that version 0.1 had.
const LEGACY: [&str; 27] = [
    "adapter",
    "augmentation",
    "batch_size",
    "checkpoint_interval",
    "class_weights",
    "early_stopping",
    "eval_interval",
    "freeze",
    "gradient_accumulation_steps",
    "keep_checkpoints",
    "label_smoothing",
    "layerwise_lr_decay",
    "learning_rate",
    "learning_rate_multiplier",
    "lr_schedule",
    "max_grad_norm",
    "max_sequence_length",
    "mlm_probability",
    "n_epochs",
    "precision",
    "problem_type",
    "scale",
    "token_dropout",
    "token_masking",
    "warmup_ratio",
    "weight_decay",
    "whole_word_masking",
];

/// What version 0.1 wrote of these: those of all methods, where the run's own has none of them at their defaults.
fn legacy(hyperparameters: &Hyperparameters) -> Map<String, Value> {
    let Ok(Value::Object(mut values)) = serde_json::to_value(hyperparameters) else { return Map::new() };
    let defaults = [
        ("augmentation", json!(Augmentation::default())),
        ("class_weights", json!("none")),
        ("label_smoothing", json!(0.0)),
        ("mlm_probability", json!(0.15)),
        ("problem_type", json!("single_label_classification")),
        ("scale", json!(20.0)),
        ("token_dropout", json!(0.0)),
        ("token_masking", json!(0.0)),
        ("whole_word_masking", json!(false)),
    ];
    for (name, default) in defaults {
        values.entry(name).or_insert(default);
    }
    values.retain(|name, _| LEGACY.contains(&name.as_str()));
    values
}

#[cfg(test)]
mod tests {
    use finetuned::domain::hyperparameters::Precision;
    use finetuned::domain::run::RunSpec;
    use serde_json::{Value, json};

    use super::Fingerprint;

    const SPEC: &str = include_str!("../../tests/fixtures/run_spec_v1.json");

    fn of(change: impl FnOnce(&mut Value)) -> Fingerprint {
        let mut spec: Value = serde_json::from_str(SPEC).unwrap();
        change(&mut spec);
        let spec: RunSpec = serde_json::from_value(spec).unwrap();
        Fingerprint::new(&spec, Precision::Fp32, 90)
    }

    /// What version 0.1 hashed of this spec.
    #[test]
    fn a_checkpoint_of_version_0_1_is_gone_on_from() {
        let legacy = "59c6c0e617978be442a15abfce1efdaf9a0103b3550f0e8fe1a2f7eb1c97f9eb";
        assert!(of(|_| ()).accepts(legacy));
        assert!(!of(|spec| spec["seed"] = json!(43)).accepts(legacy));
    }

    #[test]
    fn what_shapes_the_training_counts() {
        let base = of(|_| ());
        assert!(base.accepts(base.as_str()));
        for (name, value) in [
            ("n_epochs", json!(4)),
            ("learning_rate", json!(0.0003)),
            ("warmup_ratio", json!(0.1)),
            ("freeze", json!("backbone")),
            ("early_stopping", json!({})),
            ("adapter", json!({"type": "lora"})),
            ("adapter", json!({"type": "lora", "r": 4})),
            ("token_dropout", json!(0.1)),
        ] {
            let other = of(|spec| spec["hyperparameters"][name] = value.clone());
            assert!(!base.accepts(other.as_str()), "{name}: {value}");
        }
        for (name, value) in [("labels", json!(["a", "b"])), ("seed", json!(1)), ("method", json!("masked_lm"))] {
            assert!(!base.accepts(of(|spec| spec[name] = value).as_str()), "{name}");
        }
    }

    #[test]
    fn what_only_saves_or_tells_does_not_count_and_neither_does_a_default() {
        let base = of(|_| ());
        for (name, value) in [
            ("keep_checkpoints", json!(9)),
            ("checkpoint_interval", json!(7)),
            ("learning_rate_multiplier", json!(1.5)),
            ("token_dropout", json!(0.0)),
            ("adapter", json!("none")),
            // Of other methods.
            ("scale", json!(5.0)),
        ] {
            let other = of(|spec| spec["hyperparameters"][name] = value);
            assert_eq!(base.as_str(), other.as_str(), "{name}");
        }
        let lora = |more: Value| {
            of(|spec| {
                spec["hyperparameters"]["adapter"] = json!({"type": "lora"});
                spec["hyperparameters"]["adapter"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            })
        };
        assert_eq!(lora(json!({})).as_str(), lora(json!({"r": 8, "rslora": false})).as_str());
        assert_ne!(lora(json!({})).as_str(), lora(json!({"rslora": true})).as_str());
    }
}
