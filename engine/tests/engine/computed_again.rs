//! Layers that backward computes again: nothing changes but what is kept.

use finetuned_engine::native::checkpoint::checkpoint;
use finetuned_engine::nn::Mode;
use finetuned_engine::policy::{EVERYTHING, Policy};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::language_models::{FAMILIES, batch, build, config, gradients, loss, of};
use super::support::hyperparameters;

#[test]
fn gradients_are_the_same_to_the_bit_however_many_layers_are_computed_again() {
    let lora = json!({"type": "lora", "r": 4, "alpha": 8, "dropout": 0.2, "target_modules": "all-linear"});
    for family in FAMILIES {
        let (golden, config) = (of(family), config(family));
        let adapted = Policy::new(&hyperparameters(json!({"adapter": lora})), config.anatomy());
        for (policy, kind) in [
            (&EVERYTHING, Kind::Float),
            (&EVERYTHING, Kind::BFloat16),
            (&adapted, Kind::Float),
            (&adapted, Kind::BFloat16),
        ] {
            let (model, mut table) = build(&golden, &config, kind, policy);
            let batch = batch(&golden, "");
            let mut run = |layers: usize| {
                table.clear_grads().unwrap();
                let mode = Mode::train(3).computing_again(layers);
                let loss = loss(&model, &batch, &mode);
                loss.backward();
                (loss.double_value(&[]), gradients(&table))
            };
            let (expected, gradients) = run(0);
            for layers in [1, 2, 99] {
                let (loss, found) = run(layers);
                assert_eq!(loss, expected, "{family} in {kind:?}");
                for (name, gradient) in &gradients {
                    assert!(gradient.equal(&found[name]), "{name} of {family} in {kind:?}, {layers} layers");
                }
            }
        }
    }
}

#[test]
fn a_layer_that_fails_when_it_is_computed_again_says_why() {
    let x = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let runs = std::cell::Cell::new(0);
    let layer = move |x: Tensor, _| {
        runs.set(runs.get() + 1);
        match runs.get() {
            1 => Ok((&x * 2.0, None)),
            2 => Ok((x.f_matmul(&x)?, None)),
            _ => panic!("a third time"),
        }
    };
    let (y, pending) = checkpoint(Box::new(layer), &x, None).unwrap();
    assert!(pending.is_none() && y.double_value(&[0, 0]) == 2.0);
    let error = y.sum(Kind::Float).f_backward().unwrap_err().to_string();
    assert!(error.contains("shapes cannot be multiplied"), "{error}");
}

#[test]
fn nothing_is_computed_where_nothing_learns() {
    let x = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
    let weight = Tensor::ones([3, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let own = weight.shallow_clone();
    let layer = move |x: Tensor, pending: Option<Tensor>| Ok((x.f_matmul(&own)?, pending));
    let (y, _) = checkpoint(Box::new(layer), &x, Some(&x)).unwrap();
    y.sum(Kind::Float).backward();
    assert_eq!(
        weight.grad().double_value(&[0, 0]),
        2.0,
        "what a layer learns has a gradient, whether its input has one or not"
    );
    assert!(!x.grad().defined());
}
