//! The fused CPU kernels against the same operators in plain libtorch, and their dropout against statistics.

use finetuned_engine::native;
use finetuned_engine::nn::functional::{self, reference};
use finetuned_engine::nn::{Heads, LayerNorm, Mode, Rotary, Seen, Sequences};
use tch::{Device, Kind, Tensor};

use super::support::assert_close;

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Values and gradients of a float32 kernel must agree to rounding, of a bfloat16 kernel to bfloat16's.
fn tolerance(kind: Kind) -> f64 {
    if kind == Kind::Float { 2e-5 } else { 2e-2 }
}

/// A leaf with the values of `tensor` in another type.
fn leaf(tensor: &Tensor, kind: Kind) -> Tensor {
    tensor.detach().to_kind(kind).copy().set_requires_grad(true)
}

fn both_kinds(check: impl Fn(Kind)) {
    for kind in [Kind::Float, Kind::BFloat16] {
        check(kind);
    }
}

#[test]
fn attention_agrees_with_scaled_dot_product_attention() {
    both_kinds(|kind| {
        tch::manual_seed(1);
        for (heads, size) in [(3, 16), (2, 20), (1, 64)] {
            let lengths = vec![1, 7, 16, 33, 2, 64, 8];
            let tokens: i64 = lengths.iter().sum();
            let sequences = Sequences::from_lengths(lengths, Device::Cpu).unwrap();
            let values = Tensor::randn([tokens, 3 * heads * size], CPU);
            let weight = Tensor::randn([tokens, heads * size], CPU);
            let fused = leaf(&values, kind);
            let out = native::attention(&fused, &sequences.offsets, sequences.longest, heads, 0.0, 0).unwrap();
            (out.to_kind(Kind::Float) * &weight).sum(Kind::Float).backward();
            let plain = leaf(&values.to_kind(kind), Kind::Float);
            let expected =
                reference::attention(&plain, &sequences, Heads::alike(heads, size * heads), Seen::All, 0.0).unwrap();
            (&expected * &weight.to_kind(kind).to_kind(Kind::Float)).sum(Kind::Float).backward();
            let what = format!("{heads} heads of {size} in {kind:?}");
            assert_close(&out, &expected, tolerance(kind), &what);
            assert_close(&fused.grad(), &plain.grad(), tolerance(kind), &format!("gradient, {what}"));
        }
    });
}

/// Attention over one sequence at a time: scores of every pair, those that are not seen left out, softmax.
fn plain_attention(qkv: &Tensor, lengths: &[i64], heads: Heads, sees: impl Fn(i64, i64) -> bool) -> Tensor {
    let Heads { query, key_value, size } = heads;
    let (mut start, mut parts) = (0, Vec::new());
    for &length in lengths {
        let split = qkv.narrow(0, start, length).view([length, query + 2 * key_value, size]).transpose(0, 1);
        let q = split.narrow(0, 0, query);
        let shared =
            |first: i64| split.narrow(0, first, key_value).repeat_interleave_self_int(query / key_value, 0, None);
        let (k, v) = (shared(query), shared(query + key_value));
        let seen: Vec<bool> =
            (0..length).flat_map(|i| (0..length).map(move |j| (i, j))).map(|(i, j)| sees(i, j)).collect();
        let hidden = Tensor::from_slice(&seen).view([length, length]).logical_not();
        let scores = (q.matmul(&k.transpose(1, 2)) / (size as f64).sqrt()).masked_fill(&hidden, f64::NEG_INFINITY);
        parts.push(scores.softmax(-1, Kind::Float).matmul(&v).transpose(0, 1).reshape([length, query * size]));
        start += length;
    }
    Tensor::cat(&parts, 0)
}

#[test]
fn attention_knows_its_heads_and_what_a_token_sees() {
    tch::manual_seed(5);
    let lengths = [9, 2, 1, 14];
    let sequences = || Sequences::from_lengths(lengths.to_vec(), Device::Cpu).unwrap();
    for (query, key_value) in [(2, 2), (4, 2), (6, 1)] {
        let heads = Heads { query, key_value, size: 8 };
        let values = Tensor::randn([26, heads.widths().iter().sum()], CPU);
        let weight = Tensor::randn([26, query * 8], CPU);
        let rules: [(Seen, fn(i64, i64) -> bool); 6] = [
            (Seen::All, |_, _| true),
            (Seen::Window(3), |i, j| (i - j).abs() <= 3),
            (Seen::Window(13), |_, _| true),
            (Seen::Causal, |i, j| j <= i),
            (Seen::CausalWindow(3), |i, j| j <= i && i - j <= 3),
            (Seen::CausalWindow(13), |i, j| j <= i),
        ];
        for (seen, sees) in rules {
            let what = format!("{heads:?} {seen:?}");
            let ours = leaf(&values, Kind::Float);
            let out = functional::attention(&ours, &sequences(), heads, seen, 0.0, &Mode::eval()).unwrap();
            (&out * &weight).sum(Kind::Float).backward();
            let plain = leaf(&values, Kind::Float);
            let expected = plain_attention(&plain, &lengths, heads, sees);
            (&expected * &weight).sum(Kind::Float).backward();
            assert_close(&out, &expected, 2e-5, &what);
            assert_close(&ours.grad(), &plain.grad(), 2e-5, &format!("gradient, {what}"));
        }
    }
    let [all, causal] = [Seen::All, Seen::Causal].map(|seen| {
        let values = Tensor::ones([26, 3], CPU).cumsum(0, Kind::Float);
        functional::attention(&values, &sequences(), Heads::alike(1, 1), seen, 0.0, &Mode::eval()).unwrap()
    });
    assert_ne!(all, causal);
}

