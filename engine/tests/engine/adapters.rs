//! Adapters against PEFT, and frozen parts and layer-wise learning rates against PyTorch's parameter groups.

use std::collections::{BTreeMap, HashMap};

use finetuned::domain::hyperparameters::LrSchedule;
use finetuned_engine::models::text::{TextClassifier, TextConfig};
use finetuned_engine::nn::{Linear, Mode};
use finetuned_engine::optim::{AdamW, AdamWConfig, Schedule};
use finetuned_engine::params::{self, Init, ParamTable, Placement};
use finetuned_engine::policy::Policy;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::support::{
    CLASSES, FP32, assert_close, assert_within, difference, golden, golden_path, loss, packed, policy, test_device,
    weights_of,
};

type Golden = HashMap<String, Tensor>;

/// PEFT's name for what it wraps.
const WRAPPED: &str = "base_model.model.";

fn build(golden: &Golden, policy: &Policy) -> (TextClassifier, ParamTable) {
    let configs: Value = serde_json::from_slice(&std::fs::read(golden_path("text_configs.json")).unwrap()).unwrap();
    let config = TextConfig::parse(&configs["bert"]["classifier"].to_string()).unwrap();
    let placement = Placement { device: test_device(), compute: Kind::Float, seed: 0, policy };
    let new = |root: &params::Builder<'_, '_>| TextClassifier::new(root, &config, CLASSES, Init::Normal(0.02));
    let (model, table, report) = params::build(&weights_of(golden, "weight."), placement, new).unwrap();
    assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
    (model, table)
}

/// Logits and mean loss of the batch whose tensors have `prefix`.
fn forward(model: &TextClassifier, golden: &Golden, prefix: &str, mode: &Mode) -> (Tensor, Tensor) {
    let of = |name: &str| &golden[&format!("{prefix}{name}")];
    let logits = model.forward(&packed(of("input_ids"), of("lengths")), mode).unwrap();
    let loss = loss(&logits, of("labels"));
    (logits, loss)
}

/// So many steps as Transformers' Trainer takes the first of 20; losses and norms.
fn train(model: &TextClassifier, table: &mut ParamTable, golden: &Golden, steps: u64) -> Vec<(f64, f64)> {
    let mut optimizer = AdamW::new(table, AdamWConfig::new(0.01, 1.0)).unwrap();
    let schedule = Schedule { kind: LrSchedule::Linear, peak: 2e-3, warmup_steps: 3, total_steps: 20 };
    let one = |step| {
        let (_, loss) = forward(model, golden, &format!("step{step}."), &Mode::train(step));
        loss.backward();
        let norm = optimizer.grad_norm(table).unwrap();
        optimizer.step(table, schedule.learning_rate(step), &norm).unwrap();
        (loss.double_value(&[]), norm.double_value(&[]))
    };
    (0..steps).map(one).collect()
}

