//! AdamW, clipping, schedules and losses against PyTorch and Transformers.

use std::collections::{BTreeMap, HashMap};

use finetuned::domain::hyperparameters::{Hyperparameters, LrSchedule, OptimizerWord};
use finetuned_engine::models::text::TextClassifier;
use finetuned_engine::native::adamw::{self, AdamWItem, AdamWScalars, BLOCK, Joint, Moments, OptimizerKernel};
use finetuned_engine::nn::Mode;
use finetuned_engine::optim::{AdamW, AdamWConfig, Schedule};
use finetuned_engine::params::{self, Builder, Init, ParamTable};
use finetuned_engine::weights::{self, Weights};
use tch::{Kind, Reduction, Tensor};

use super::support::{
    BF16, FP32, Tolerance, assert_close, assert_within, classifier, golden, golden_path, loss, packed, test_device,
    tiny_config,
};

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor).unwrap()
}

/// Nothing has stopped the updates.
fn going() -> Tensor {
    Tensor::zeros([0_i64; 0], (Kind::Float, test_device()))
}

/// Ten updates with joint clipping, by the kernel under test.
fn ten_updates(kernel: OptimizerKernel) {
    let golden = golden("adamw");
    let device = test_device();
    let on_device = |name: &str| golden[name].to_device(device).copy();
    let parameters = ["decayed", "plain"].map(|name| (name, on_device(&format!("start.{name}"))));
    let moments = parameters.each_ref().map(|(_, p)| (p.zeros_like(), p.zeros_like()));
    let norms = values(&golden["norms"]);
    for step in 0..10_i64 {
        let grads = parameters.each_ref().map(|(name, _)| on_device(&format!("grad{step}.{name}")));
        let norm = adamw::grad_norm(&grads.iter().collect::<Vec<_>>(), kernel).unwrap();
        let expected = f64::from(norms[step as usize]);
        assert_within((norm.double_value(&[]) - expected).abs() / expected, 1e-5, &format!("norm at {step}"));
        let items: Vec<AdamWItem<'_>> = parameters
            .iter()
            .zip(&grads)
            .zip(&moments)
            .map(|(((name, parameter), grad), moments)| AdamWItem {
                parameter,
                grad,
                moments: Moments::Full(&moments.0, &moments.1),
                low: None,
                weight_decay: if *name == "decayed" { 0.1 } else { 0.0 },
            })
            .collect();
        let scalars =
            AdamWScalars { learning_rate: 0.03, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: step + 1, max_norm: 1.0 };
        adamw::adamw(&items, Joint { norm: &norm, halted: &going() }, scalars, kernel).unwrap();
        for (name, parameter) in &parameters {
            assert_close(parameter, &golden[&format!("after{step}.{name}")], 1e-5, &format!("{name} after {step}"));
        }
    }
}

#[test]
fn adamw_and_clipping_are_those_of_pytorch() {
    ten_updates(OptimizerKernel::Auto);
}

/// The operators that GPUs use, checked on whatever device the tests run on.
#[test]
fn so_are_the_multi_tensor_operators() {
    ten_updates(OptimizerKernel::MultiTensor);
}

/// Five updates with moments in eight bits, by the kernel under test.
fn eight_bit_updates(kernel: OptimizerKernel) {
    let golden = golden("adamw_8bit");
    let device = test_device();
    let on_device = |name: &str| golden[name].to_device(device).copy();
    for (name, weight_decay) in [("decayed", 0.1), ("plain", 0.0)] {
        let parameter = on_device(&format!("start.{name}"));
        let blocks = parameter.numel() as i64 / BLOCK;
        let codes = || Tensor::zeros([blocks * BLOCK], (Kind::Uint8, device));
        let scales = || Tensor::zeros([blocks], (Kind::Float, device));
        let moments = [codes(), scales(), codes(), scales()];
        let norm = Tensor::zeros([0_i64; 0], (Kind::Float, device));
        for step in 0..5_i64 {
            let grad = on_device(&format!("grad{step}.{name}"));
            let moments = Moments::EightBit(moments.each_ref());
            let item = AdamWItem { parameter: &parameter, grad: &grad, moments, low: None, weight_decay };
            let scalars = AdamWScalars {
                learning_rate: 0.03,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                step: step + 1,
                max_norm: 0.0,
            };
            adamw::adamw(&[item], Joint { norm: &norm, halted: &going() }, scalars, kernel).unwrap();
            assert_close(&parameter, &golden[&format!("after{step}.{name}")], 1e-5, &format!("{name} after {step}"));
        }
        for (place, what) in ["exp_avg", "exp_avg_sq"].into_iter().enumerate() {
            let expected = |part: &str| golden[&format!("{what}.{name}.{part}")].to_device(device);
            assert_close(&moments[2 * place + 1], &expected("scales"), 1e-6, what);
            // Halfway between two numbers the last bit decides.
            let others = moments[2 * place].ne_tensor(&expected("codes")).sum(Kind::Int64).int64_value(&[]);
            assert!(others <= 2, "{others} codes of {what} of {name}");
        }
    }
}

