//! Quantised weights against bitsandbytes: what is stored, what is read again, and layers upon it.

use finetuned_engine::native::lora::{FrozenLinear, FrozenWeight, LowRank, lora_linear};
use finetuned_engine::native::nf4::Nf4;
use finetuned_engine::nn::Mode;
use finetuned_engine::policy::Policy;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::language_models::{batch, build, config, gradients, loss, of};
use super::support::{assert_close, assert_within, difference, golden, hyperparameters, test_device};

const SHAPES: [(&str, [i64; 2]); 4] =
    [("small", [8, 24]), ("even", [48, 64]), ("wide", [130, 161]), ("tall", [700, 64])];

#[test]
fn what_bitsandbytes_stores_is_read_as_it_reads_it() {
    let golden = golden("nf4");
    for (name, shape) in SHAPES {
        let of = |what: &str| golden[&format!("{name}.{what}")].to_device(test_device());
        let bytes = |what: &str| of(what).to_kind(Kind::Uint8);
        let pieces = [bytes("packed"), bytes("codes"), of("scales").to_kind(Kind::Float)];
        let stored = Nf4::from_pieces(pieces, of("offset").double_value(&[0]), shape);
        let read = stored.dense(Kind::Float).unwrap();
        assert_eq!(read.size(), shape);
        assert!((read - of("read")).abs().max().double_value(&[]) < 1e-7, "{name}");
    }
}

#[test]
fn what_is_quantised_is_what_bitsandbytes_makes_of_it() {
    let golden = golden("nf4");
    for (name, _) in SHAPES {
        let of = |what: &str| golden[&format!("{name}.{what}")].to_kind(Kind::Float);
        let quantized = Nf4::quantize(&[of("values")], Device::Cpu).unwrap();
        let [packed, codes, scales] = quantized.pieces() else { panic!("one part") };
        assert!(packed.equal(&golden[&format!("{name}.packed")]), "values of {name}");
        assert!(scales.allclose(&of("scales"), 1e-6, 0.0, false), "scales of {name}");
        // Of two numbers of the map that are about as near its search may take the other one, or the next.
        let apart = (codes.to_kind(Kind::Float) - of("codes")).abs();
        let share = apart.gt(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!(share < 0.025 && apart.max().double_value(&[]) <= 2.0, "{share} of the scales of {name}");
        // What is read is as far from what there was as bitsandbytes' is.
        let error =
            |read: &Tensor| (read.to_device(Device::Cpu) - of("values")).square().mean(Kind::Float).double_value(&[]);
        let (own, theirs) = (error(&quantized.dense(Kind::Float).unwrap()), error(&of("read")));
        assert!((own / theirs - 1.0).abs() < 1e-3, "{own} and {theirs} of {name}");
    }
}

#[test]
fn parts_are_quantised_each_by_itself() {
    let golden = golden("nf4");
    let parts = ["wide", "wide"].map(|name| golden[&format!("{name}.values")].to_kind(Kind::Float));
    let doubled = Nf4::quantize(&[parts[0].shallow_clone(), &parts[1] * 2.0], Device::Cpu).unwrap();
    let read = doubled.dense(Kind::Float).unwrap();
    let alone = Nf4::quantize(&[&parts[1] * 2.0], Device::Cpu).unwrap().dense(Kind::Float).unwrap();
    assert!(read.narrow(0, 130, 130).equal(&alone));
    assert!(read.narrow(0, 0, 130).allclose(&(alone / 2.0), 1e-5, 1e-7, false));
}

#[test]
fn layers_upon_quantised_weights_are_those_upon_what_is_read() {
    let golden = golden("nf4");
    let quantized = Nf4::quantize(&[golden["even.values"].to_kind(Kind::Float)], test_device()).unwrap();
    for (kind, is_transposed) in [(Kind::Float, false), (Kind::Float, true), (Kind::BFloat16, false)] {
        let read = quantized.dense(kind).unwrap();
        let dense = if is_transposed { read.transpose(0, 1) } else { read };
        let (output, input) = dense.size2().unwrap();
        let random = |shape: [i64; 2], seed| {
            tch::manual_seed(seed);
            Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_device(test_device()).to_kind(kind)
        };
        let run = |weight: FrozenWeight<'_>| {
            let [x, a, b] = [random([9, input], 1), random([4, input], 2), random([output, 4], 3)]
                .map(|tensor| tensor.set_requires_grad(true));
            let adapters = LowRank { a: &a, b: &b, starts: &[0], widths: &[output], scaling: 2.0 };
            let y = lora_linear(&x, None, None, &FrozenLinear { weight, bias: None }, &adapters).unwrap();
            y.square().sum(Kind::Float).backward();
            [y, x.grad(), a.grad(), b.grad()]
        };
        let found = run(FrozenWeight::Quantized { weight: &quantized, is_transposed });
        for (found, expected) in found.iter().zip(run(FrozenWeight::Dense(&dense))) {
            assert_within(difference(found, &expected), 1e-6, &format!("{kind:?}, transposed: {is_transposed}"));
        }
    }
}

#[test]
fn a_model_with_quantised_weights_learns_near_the_one_without() {
    for family in ["llama", "gpt2", "phi3"] {
        let (golden, config) = (of(family), config(family));
        let run = |quantization: &str| {
            let lora = json!({"type": "lora", "r": 4, "target_modules": "all-linear", "quantization": quantization});
            let policy = Policy::new(&hyperparameters(json!({"adapter": lora})), config.anatomy());
            let (model, table) = build(&golden, &config, Kind::Float, &policy);
            let loss = loss(&model, &batch(&golden, ""), &Mode::train(1));
            loss.backward();
            (loss, gradients(&table), table)
        };
        let ((plain, expected, _), (loss, found, table)) = (run("none"), run("nf4"));
        assert!((loss.double_value(&[]) - plain.double_value(&[])).abs() > 1e-6, "{family} is quantised");
        assert_close(&loss.reshape([1]), &plain.reshape([1]), 2e-2, &format!("loss of {family}"));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        // What is saved is the base model's own, and what the adapters add.
        for (name, value) in
            table.named().unwrap().iter().filter(|(name, _)| golden.contains_key(&format!("weight.{name}")))
        {
            assert_close(value, &golden[&format!("weight.{name}")], 1e-6, &format!("{name} of {family}"));
        }
    }
}
