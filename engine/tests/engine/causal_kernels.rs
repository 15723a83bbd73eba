//! The fused operators of decoders against plain libtorch: values and gradients.

use finetuned_engine::native::lora::{FrozenLinear, FrozenWeight, LowRank, lora_linear};
use finetuned_engine::nn::causal::{self, Causal, Sight, reference};
use finetuned_engine::nn::{Heads, Mode, RmsNorm, Rotary, Sequences};
use tch::{Device, Kind, Tensor};

use super::support::{assert_close, assert_within, difference, test_device};

/// Lengths on both sides of the blocks that queries are handled in.
const LENGTHS: [i64; 5] = [1, 64, 150, 2, 65];
const TOKENS: i64 = 282;

fn random(shape: &[i64], seed: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_device(test_device())
}

fn leaf(tensor: &Tensor, kind: Kind) -> Tensor {
    tensor.to_kind(kind).detach().copy().set_requires_grad(true)
}

/// Values and gradients of inputs, whose outputs count by fixed random weights.
fn outcome(inputs: &[&Tensor], outputs: Vec<Tensor>) -> Vec<Tensor> {
    let mut total = Tensor::zeros([], (Kind::Double, test_device()));
    for (seed, output) in outputs.iter().enumerate() {
        let weights = random(&output.size(), 90 + seed as i64).to_kind(Kind::Double);
        total += (output.to_kind(Kind::Double) * weights).sum(Kind::Double);
    }
    total.backward();
    outputs.into_iter().chain(inputs.iter().map(|input| input.grad())).collect()
}

/// How far in each precision results may be from plain float32.
const PRECISIONS: [(Kind, f64); 2] = [(Kind::Float, 2e-5), (Kind::BFloat16, 2e-2)];

fn compare(found: &[Tensor], expected: &[Tensor], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_within(difference(found, expected), tolerance, &format!("{what}, number {place}"));
    }
}

#[test]
fn norms_are_those_of_plain_operators() {
    for (kind, tolerance) in PRECISIONS {
        for offset in [0.0, 1.0] {
            let norm = |weight| RmsNorm { weight, offset, eps: 1e-5 };
            let (x, residual, weight) = (random(&[40, 48], 1), random(&[40, 48], 2), random(&[48], 3));
            let run = |plain: bool, kind: Kind| {
                let (x, residual, weight) = (leaf(&x, kind), leaf(&residual, Kind::Float), leaf(&weight, Kind::Float));
                let norm = norm(weight.shallow_clone());
                let (sum, low) = if plain {
                    reference::add_rms_norm(&x, &residual, &norm)
                } else {
                    causal::add_rms_norm(&x, &residual, &norm)
                }
                .unwrap();
                outcome(&[&x, &residual, &weight], vec![sum, low])
            };
            compare(&run(false, kind), &run(true, Kind::Float), tolerance, &format!("sum and norm in {kind:?}"));
            let first = |plain: bool, kind: Kind| {
                let (residual, weight) = (leaf(&residual, Kind::Float), leaf(&weight, Kind::Float));
                let norm = norm(weight.shallow_clone());
                let low = if plain { reference::rms_norm } else { causal::rms_norm };
                let low = low(&residual, &norm, kind).unwrap();
                outcome(&[&residual, &weight], vec![low])
            };
            compare(&first(false, kind), &first(true, Kind::Float), tolerance, &format!("norm in {kind:?}"));
        }
    }
}

#[test]
fn one_of_a_norms_outputs_may_be_of_no_use() {
    let weight = random(&[8], 1);
    let norm = RmsNorm { weight, offset: 0.0, eps: 1e-5 };
    for (which, kind) in [(0, Kind::Float), (1, Kind::Float), (0, Kind::BFloat16), (1, Kind::BFloat16)] {
        let run = |plain: bool| {
            let (x, residual) = (leaf(&random(&[5, 8], 2), kind), leaf(&random(&[5, 8], 3), Kind::Float));
            let add = if plain { reference::add_rms_norm } else { causal::add_rms_norm };
            let (sum, low) = add(&x, &residual, &norm).unwrap();
            outcome(&[&x, &residual], vec![if which == 0 { sum } else { low }])
        };
        compare(&run(false), &run(true), 2e-2, &format!("output {which} in {kind:?}"));
    }
}

