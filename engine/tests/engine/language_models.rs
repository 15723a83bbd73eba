//! The language model families against Transformers and PEFT: logits, losses, gradients, curves, greedy generation.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use finetuned::domain::hyperparameters::LrSchedule;
use finetuned_engine::models::text::{CausalLm, TextConfig, Tokens};
use finetuned_engine::nn::{KvCache, Mode, Sequences};
use finetuned_engine::optim::{AdamW, AdamWConfig, Schedule};
use finetuned_engine::params::{self, ParamTable, Placement};
use finetuned_engine::policy::{EVERYTHING, Policy};
use finetuned_engine::weights::{self, Weights};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::support::{
    BF16, FP32, assert_close, assert_within, difference, golden, golden_path, hyperparameters, test_device,
};

pub(super) const FAMILIES: [&str; 9] =
    ["gpt2", "llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text"];

pub(super) type Golden = HashMap<String, Tensor>;

/// PEFT's name for what it wraps.
pub(super) const WRAPPED: &str = "base_model.model.";

pub(super) fn configs() -> Value {
    serde_json::from_slice(&std::fs::read(golden_path("lm_configs.json")).unwrap()).unwrap()
}

pub(super) fn config(family: &str) -> TextConfig {
    TextConfig::parse(&configs()["families"][family].to_string()).unwrap()
}

/// The tensors whose names start with `prefix`, as a file.
pub(super) fn weights_of(golden: &Golden, prefix: &str, backbone: &str) -> Weights {
    let named = golden.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    let named: BTreeMap<String, Tensor> =
        named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect();
    let folder = tempfile::tempdir().unwrap();
    weights::write(&folder.path().join("model.safetensors"), &named).unwrap();
    Weights::open(folder.path(), backbone).unwrap()
}

pub(super) fn build(golden: &Golden, config: &TextConfig, compute: Kind, policy: &Policy) -> (CausalLm, ParamTable) {
    let weights = weights_of(golden, "weight.", config.base_prefix());
    let placement = Placement { device: test_device(), compute, seed: 0, policy };
    let (model, table, report) = params::build(&weights, placement, |root| CausalLm::new(root, config)).unwrap();
    assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
    (model, table)
}

/// A packed batch, the places that guess, and what they guess.
pub(super) struct Batch {
    tokens: Tokens,
    rows: Tensor,
    targets: Tensor,
}