#[test]
fn adamw_in_eight_bits_is_that_of_torchao() {
    eight_bit_updates(OptimizerKernel::Auto);
}

#[test]
fn so_is_what_gpus_do_in_eight_bits() {
    eight_bit_updates(OptimizerKernel::MultiTensor);
}

/// After a gradient that is not finite nothing changes any more, whatever comes.
#[test]
fn what_is_not_finite_is_not_applied() {
    let device = test_device();
    for kernel in [OptimizerKernel::Auto, OptimizerKernel::MultiTensor] {
        for bits in [32, 8] {
            tch::manual_seed(5);
            let parameter = Tensor::randn([2 * BLOCK + 9], (Kind::Float, device));
            let low = parameter.to_kind(Kind::BFloat16);
            let codes = || Tensor::randint(256, [3 * BLOCK], (Kind::Uint8, device));
            let scales = || Tensor::rand([3], (Kind::Float, device));
            let full = [parameter.rand_like(), parameter.rand_like()];
            let eight = [codes(), scales(), codes(), scales()];
            let state =
                || [&parameter, &low].into_iter().chain(&full).chain(&eight).map(Tensor::copy).collect::<Vec<_>>();
            let before = state();
            for (added, halted) in [(0.0, 1.0_f32), (f64::NAN, 1.0), (0.5, 0.0)] {
                let grad = parameter.randn_like() + added;
                let norm = adamw::grad_norm(&[&grad], kernel).unwrap();
                let (is_halted, halted) = (halted > 0.0, Tensor::from(halted).to_device(device));
                let moments = match bits {
                    32 => Moments::Full(&full[0], &full[1]),
                    _ => Moments::EightBit(eight.each_ref()),
                };
                let item =
                    AdamWItem { parameter: &parameter, grad: &grad, moments, low: Some(&low), weight_decay: 0.1 };
                let scalars =
                    AdamWScalars { learning_rate: 0.03, beta1: 0.9, beta2: 0.99, eps: 1e-8, step: 3, max_norm: 1.0 };
                adamw::adamw(&[item], Joint { norm: &norm, halted: &halted }, scalars, kernel).unwrap();
                assert_eq!(state() == before, is_halted, "{kernel:?}, {bits} bits");
            }
        }
    }
}

/// With a broken block at the end, a clipped bfloat16 gradient and a low copy, both ways do the same.
#[test]
fn both_ways_in_eight_bits_do_the_same() {
    let device = test_device();
    tch::manual_seed(3);
    let count = 3 * 256 + 100;
    let start = Tensor::randn([count], (Kind::Float, device));
    let grads: Vec<Tensor> = (0..4).map(|_| start.randn_like().to_kind(Kind::BFloat16)).collect();
    let [one, other] = [OptimizerKernel::Auto, OptimizerKernel::MultiTensor].map(|kernel| {
        let (parameter, low) = (start.copy(), start.to_kind(Kind::BFloat16));
        let codes = || Tensor::zeros([4 * BLOCK], (Kind::Uint8, device));
        let scales = || Tensor::zeros([4], (Kind::Float, device));
        let moments = [codes(), scales(), codes(), scales()];
        for (step, grad) in (1..).zip(&grads) {
            let norm = adamw::grad_norm(&[grad], kernel).unwrap();
            let moments = Moments::EightBit(moments.each_ref());
            let item = AdamWItem { parameter: &parameter, grad, moments, low: Some(&low), weight_decay: 0.1 };
            let scalars = AdamWScalars { learning_rate: 0.03, beta1: 0.9, beta2: 0.95, eps: 1e-8, step, max_norm: 1.0 };
            adamw::adamw(&[item], Joint { norm: &norm, halted: &going() }, scalars, kernel).unwrap();
        }
        assert_eq!(low, parameter.to_kind(Kind::BFloat16));
        parameter
    });
    assert!(f64::try_from((&one - &start).abs().max()).unwrap() > 0.05);
    // Between two numbers the last bit decides, and then a value goes on from another moment.
    let apart = (&one - &other).abs();
    let others = apart.gt(1e-5).sum(Kind::Int64).int64_value(&[]);
    let most = f64::try_from(apart.max()).unwrap();
    assert!(others <= 4 && most < 5e-3, "{others} by up to {most}");
}