/// That `actual` has exactly the tensors of the golden file under `prefix`, and how far they are away at most.
fn worst(actual: &BTreeMap<String, Tensor>, golden: &Golden, prefix: &str) -> f64 {
    let mut expected: Vec<&str> = golden.keys().filter_map(|name| name.strip_prefix(prefix)).collect();
    expected.sort_unstable();
    assert_eq!(actual.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{prefix}");
    // The keys' bias cannot change a softmax: its gradient is rounding noise around 0, which AdamW makes large.
    let compared = actual.iter().filter(|(name, _)| !name.ends_with("key.bias"));
    compared.map(|(name, tensor)| difference(tensor, &golden[&format!("{prefix}{name}")])).fold(0.0, f64::max)
}

#[test]
fn adapters_learn_as_those_of_peft_and_merge_as_they_do() {
    let golden = golden("adapters");
    for (case, more) in
        [("plain", json!({})), ("rslora", json!({"rslora": true, "target_modules": ["query", "value", "dense"]}))]
    {
        let mut lora = json!({"type": "lora", "r": 4, "alpha": 8});
        lora.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let policy = policy(json!({"adapter": lora}));
        let (model, mut table) = build(&golden, &policy);
        let names = |kind: &str| format!("{case}.{kind}.{WRAPPED}");
        table.restore(&weights_of(&golden, &names("start"))).unwrap();

        // Without them it is the base model again.
        let tokens = || packed(&golden[&format!("{case}.input_ids")], &golden[&format!("{case}.lengths")]);
        let features = |model: &TextClassifier, mode| tch::no_grad(|| model.features(&tokens(), &mode).unwrap());
        let base = features(&build(&golden, &self::policy(json!({}))).0, Mode::eval());
        assert_eq!(features(&model, Mode::eval().without_adapters()), base);
        assert!(difference(&features(&model, Mode::eval()), &base) > 1e-3);

        let (logits, loss) = forward(&model, &golden, &format!("{case}."), &Mode::eval());
        assert_close(&logits, &golden[&format!("{case}.logits")], FP32.logits, &format!("logits of {case}"));
        assert_close(&loss.reshape([1]), &golden[&format!("{case}.loss")], FP32.losses, &format!("loss of {case}"));
        loss.backward();
        let mut gradients = BTreeMap::new();
        for param in table.iter() {
            let grad = param.grad().unwrap();
            gradients.extend(param.split(&grad).unwrap().into_iter().map(|(name, grad)| (name.to_owned(), grad)));
        }
        assert!(gradients.values().all(|grad| grad.abs().max().double_value(&[]) > 0.0));
        assert_within(
            worst(&gradients, &golden, &names("grad")),
            FP32.gradients,
            &format!("gradients of {case}, {} tensors", gradients.len()),
        );
        table.clear_grads().unwrap();

        let mut furthest = 0.0_f64;
        for (step, (loss, norm)) in train(&model, &mut table, &golden, 20).into_iter().enumerate() {
            for (what, value) in [("losses", loss), ("norms", norm)] {
                let expected = golden[&format!("{case}.{what}")].double_value(&[step as i64]);
                furthest = furthest.max((value - expected).abs() / expected);
            }
        }
        assert_within(furthest, FP32.losses, &format!("losses and norms of {case}"));
        assert!(table.has_adapters());
        let adapted = table.trained().unwrap();
        assert_within(worst(&adapted, &golden, &names("final")), 1e-4, &format!("trained adapters of {case}"));
        let merged = worst(&table.named().unwrap(), &golden, &format!("{case}.merged."));
        assert_within(merged, 1e-4, &format!("merged weights of {case}"));
        assert_ne!(adapted["classifier.weight"].to_device(Device::Cpu), golden["weight.classifier.weight"]);
    }
}

#[test]
fn rates_by_layer_and_frozen_layers_are_parameter_groups_of_pytorch() {
    let golden = golden("adapters");
    for (case, more) in [
        ("decayed", json!({"layerwise_lr_decay": 0.7})),
        ("frozen", json!({"layerwise_lr_decay": 0.7, "freeze": {"layers": 1}})),
    ] {
        let policy = policy(more);
        let (model, mut table) = build(&golden, &policy);
        train(&model, &mut table, &golden, 5);
        let named = table.named().unwrap();
        assert_within(worst(&named, &golden, &format!("{case}.final.")), 1e-4, &format!("final weights, {case}"));
        for (name, part) in
            [("embeddings.word_embeddings", 0), ("encoder.layer.0.output.dense", 1), ("pooler.dense", 2)]
        {
            let name = format!("bert.{name}.weight");
            let stays = case == "frozen" && part < 2;
            let is_same = named[&name].to_device(Device::Cpu) == golden[&format!("weight.{name}")];
            assert_eq!(is_same, stays, "{case} {name}");
        }
    }
}

/// Projections of unequal widths, as those of models with fewer heads for keys and values than for queries.
#[test]
fn a_fused_layer_is_its_parts_side_by_side_whatever_their_widths() {
    const PARTS: [(&str, i64); 3] = [("query", 6), ("key", 2), ("value", 3)];
    tch::manual_seed(1);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let mut weights = Golden::new();
    for (name, width) in PARTS {
        weights.insert(format!("bert.{name}.weight"), random(&[width, 4]));
        weights.insert(format!("bert.{name}.bias"), random(&[width]));
    }
    let lora = json!({"type": "lora", "r": 2, "alpha": 6, "target_modules": ["query", "value"]});
    let policy = policy(json!({"adapter": lora}));
    let placement = Placement { device: Device::Cpu, compute: Kind::Float, seed: 0, policy: &policy };
    let new = |root: &params::Builder<'_, '_>| Linear::fused(&root.at("bert"), &PARTS, 4, true);
    let (fused, mut table, _) = params::build(&weights_of(&weights, ""), placement, new).unwrap();
    let mut trained = table.trained().unwrap();
    for (name, value) in &mut trained {
        *value = random(&value.size());
        weights.insert(name.clone(), value.shallow_clone());
    }
    table.put_back(&trained).unwrap();

    let x = random(&[5, 4]);
    let part =
        |name: &str| x.linear(&weights[&format!("bert.{name}.weight")], Some(&weights[&format!("bert.{name}.bias")]));
    let delta = |name: &str| {
        let [a, b] = ["A", "B"].map(|matrix| weights[&format!("bert.{name}.lora_{matrix}.weight")].shallow_clone());
        x.matmul(&a.tr()).matmul(&b.tr()) * 3.0
    };
    let plain = Tensor::cat(&PARTS.map(|(name, _)| part(name)), -1);
    let adapted = Tensor::cat(&[part("query") + delta("query"), part("key"), part("value") + delta("value")], -1);
    let forward = |mode: &Mode| tch::no_grad(|| fused.forward(&x, mode).unwrap());
    assert_within(difference(&forward(&Mode::eval().without_adapters()), &plain), 1e-6, "without adapters");
    assert_within(difference(&forward(&Mode::eval()), &adapted), 1e-5, "with adapters");
    assert_eq!(table.named().unwrap()["bert.key.weight"], weights["bert.key.weight"]);
}