#[test]
fn gated_networks_are_those_of_plain_operators() {
    for (kind, tolerance) in PRECISIONS {
        let x = random(&[33, 2 * 40], 1) * 4.0;
        let run = |plain: bool, kind: Kind| {
            let x = leaf(&x, kind);
            let out = if plain { reference::swiglu(&x) } else { causal::swiglu(&x) }.unwrap();
            outcome(&[&x], vec![out])
        };
        compare(&run(false, kind), &run(true, Kind::Float), tolerance, &format!("{kind:?}"));
    }
}

#[test]
fn attention_is_that_of_plain_operators() {
    attention_of(&LENGTHS);
}

/// What plain operators do without padding or mask.
#[test]
fn so_it_is_where_all_sequences_are_equally_long() {
    attention_of(&[94; 3]);
}

fn attention_of(lengths: &[i64]) {
    let device = test_device();
    let positions: Vec<i64> = lengths.iter().flat_map(|&length| 0..length).collect();
    let positions = Tensor::from_slice(&positions).to_device(device);
    for (query, key_value, size, reach, turns) in [
        (4, 2, 16, None, true),
        (3, 3, 20, None, false),
        (6, 1, 8, Some(10), true),
        (2, 1, 16, Some(100), true),
        (2, 2, 6, Some(0), true),
    ] {
        let heads = Heads { query, key_value, size };
        let causal = Causal { heads, reach, scale: 0.3, softcap: None };
        let frequencies: Vec<f32> = (0..size / 2).map(|pair| 1.0 / (1.0 + pair as f32)).collect();
        let rotary = Rotary::of(&frequencies, 1.1, device).unwrap();
        let rotation = turns.then(|| rotary.at(&positions).unwrap());
        let qkv = random(&[TOKENS, (query + 2 * key_value) * size], 5);
        for (kind, tolerance) in PRECISIONS {
            let run = |plain: bool, kind: Kind| {
                let qkv = leaf(&qkv, kind);
                let sequences = Sequences::from_lengths(lengths.to_vec(), device).unwrap();
                let out = if plain {
                    reference::attention(&qkv, &sequences, &causal, rotation.as_ref(), 0.0)
                } else {
                    causal::attention(
                        &qkv,
                        Sight { sequences: &sequences, past: None },
                        &causal,
                        rotation.as_ref(),
                        0.0,
                        &Mode::eval(),
                    )
                };
                outcome(&[&qkv], vec![out.unwrap()])
            };
            let what = format!("{query} heads of {size} over {key_value}, reach {reach:?}, in {kind:?}");
            compare(&run(false, kind), &run(true, Kind::Float), tolerance, &what);
        }
    }
}

#[test]
fn adapted_layers_are_those_of_plain_operators() {
    let (rows, input, widths, rank, scaling) = (19, 24, [12_i64, 8, 20], 4_i64, 1.7);
    let output: i64 = widths.iter().sum();
    let (x, weight, bias) = (random(&[rows, input], 1), random(&[output, input], 2), random(&[output], 3));
    for (kind, tolerance) in PRECISIONS {
        for (adapted, has_bias, drops) in
            [(&[0_usize, 1, 2][..], true, false), (&[0, 2], false, true), (&[1], true, true)]
        {
            let starts: Vec<i64> = adapted.iter().map(|&i| widths[..i].iter().sum()).collect();
            let wide: Vec<i64> = adapted.iter().map(|&i| widths[i]).collect();
            let parts = adapted.len() as i64;
            let (a, b) = (random(&[parts * rank, input], 4), random(&[wide.iter().sum(), rank], 5));
            let mask = random(&[rows, input], 6).gt(0.0);
            let run = |plain: bool, kind: Kind| {
                let (x, a, b) = (leaf(&x, kind), leaf(&a, kind), leaf(&b, kind));
                let (weight, bias) = (weight.to_kind(kind), has_bias.then(|| bias.to_kind(kind)));
                let dropped = drops.then(|| &x * mask.to_kind(kind));
                let y = if plain {
                    let narrow = |i: usize, row: i64| {
                        let middle =
                            dropped.as_ref().unwrap_or(&x).linear(&a.narrow(0, i as i64 * rank, rank), None::<&Tensor>);
                        middle.linear(&b.narrow(0, row, wide[i]), None::<&Tensor>) * scaling
                    };
                    let whole = x.linear(&weight, bias.as_ref());
                    let mut row = 0;
                    let mut sum = whole;
                    for (i, (&start, &width)) in starts.iter().zip(&wide).enumerate() {
                        sum = &sum + narrow(i, row).constant_pad_nd([start, output - start - width]);
                        row += width;
                    }
                    sum
                } else {
                    let layer = FrozenLinear { weight: FrozenWeight::Dense(&weight), bias: bias.as_ref() };
                    let low_rank = LowRank { a: &a, b: &b, starts: &starts, widths: &wide, scaling };
                    lora_linear(&x, dropped.as_ref(), None, &layer, &low_rank).unwrap()
                };
                outcome(&[&x, &a, &b], vec![y])
            };
            compare(&run(false, kind), &run(true, Kind::Float), tolerance, &format!("parts {adapted:?} in {kind:?}"));
        }
    }
    let layer = FrozenLinear { weight: FrozenWeight::Dense(&leaf(&weight, Kind::Float)), bias: None };
    let (a, b) = (random(&[rank, input], 4), random(&[12, rank], 5));
    let low_rank = LowRank { a: &a, b: &b, starts: &[0], widths: &[12], scaling };
    let error = lora_linear(&x, None, None, &layer, &low_rank).unwrap_err().to_string();
    assert!(error.contains("must be frozen"), "{error}");
}