/// Sequences with flags of which tokens are to be guessed.
fn packed(sequences: &[Vec<(i64, bool)>]) -> Batch {
    let device = test_device();
    let (mut ids, mut positions, mut rows, mut targets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for sequence in sequences {
        for (place, &(id, is_target)) in sequence.iter().enumerate() {
            if is_target {
                rows.push(ids.len() as i64 - 1);
                targets.push(id);
            }
            ids.push(id);
            positions.push(place as i64);
        }
    }
    let on = |values: &[i64]| Tensor::from_slice(values).to_device(device);
    let lengths = sequences.iter().map(|sequence| sequence.len() as i64).collect();
    let tokens = Tokens {
        types: on(&vec![0; ids.len()]),
        ids: on(&ids),
        positions: on(&positions),
        sequences: Rc::new(Sequences::from_lengths(lengths, device).unwrap()),
        past: None,
    };
    Batch { tokens, rows: on(&rows), targets: on(&targets) }
}

/// The padded rows whose tensors have `prefix`, as sequences.
fn sequences(golden: &Golden, prefix: &str) -> Vec<Vec<(i64, bool)>> {
    let rows = |name: &str| Vec::<Vec<f32>>::try_from(&golden[&format!("{prefix}{name}")]).unwrap();
    let lengths = Vec::<f32>::try_from(&golden[&format!("{prefix}lengths")]).unwrap();
    let pairs = rows("input_ids").into_iter().zip(rows("labels"));
    let row = |((ids, labels), length): ((Vec<f32>, Vec<f32>), f32)| {
        let tokens = ids.into_iter().zip(labels).take(length as usize);
        tokens.map(|(id, label)| (id as i64, label >= 0.0)).collect()
    };
    pairs.zip(lengths).map(row).collect()
}

pub(super) fn batch(golden: &Golden, prefix: &str) -> Batch {
    packed(&sequences(golden, prefix))
}

/// The mean loss over what is to be guessed.
pub(super) fn loss(model: &CausalLm, batch: &Batch, mode: &Mode) -> Tensor {
    model.losses(&batch.tokens, &batch.rows, &batch.targets, mode).unwrap().0.mean(Kind::Float)
}

pub(super) fn gradients(table: &ParamTable) -> BTreeMap<String, Tensor> {
    let mut gradients = BTreeMap::new();
    for param in table.iter() {
        let grad = param.grad().unwrap();
        gradients.extend(param.split(&grad).unwrap().into_iter().map(|(name, grad)| (name.to_owned(), grad.copy())));
    }
    gradients
}

/// That there are exactly the golden gradients under `prefix`, and how far they are away at most.
fn worst_gradient(found: &BTreeMap<String, Tensor>, golden: &Golden, prefix: &str) -> (f64, String) {
    let mut expected: Vec<&str> = golden.keys().filter_map(|name| name.strip_prefix(prefix)).collect();
    expected.sort_unstable();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    let mut worst = (0.0, String::new());
    for (name, grad) in found {
        let expected = &golden[&format!("{prefix}{name}")];
        // Where positions turn nothing the keys' bias cannot change a softmax: its gradient is rounding noise around 0.
        let distance = if name.ends_with("c_attn.bias") {
            let but_keys = |bias: &Tensor| Tensor::cat(&[bias.narrow(0, 0, 16), bias.narrow(0, 32, 16)], 0);
            difference(&but_keys(grad), &but_keys(expected))
        } else {
            difference(grad, expected)
        };
        if distance > worst.0 {
            worst = (distance, name.clone());
        }
    }
    worst
}

/// Twenty steps as Transformers' Trainer takes them; how far losses and norms are from the golden ones under `prefix`.
fn curve(model: &CausalLm, table: &mut ParamTable, golden: &Golden, prefix: &str) -> f64 {
    let shared = super::support::golden("lm_shared");
    let mut optimizer = AdamW::new(table, AdamWConfig::new(0.01, 1.0)).unwrap();
    let schedule = Schedule { kind: LrSchedule::Linear, peak: 2e-3, warmup_steps: 3, total_steps: 20 };
    let mut worst = 0.0_f64;
    for step in 0..20 {
        let loss = loss(model, &batch(&shared, &format!("step{step}.")), &Mode::train(step));
        loss.backward();
        let norm = optimizer.grad_norm(table).unwrap();
        optimizer.step(table, schedule.learning_rate(step), &norm).unwrap();
        for (what, value) in [("losses", &loss), ("norms", &norm)] {
            let expected = golden[&format!("{prefix}{what}")].double_value(&[step as i64]);
            worst = worst.max((value.double_value(&[]) - expected).abs() / expected);
        }
    }
    worst
}

pub(super) fn of(family: &str) -> Golden {
    golden(&format!("lm_{family}"))
}

#[test]
fn logits_losses_and_gradients_are_those_of_transformers() {
    for family in FAMILIES {
        let golden = of(family);
        let (model, table) = build(&golden, &config(family), Kind::Float, &EVERYTHING);
        let batch = batch(&golden, "");
        let logits = model.logits(&batch.tokens, Some(&batch.rows), &Mode::eval()).unwrap();
        assert_close(&logits, &golden["logits"], FP32.logits, &format!("logits of {family}"));
        let all = model.logits(&batch.tokens, None, &Mode::eval()).unwrap().index_select(0, &batch.rows);
        assert_close(&all, &logits, 1e-5, &format!("logits of all tokens of {family}"));
        let loss = loss(&model, &batch, &Mode::eval());
        assert_close(&loss.reshape([1]), &golden["loss"], FP32.losses, &format!("loss of {family}"));
        loss.backward();
        let (worst, name) = worst_gradient(&gradients(&table), &golden, "grad.");
        assert_within(worst, FP32.gradients, &format!("gradient of {name} of {family}"));
    }
}

#[test]
fn loss_curves_of_twenty_steps_are_those_of_pytorch() {
    for family in FAMILIES {
        let golden = of(family);
        let (model, mut table) = build(&golden, &config(family), Kind::Float, &EVERYTHING);
        assert_within(curve(&model, &mut table, &golden, ""), FP32.losses, &format!("losses and norms of {family}"));
    }
}

#[test]
fn bfloat16_stays_near_float32() {
    for family in FAMILIES {
        let golden = of(family);
        let (model, table) = build(&golden, &config(family), Kind::BFloat16, &EVERYTHING);
        let batch = batch(&golden, "");
        let loss = loss(&model, &batch, &Mode::eval());
        assert_close(&loss.reshape([1]), &golden["loss"], BF16.losses, &format!("loss of {family}"));
        loss.backward();
        for (name, grad) in gradients(&table) {
            let expected = golden[&format!("grad.{name}")].to_device(grad.device());
            let cosine = grad.to_kind(Kind::Float).flatten(0, -1).dot(&expected.flatten(0, -1))
                / (grad.to_kind(Kind::Float).norm() * expected.norm());
            assert_within(1.0 - cosine.double_value(&[]), 1e-2, &format!("angle of {name} of {family}"));
        }
    }
}

#[test]
fn adapters_learn_as_those_of_peft_and_merge_as_they_do() {
    for (family, adapted) in [("gpt2", None), ("llama", None), ("phi3", None), ("llama", Some("all-linear"))] {
        let golden = of(family);
        let config = config(family);
        let mut lora = json!({"type": "lora", "r": 4, "alpha": 8});
        if let Some(adapted) = adapted {
            lora["target_modules"] = adapted.into();
        }
        let policy = Policy::new(&hyperparameters(json!({"adapter": lora})), config.anatomy());
        let (model, mut table) = build(&golden, &config, Kind::Float, &policy);
        table.restore(&weights_of(&golden, &format!("lora.start.{WRAPPED}"), config.base_prefix())).unwrap();
        let batch = batch(&golden, "");
        let logits = model.logits(&batch.tokens, Some(&batch.rows), &Mode::eval()).unwrap();
        assert_close(&logits, &golden["lora.logits"], FP32.logits, &format!("logits of {family}"));
        let base = model.logits(&batch.tokens, Some(&batch.rows), &Mode::eval().without_adapters()).unwrap();
        assert_close(&base, &golden["logits"], FP32.logits, &format!("logits of {family} without adapters"));
        let loss = loss(&model, &batch, &Mode::eval());
        assert_close(&loss.reshape([1]), &golden["lora.loss"], FP32.losses, &format!("loss of {family}"));
        loss.backward();
        let (worst, name) = worst_gradient(&gradients(&table), &golden, &format!("lora.grad.{WRAPPED}"));
        assert_within(worst, FP32.gradients, &format!("gradient of {name} of {family}"));
        table.clear_grads().unwrap();
        assert_within(
            curve(&model, &mut table, &golden, "lora."),
            FP32.losses,
            &format!("losses and norms of {family}"),
        );
        for (name, value) in table.named().unwrap() {
            assert_close(&value, &golden[&format!("lora.merged.{name}")], 1e-4, &format!("merged {name} of {family}"));
        }
    }
}

#[test]
fn every_scaling_of_rotary_positions_is_that_of_transformers() {
    let shared = golden("lm_shared");
    for (name, case) in configs()["ropes"].as_object().unwrap() {
        let golden = of(case[0].as_str().unwrap());
        let config = TextConfig::parse(&case[1].to_string()).unwrap();
        let (model, _) = build(&golden, &config, Kind::Float, &EVERYTHING);
        let batch = batch(&golden, "");
        let logits = model.logits(&batch.tokens, Some(&batch.rows), &Mode::eval()).unwrap();
        assert_close(&logits, &shared[&format!("rope.{name}")], FP32.logits, &format!("logits with {name}"));
        assert!(name == "dynamic" || difference(&logits, &golden["logits"]) > 1e-3, "{name} changes something");
    }
}

#[test]
fn greedy_generation_is_that_of_transformers() {
    for family in FAMILIES {
        let golden = of(family);
        let (model, _) = build(&golden, &config(family), Kind::Float, &EVERYTHING);
        let expected = Vec::<f32>::try_from(&golden["generated"]).unwrap();
        let expected: Vec<i64> = expected.into_iter().map(|id| id as i64).collect();
        let past = Rc::new(RefCell::new(KvCache::default()));
        let mut ids = expected[..5].to_vec();
        let mut unread = 0;
        while ids.len() < expected.len() {
            // The prompt in two parts, and then token by token.
            let end = if unread == 0 { 3 } else { ids.len() };
            let new: Vec<u32> = ids[unread..end].iter().map(|&id| id as u32).collect();
            let logits = tch::no_grad(|| model.read(&new, &past).unwrap());
            unread = end;
            if unread == ids.len() {
                ids.push(logits.argmax(0, false).int64_value(&[]));
            }
        }
        assert_eq!(ids, expected, "{family}");
    }
}

#[test]
fn a_packed_batch_is_its_sequences_one_by_one() {
    for family in FAMILIES {
        let golden = of(family);
        let sequences = sequences(&golden, "");
        let (model, mut table) = build(&golden, &config(family), Kind::Float, &EVERYTHING);
        let whole = packed(&sequences);
        let count = whole.rows.size()[0] as f64;
        let (losses, _) = model.losses(&whole.tokens, &whole.rows, &whole.targets, &Mode::eval()).unwrap();
        (losses.sum(Kind::Float) / count).backward();
        let together = gradients(&table);
        table.clear_grads().unwrap();
        let mut alone = Vec::new();
        for sequence in &sequences {
            let one = packed(std::slice::from_ref(sequence));
            let (losses, _) = model.losses(&one.tokens, &one.rows, &one.targets, &Mode::eval()).unwrap();
            (losses.sum(Kind::Float) / count).backward();
            table.accumulate_grads().unwrap();
            alone.push(losses.detach());
        }
        assert_close(&Tensor::cat(&alone, 0), &losses.detach(), 1e-5, &format!("losses of {family}"));
        for (name, grad) in gradients(&table) {
            assert!(difference(&grad, &together[&name]) < 1e-5, "{name} of {family}");
        }
        // What a leak would look like: all in one sequence.
        let leak = packed(&[sequences.concat()]);
        let (leaked, _) = model.losses(&leak.tokens, &leak.rows, &leak.targets, &Mode::eval()).unwrap();
        assert!(difference(&leaked.detach(), &losses.detach()) > 1e-3, "{family}");
    }
}

#[test]
fn a_saved_model_is_read_again_with_its_tied_table_once() {
    for family in ["gpt2", "llama", "qwen3"] {
        let golden = of(family);
        let config = config(family);
        let (_, table) = build(&golden, &config, Kind::Float, &EVERYTHING);
        let folder = tempfile::tempdir().unwrap();
        weights::write(&folder.path().join("model.safetensors"), &table.named().unwrap()).unwrap();
        let weights = Weights::open(folder.path(), config.base_prefix()).unwrap();
        let placement = Placement::new(Device::Cpu, Kind::Float, 1);
        let (_, again, report) = params::build(&weights, placement, |root| CausalLm::new(root, &config)).unwrap();
        assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
        for (name, value) in again.named().unwrap() {
            assert_eq!(value, golden[&format!("weight.{name}")], "{name}");
        }
    }
}

#[test]
fn a_config_that_asks_for_what_is_not_built_is_refused_by_name() {
    for (family, field, value, why) in [
        ("llama", "hidden_act", json!("mish"), "hidden_act is mish"),
        ("llama", "num_key_value_heads", json!(3), "num_key_value_heads is 3"),
        ("llama", "rope_parameters", json!({"rope_type": "ntk", "rope_theta": 10.0}), "rope_type is ntk"),
        ("llama", "rope_parameters", json!({"rope_type": "linear", "rope_theta": 10.0}), "factor is missing"),
        ("llama", "rope_parameters", json!({"rope_theta": 0.0}), "rope_theta is 0"),
        ("llama", "rope_parameters", json!({"rope_theta": 9.0, "partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        ("llama", "head_dim", json!(5), "head_dim is 5"),
        ("mistral", "sliding_window", json!(0), "sliding_window is 0"),
        ("phi3", "resid_pdrop", json!(0.1), "resid_pdrop is 0.1"),
        ("gemma2", "attn_logit_softcapping", json!(0.0), "attn_logit_softcapping is 0"),
        ("gemma3_text", "use_bidirectional_attention", json!(true), "use_bidirectional_attention is true"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true), "scale_attn_by_inverse_layer_idx is true"),
        ("gpt2", "n_head", json!(3), "n_head is 3"),
    ] {
        let mut json = configs()["families"][family].clone();
        json[field] = value;
        let error = TextConfig::parse(&json.to_string()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