#[test]
fn queries_and_keys_turn_whatever_the_number_of_their_heads() {
    tch::manual_seed(8);
    let rotation = Rotary::new(8, 100.0, Device::Cpu).unwrap().at(&Tensor::from_slice(&[0_i64, 1, 5])).unwrap();
    let heads = Heads { query: 4, key_value: 2, size: 8 };
    let qkv = Tensor::randn([3, 64], CPU);
    let turned = rotation.apply(&qkv, heads).unwrap();
    // As three layers of two heads each, of which the first two are turned.
    let pairs = Heads::alike(2, 16);
    let grouped = |parts: [i64; 3]| {
        let parts = parts.map(|start| qkv.narrow(1, start, 16));
        rotation.apply(&Tensor::cat(&parts, 1), pairs).unwrap()
    };
    let (first, second) = (grouped([0, 16, 48]), grouped([32, 0, 48]));
    assert_eq!(turned, Tensor::cat(&[first.narrow(1, 0, 32), second.narrow(1, 0, 16), qkv.narrow(1, 48, 16)], 1));
    assert_eq!(turned.get(0), qkv.get(0), "nothing turns at the first place");
    assert_ne!(turned.get(2), qkv.get(2));
}

#[test]
fn means_are_those_of_each_sequence() {
    tch::manual_seed(6);
    let sequences = Sequences::from_lengths(vec![3, 1, 8], Device::Cpu).unwrap();
    let (x, weight) = (leaf(&Tensor::randn([12, 5], CPU), Kind::Float), Tensor::randn([3, 5], CPU));
    let means = sequences.mean(&x).unwrap();
    (&means * &weight).sum(Kind::Float).backward();
    let mut start = 0;
    for (row, length) in [3, 1, 8].into_iter().enumerate() {
        let part = x.detach().narrow(0, start, length);
        let dims = Some(&[0_i64][..]);
        assert_close(&means.get(row as i64), &part.mean_dim(dims, false, Kind::Float), 1e-6, "mean");
        let grad = weight.get(row as i64).expand([length, 5], false) / length as f64;
        assert_close(&x.grad().narrow(0, start, length), &grad, 1e-6, "gradient");
        start += length;
    }
}

#[test]
fn dropout_add_norm_agrees_with_its_parts() {
    both_kinds(|kind| {
        tch::manual_seed(2);
        for (rows, width) in [(1, 8), (70, 48), (5, 384)] {
            let x_values = Tensor::randn([rows, width], CPU);
            let [residual, weight, bias] =
                [Tensor::randn([rows, width], CPU), Tensor::randn([width], CPU) + 1.0, Tensor::randn([width], CPU)];
            let upstream = [Tensor::randn([rows, width], CPU), Tensor::randn([rows, width], CPU)];
            let run = |x: Tensor, fused: bool| {
                let leaves = [&residual, &weight, &bias].map(|tensor| leaf(tensor, Kind::Float));
                let (wide, low) = if fused {
                    let (wide, low) =
                        native::dropout_add_norm(&x, &leaves[0], &leaves[1], &leaves[2], 1e-6, 0.0, 0).unwrap();
                    let low = low.unwrap_or_else(|| wide.shallow_clone());
                    (wide, low)
                } else {
                    let norm =
                        LayerNorm { weight: leaves[1].shallow_clone(), bias: leaves[2].shallow_clone(), eps: 1e-6 };
                    let hidden = reference::dropout_add_norm(&x, &leaves[0], &norm, 0.0).unwrap();
                    (hidden.wide, hidden.low)
                };
                let total = (&wide * &upstream[0]).sum(Kind::Float)
                    + (low.to_kind(Kind::Float) * &upstream[1]).sum(Kind::Float);
                total.backward();
                let [residual, weight, bias] = leaves;
                (wide, [x.grad(), residual.grad(), weight.grad(), bias.grad()])
            };
            let (fused, fused_grads) = run(leaf(&x_values, kind), true);
            let (plain, plain_grads) = run(leaf(&x_values, kind), false);
            assert_close(&fused, &plain, 2e-5, "values");
            for (i, (fused, plain)) in fused_grads.iter().zip(&plain_grads).enumerate() {
                assert_close(fused, plain, tolerance(kind), &format!("gradient {i} of {rows} x {width} in {kind:?}"));
            }
        }
    });
}