#[test]
fn inputs_that_are_made_again_are_the_same() {
    let (rows, input, output, rank) = (19, 24, 12, 4);
    let (weight, a, b) = (random(&[output, input], 2), random(&[rank, input], 4), random(&[output, rank], 5));
    let scale = random(&[input], 6);
    for (kind, tolerance) in PRECISIONS {
        for is_norm in [false, true] {
            let source = random(&[rows, if is_norm { input } else { 2 * input }], 1);
            let run = |keeps: bool| {
                let source = leaf(&source, if is_norm { Kind::Float } else { kind });
                let (a, b, weight) = (leaf(&a, kind), leaf(&b, kind), weight.to_kind(kind));
                let norm = RmsNorm { weight: scale.shallow_clone(), offset: 1.0, eps: 1e-5 };
                let (x, origin) = if is_norm {
                    (causal::rms_norm(&source, &norm, kind).unwrap(), causal::of_norm(&source, &norm))
                } else {
                    (causal::swiglu(&source).unwrap(), causal::of_swiglu(&source))
                };
                assert_eq!(origin.is_some(), test_device() == Device::Cpu);
                let layer = FrozenLinear { weight: FrozenWeight::Dense(&weight), bias: None };
                let low_rank = LowRank { a: &a, b: &b, starts: &[0], widths: &[output], scaling: 1.7 };
                let y = lora_linear(&x, None, origin.as_ref().filter(|_| !keeps), &layer, &low_rank).unwrap();
                drop(x);
                outcome(&[&source, &a, &b], vec![y])
            };
            compare(&run(false), &run(true), tolerance / 1e3, &format!("norm: {is_norm}, in {kind:?}"));
        }
    }
}

#[test]
fn losses_in_chunks_are_those_of_all_logits() {
    let (rows, width, words) = (37, 24, 101);
    let (x, weight) = (random(&[rows, width], 1), random(&[words, width], 2));
    let targets: Vec<i64> = (0..rows).map(|row| (row * 31) % words).collect();
    let targets = Tensor::from_slice(&targets).to_device(test_device());
    for (kind, tolerance) in PRECISIONS {
        for learns in [true, false] {
            let run = |plain: bool, kind: Kind, chunk: i64| {
                let x = leaf(&x, kind);
                let weight = leaf(&weight, kind).set_requires_grad(learns);
                let (losses, right) = if plain {
                    reference::linear_cross_entropy(&x, &weight, &targets)
                } else {
                    finetuned_engine::native::decoder::linear_cross_entropy(&x, &weight, &targets, chunk)
                }
                .unwrap();
                let inputs = if learns { vec![&x, &weight] } else { vec![&x] };
                let mut found = outcome(&inputs, vec![losses]);
                if kind == Kind::Float {
                    found.push(right);
                }
                found
            };
            let expected = run(true, Kind::Float, 0);
            for chunk in [1, 16, 37, 100] {
                let found = run(false, kind, chunk);
                compare(&found, &expected[..found.len()], tolerance, &format!("chunks of {chunk} in {kind:?}"));
            }
        }
    }
    // The public face chooses its chunks.
    let (losses, _) = tch::no_grad(|| causal::linear_cross_entropy(&x, &weight, &targets).unwrap());
    let (expected, _) = reference::linear_cross_entropy(&x, &weight, &targets).unwrap();
    assert_close(&losses, &expected, 1e-5, "losses");
}
