//! Peak memory of the two things that language models save it by: logits of a chunk of rows at a time, and frozen weights in the type
//! that is computed with. Each variant is measured in a process of its own.
//!
//! `make bench-engine-memory`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails loudly")]

use std::process::Command;

use finetuned_engine::device;
use finetuned_engine::nn::causal;
use finetuned_engine::params::{self, Init, Placement};
use finetuned_engine::policy::{EVERYTHING, NOTHING, Policy};
use finetuned_engine::weights::Weights;
use tch::{Device, Kind, Tensor};

/// A vocabulary and a width like those of a small language model, and the tokens of a step.
const WORDS: i64 = 49_152;
const WIDTH: i64 = 576;
const TOKENS: i64 = 4096;
/// Matrices of a model of 135 million parameters, each `[WIDTH, WIDTH]`.
const MATRICES: usize = 400;

const VARIANTS: [(&str, fn()); 4] = [
    ("logits of 64 MiB at a time", chunked),
    ("the whole matrix of logits", whole),
    ("frozen weights in bfloat16", frozen),
    ("float32 masters with bfloat16 copies", masters),
];

fn main() {
    let asked = std::env::args().nth(1).and_then(|number| number.parse::<usize>().ok());
    if let Some((_, run)) = asked.and_then(|number| VARIANTS.get(number)) {
        device::prepare("cpu", 0).unwrap();
        let before = peak();
        run();
        println!("{}", peak() - before);
        return;
    }
    for (number, (name, _)) in VARIANTS.iter().enumerate() {
        let output = Command::new(std::env::current_exe().unwrap()).arg(number.to_string()).output().unwrap();
        let kilobytes: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        println!("{name}: {:.0} MB", kilobytes / 1e3);
    }
}

/// The most memory that this process has held, in kilobytes (`proc_pid_status(5)`).
fn peak() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn guesses() -> (Tensor, Tensor, Tensor) {
    let on = (Kind::Float, Device::Cpu);
    let hidden = Tensor::randn([TOKENS, WIDTH], on).set_requires_grad(true);
    (hidden, Tensor::randn([WORDS, WIDTH], on) * 0.02, Tensor::randint(WORDS, [TOKENS], (Kind::Int64, Device::Cpu)))
}

fn chunked() {
    let (hidden, words, targets) = guesses();
    causal::linear_cross_entropy(&hidden, &words, &targets).unwrap().0.sum(Kind::Float).backward();
}

fn whole() {
    let (hidden, words, targets) = guesses();
    causal::reference::linear_cross_entropy(&hidden, &words, &targets).unwrap().0.sum(Kind::Float).backward();
}

fn frozen() {
    matrices(&NOTHING);
}

fn masters() {
    matrices(&EVERYTHING);
}

fn matrices(policy: &'static Policy) {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("finetuned-bench-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    let one = Tensor::randn([WIDTH, WIDTH], (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
    let named: Vec<(String, Tensor)> =
        (0..MATRICES).map(|i| (format!("model.layers.{i}.weight"), one.shallow_clone())).collect();
    Tensor::write_safetensors(&named, path.join("model.safetensors")).unwrap();
    let weights = Weights::open(&path, "model").unwrap();
    let placement = Placement { policy, ..Placement::new(Device::Cpu, Kind::BFloat16, 0) };
    let built = params::build(&weights, placement, |root| {
        (0..MATRICES)
            .map(|i| root.at("model").at("layers").at(i).matrix("weight", &[WIDTH, WIDTH], Init::Required))
            .collect::<Result<Vec<_>, _>>()
    });
    built.unwrap();
    std::fs::remove_dir_all(&path).unwrap();
}