#[test]
fn schedules_are_those_of_transformers() {
    #[derive(serde::Deserialize)]
    struct Case {
        kind: LrSchedule,
        warmup_ratio: f64,
        total: u64,
        peak: f64,
        rates: Vec<f64>,
    }
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(golden_path("schedules.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let mut hyperparameters = hyperparameters();
        hyperparameters.optimizer.lr_schedule = case.kind;
        hyperparameters.optimizer.warmup_ratio = case.warmup_ratio;
        hyperparameters.optimizer.learning_rate = case.peak;
        let schedule = Schedule::new(&hyperparameters, case.total);
        for (step, expected) in case.rates.iter().enumerate() {
            let rate = schedule.learning_rate(step as u64);
            let what = format!("{:?}, warm-up {}, step {step}: {rate} for {expected}", case.kind, case.warmup_ratio);
            assert!((rate - expected).abs() <= 1e-12, "{what}");
        }
    }
}

fn hyperparameters() -> Hyperparameters {
    let spec: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/run_spec_v1.json")).unwrap();
    serde_json::from_value(spec["hyperparameters"].clone()).unwrap()
}

#[test]
fn weighted_and_smoothed_losses_are_those_of_pytorch() {
    let golden = golden("losses");
    let classes = golden["classes"].to_kind(Kind::Int64);
    let picked: Vec<f32> = values(&golden["weights"].index_select(0, &classes));
    let total_weight: f64 = picked.iter().map(|&weight| f64::from(weight)).sum();
    for (name, weights, smoothing, divisor) in [
        ("plain", None, 0.0, 9.0),
        ("weighted", Some(&golden["weights"]), 0.0, total_weight),
        ("smooth", None, 0.1, 9.0),
        ("both", Some(&golden["weights"]), 0.1, total_weight),
    ] {
        let logits = golden["logits"].copy().set_requires_grad(true);
        // As the training loop has it: a sum, divided by what the whole step weighs.
        let sum = logits.cross_entropy_loss(&classes, weights, Reduction::Sum, -100, smoothing);
        let mean = sum / divisor;
        mean.backward();
        assert_close(&mean.reshape([1]), &golden[&format!("{name}.loss")], 1e-5, name);
        assert_close(&logits.grad(), &golden[&format!("{name}.grad")], 1e-5, name);
    }
}

/// Twenty steps of model, gradient, clipping, schedule and update together; returns the table at the end.
fn twenty_steps(golden: &HashMap<String, Tensor>, tolerance: &Tolerance) -> ParamTable {
    let (model, mut table) = classifier(golden, &tiny_config("gelu"), tolerance.kind);
    let mut optimizer = AdamW::new(&table, AdamWConfig::new(0.01, 1.0)).unwrap();
    let schedule = Schedule { kind: LrSchedule::Linear, peak: 2e-3, warmup_steps: 3, total_steps: 20 };
    let (losses, norms) = (values(&golden["losses"]), values(&golden["norms"]));
    for step in 0..20 {
        let part = |name: &str| &golden[&format!("step{step}.{name}")];
        let logits = model.forward(&packed(part("input_ids"), part("lengths")), &Mode::train(step)).unwrap();
        let loss = loss(&logits, part("labels"));
        loss.backward();
        let norm = optimizer.grad_norm(&table).unwrap();
        optimizer.step(&mut table, schedule.learning_rate(step), &norm).unwrap();
        for (what, value, expected) in [("loss", &loss, &losses), ("norm", &norm, &norms)] {
            let expected = f64::from(expected[step as usize]);
            let difference = (value.double_value(&[]) - expected).abs() / expected;
            assert_within(difference, tolerance.losses, &format!("{what} at step {step}"));
        }
    }
    table
}

#[test]
fn a_loss_curve_of_twenty_steps_is_that_of_pytorch() {
    let golden = golden("curve");
    let table = twenty_steps(&golden, &FP32);
    for (name, value) in table.named().unwrap() {
        // See model.rs: the keys' bias has a gradient of rounding noise, which AdamW makes as large as any other.
        if !name.ends_with("key.bias") {
            assert_close(&value, &golden[&format!("final.{name}")], 1e-3, &name);
        }
    }
}

#[test]
fn a_loss_curve_in_bfloat16_stays_near_it() {
    let tolerance = Tolerance { losses: 0.1, ..BF16 };
    twenty_steps(&golden("curve"), &tolerance);
}

#[test]
fn bfloat16_computes_with_rounded_copies_of_float32_masters() {
    let golden = golden("curve");
    let table = twenty_steps(&golden, &Tolerance { losses: 0.1, ..BF16 });
    let mut copies = 0;
    for param in table.iter() {
        assert_eq!(param.master.kind(), Kind::Float);
        if let Some(low) = param.low() {
            assert_eq!(*low, param.master.to_kind(Kind::BFloat16));
            copies += 1;
        }
    }
    assert!(copies > 10, "{copies}");
}

#[test]
fn accumulated_gradients_equal_those_of_the_whole_batch() {
    let golden = golden("bert_gelu");
    let (model, mut table) = classifier(&golden, &tiny_config("gelu"), Kind::Float);
    let run = |rows: std::ops::Range<i64>| {
        let part = |name: &str| golden[name].narrow(0, rows.start, rows.end - rows.start);
        let logits = model.forward(&packed(&part("input_ids"), &part("lengths")), &Mode::eval()).unwrap();
        let classes = part("labels").to_kind(Kind::Int64).to_device(logits.device());
        (logits.cross_entropy_loss(&classes, None::<Tensor>, Reduction::Sum, -100, 0.0) / 6.0).backward();
    };
    for rows in [0..1, 1..4, 4..6] {
        run(rows);
        table.accumulate_grads().unwrap();
    }
    let pieces: Vec<Tensor> = table.iter().map(|param| param.grad().unwrap().copy()).collect();
    table.clear_grads().unwrap();
    run(0..6);
    for (param, pieces) in table.iter().zip(&pieces) {
        if !param.parts[0].0.ends_with("key.bias") {
            assert_close(pieces, &param.grad().unwrap(), 1e-5, &param.parts[0].0);
        }
    }
}

#[test]
fn the_optimizers_state_survives_a_save() {
    let tiny = tiny_config("gelu");
    for word in [OptimizerWord::Adamw, OptimizerWord::Adamw8bit] {
        let config = AdamWConfig { word, ..AdamWConfig::new(0.01, 1.0) };
        // With a matrix that is large enough for eight bits.
        let built = |weights: &Weights, large: Init| {
            let placement = params::Placement::new(test_device(), Kind::Float, 0);
            let model = |root: &Builder<'_, '_>| {
                TextClassifier::new(root, &tiny, super::support::CLASSES, Init::Normal(0.02))?;
                root.stacked(&[("large", 50), ("other", 40)], &[100], large)
            };
            params::build(weights, placement, model).unwrap().1
        };
        survives_a_save(config, built);
    }
}

fn survives_a_save(config: AdamWConfig, built: impl Fn(&Weights, Init) -> ParamTable) {
    let mut table = built(&Weights::open(&golden_path("tiny-bert"), "bert").unwrap(), Init::Normal(0.02));
    let mut optimizer = AdamW::new(&table, config).unwrap();
    let update = |table: &mut ParamTable, optimizer: &mut AdamW, step: f64| {
        for param in table.iter() {
            (&param.compute * &param.compute * step).sum(Kind::Float).backward();
        }
        let norm = optimizer.grad_norm(table).unwrap();
        optimizer.step(table, 1e-2, &norm).unwrap();
    };
    update(&mut table, &mut optimizer, 1.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    let state = optimizer.named_state(&table).unwrap();
    let is_eight_bit = state.values().any(|moment| moment.kind() == Kind::Uint8);
    assert_eq!(is_eight_bit, config.word == OptimizerWord::Adamw8bit);
    weights::write(&path, &state).unwrap();
    let saved: BTreeMap<String, Tensor> = table.named().unwrap().into_iter().map(|(n, t)| (n, t.copy())).collect();
    update(&mut table, &mut optimizer, -3.0);
    let expected: Vec<Tensor> = table.iter().map(|param| param.master.copy()).collect();

    let model_path = folder.path().join("model.safetensors");
    weights::write(&model_path, &saved).unwrap();
    let mut fresh = built(&Weights::open_file(&model_path).unwrap(), Init::Required);
    let mut resumed = AdamW::new(&fresh, config).unwrap();
    resumed.restore(&fresh, &Weights::open_file(&path).unwrap(), 1).unwrap();
    update(&mut fresh, &mut resumed, -3.0);
    for (param, expected) in fresh.iter().zip(&expected) {
        assert_eq!(param.master, *expected, "{}", param.parts[0].0);
    }
}