#[test]
fn dropout_keeps_the_mean_and_backward_draws_the_same_mask() {
    both_kinds(|kind| {
        let x = leaf(&Tensor::ones([200, 1000], CPU), kind);
        let out = native::dropout(&x, 0.1, 42).unwrap();
        let zeros = out.eq(0.0).sum(Kind::Int64).int64_value(&[]);
        // 200,000 draws with probability 0.1: four standard deviations are 537.
        assert!((zeros - 20_000).abs() < 537, "{zeros}");
        let kept = out.to_kind(Kind::Float).max().double_value(&[]);
        assert!((kept - 1.0 / 0.9).abs() < 5e-3, "{kept}");
        out.to_kind(Kind::Float).sum(Kind::Float).backward();
        assert_eq!(x.grad(), out.detach());
    });
}

#[test]
fn masks_depend_on_the_key_alone() {
    let x = Tensor::ones([64, 100], CPU);
    let draw = |key| native::dropout(&x, 0.5, key).unwrap();
    assert_eq!(draw(1), draw(1));
    let equal = draw(1).eq_tensor(&draw(2)).sum(Kind::Int64).int64_value(&[]);
    assert!((equal - 3200).abs() < 4 * 40, "half of the places agree by chance, not {equal} of 6400");
}

/// The gradient of `f` along a random direction, by central differences, must be its dot product with the direction.
fn check_directional_derivative(x: &Tensor, f: impl Fn(&Tensor) -> Tensor, what: &str) {
    let point = leaf(x, Kind::Float);
    f(&point).backward();
    tch::manual_seed(9);
    let direction = Tensor::randn_like(x);
    let along = (point.grad() * &direction).sum(Kind::Float).double_value(&[]);
    let step = 1e-2;
    let _guard = tch::no_grad_guard();
    let value = |sign: f64| f(&(x + &direction * (sign * step))).double_value(&[]);
    let slope = (value(1.0) - value(-1.0)) / (2.0 * step);
    assert!((along - slope).abs() <= 1e-2 * slope.abs().max(1.0), "{what}: {along} for {slope}");
}

#[test]
fn gradients_with_dropout_are_those_of_the_masked_function() {
    tch::manual_seed(3);
    let sequences = Sequences::from_lengths(vec![5, 30, 1, 12], Device::Cpu).unwrap();
    let qkv = Tensor::randn([48, 3 * 2 * 8], CPU);
    let weight = Tensor::randn([48, 16], CPU);
    let attend = |p: f64| {
        let (sequences, weight) = (&sequences, &weight);
        move |x: &Tensor| {
            let out = native::attention(x, &sequences.offsets, sequences.longest, 2, p, 7).unwrap();
            (out * weight).sum(Kind::Float)
        }
    };
    check_directional_derivative(&qkv, attend(0.0), "attention");
    check_directional_derivative(&qkv, attend(0.3), "attention with dropout");
    assert_ne!(attend(0.3)(&qkv).double_value(&[]), attend(0.0)(&qkv).double_value(&[]));

    let (residual, norm) = (Tensor::randn([9, 32], CPU), (Tensor::ones([32], CPU), Tensor::zeros([32], CPU)));
    let weight = Tensor::randn([9, 32], CPU);
    let add_norm = |x: &Tensor| {
        let (out, _) = native::dropout_add_norm(x, &residual, &norm.0, &norm.1, 1e-6, 0.3, 11).unwrap();
        (out * &weight).sum(Kind::Float)
    };
    check_directional_derivative(&Tensor::randn([9, 32], CPU), add_norm, "dropout_add_norm with dropout");
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    tch::manual_seed(4);
    let (x, residual) = (Tensor::randn([300, 96], CPU), Tensor::randn([300, 96], CPU));
    let run = |threads| {
        native::set_threads(threads).unwrap();
        let x = leaf(&x, Kind::Float);
        let (weight, bias) = (leaf(&Tensor::ones([96], CPU), Kind::Float), Tensor::zeros([96], CPU));
        let (out, _) = native::dropout_add_norm(&x, &residual, &weight, &bias, 1e-6, 0.1, 5).unwrap();
        (&out * &residual).sum(Kind::Float).backward();
        (out.detach(), x.grad(), weight.grad())
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn misuse_is_an_error_and_no_crash() {
    let offsets = Tensor::from_slice(&[0_i32, 4]);
    let message = |result: Result<Tensor, finetuned_engine::error::EngineError>| result.unwrap_err().to_string();
    let odd = Tensor::zeros([4, 10], CPU);
    assert!(message(native::attention(&odd, &offsets, 4, 2, 0.0, 0)).contains("qkv must be"));
    let double = Tensor::zeros([4, 6], (Kind::Double, Device::Cpu));
    assert!(message(native::attention(&double, &offsets, 4, 1, 0.0, 0)).contains("float32 or bfloat16"));
    assert!(message(native::dropout(&odd, 1.0, 0)).contains("probability"));
    assert!(message(native::dropout(&odd.tr(), 0.5, 0)).contains("contiguous"));
}
