//! Models upon one base in one process: they answer as each would alone, and hold the base's weights once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use finetuned::domain::serving::{
    Answered, Asked, Finish, Generate, Loading, Piece, Question, Refusal, Reply, Sampling, ServingSpec, VERSION,
};
use finetuned_engine::device::{self, ComputeDevice};
use finetuned_engine::export::{AdapterFiles, ModelFiles};
use finetuned_engine::models::read_config;
use finetuned_engine::models::text::{CausalLm, TextConfig};
use finetuned_engine::params::{self, Init, Placement};
use finetuned_engine::policy::{NOTHING, Policy};
use finetuned_engine::serving::Server;
use finetuned_engine::weights::Weights;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::support::{golden_path, hyperparameters, test_device};

fn config() -> TextConfig {
    TextConfig::parse(&read_config(&golden_path("tiny-llama")).unwrap()).unwrap()
}

/// Writes an adapter of the tiny Llama into `folder`, with the files that a model has beside its weights.
fn write_adapter(folder: &Path, targets: &[&str], seed: i64) {
    let (base, config) = (golden_path("tiny-llama"), config());
    let adapter = json!({"type": "lora", "r": 4, "alpha": 64, "target_modules": targets});
    let policy = Policy::new(&hyperparameters(json!({"adapter": adapter})), config.anatomy());
    let weights = Weights::open(&base, config.base_prefix()).unwrap();
    let placement = Placement { device: Device::Cpu, compute: Kind::Float, seed, policy: &policy };
    let (_, table, _) = params::build(&weights, placement, |root| CausalLm::new(root, &config)).unwrap();
    let drawn: BTreeMap<String, Tensor> =
        table.state().unwrap().into_iter().map(|(name, value)| (name, value.randn_like() * 0.2)).collect();
    let files = ModelFiles::new(&base, "LlamaForCausalLM").unwrap();
    let files = files.with_adapter(AdapterFiles::new(&policy, "tiny-llama", Some("CAUSAL_LM")));
    files.write_adapter(folder, Kind::Float, &drawn).unwrap();
}

fn lay_base(folder: &Path) {
    fs::create_dir_all(folder.join("base")).unwrap();
    fs::copy(golden_path("tiny-llama").join("model.safetensors"), folder.join("base/model.safetensors")).unwrap();
}

fn cpu() -> ComputeDevice {
    device::prepare("cpu", 1).unwrap()
}

fn open(folder: &Path) -> Server {
    let spec = ServingSpec { version: VERSION, model: folder.to_owned(), max_tokens: None, threads: 1 };
    Server::open(&spec, cpu()).unwrap()
}

fn ask(server: &mut Server, model: Option<&str>, question: Question) -> (Vec<u32>, Answered) {
    let asked = Asked { id: 1, model: model.map(str::to_owned), question };
    let mut ids = Vec::new();
    let reply = server.reply(&asked, &mut |reply| {
        if let Answered::Piece(piece) = reply.answer {
            ids.extend(piece.token.map(|token| token.id));
        }
    });
    (ids, reply.unwrap().answer)
}

/// How likely the likeliest token behind the prompt is.
fn first(server: &mut Server) -> f64 {
    let sampling = Sampling { top_logprobs: Some(0), ..Sampling::GREEDY };
    let asked = Generate { prompt: PROMPT.to_vec(), written: Vec::new(), sampling, stop: Vec::new(), most: 1 };
    let asked = Asked { id: 1, model: None, question: Question::Generate(Box::new(asked)) };
    let mut told = None;
    let mut tell = |reply: Reply| {
        if let Answered::Piece(Piece { token: Some(token), .. }) = reply.answer {
            told = token.likely.map(|likely| likely.logprob);
        }
    };
    server.reply(&asked, &mut tell).unwrap();
    told.unwrap()
}

const PROMPT: [u32; 4] = [5, 9, 40, 7];

/// The likeliest tokens behind the prompt.
fn write(server: &mut Server, model: Option<&str>) -> Vec<u32> {
    let (prompt, sampling) = (PROMPT.to_vec(), Sampling::GREEDY);
    let mut asked = Generate { prompt, written: Vec::new(), sampling, stop: Vec::new(), most: 24 };
    loop {
        let (ids, answer) = ask(server, model, Question::Generate(Box::new(asked.clone())));
        asked.written.extend(ids);
        match answer {
            Answered::Paused => {}
            Answered::Ended(Finish::Stop | Finish::Length) => return asked.written,
            other => panic!("{other:?}"),
        }
    }
}

fn load(server: &mut Server, name: &str, directory: &Path) -> Answered {
    let loading = Loading { name: name.to_owned(), directory: directory.to_owned() };
    ask(server, None, Question::Load(loading)).1
}

#[test]
fn each_model_answers_as_it_would_alone() {
    let base = golden_path("tiny-llama");
    let tunes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    write_adapter(tunes[0].path(), &["q_proj", "down_proj"], 1);
    write_adapter(tunes[1].path(), &["v_proj"], 2);
    let mut alone = vec![write(&mut open(&base), None)];
    for tune in &tunes {
        let whole = tempfile::tempdir().unwrap();
        fs::create_dir(whole.path().join("adapter")).unwrap();
        for file in fs::read_dir(tune.path().join("adapter")).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), whole.path().join("adapter").join(file.file_name())).unwrap();
        }
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            fs::copy(base.join(file), whole.path().join(file)).unwrap();
        }
        lay_base(whole.path());
        let mut server = open(whole.path());
        alone.push(write(&mut server, None));
        let beside = first(&mut server);
        // Merged into the weights of the layers, which are then not the base's, and in bfloat16 round otherwise.
        let path = whole.path().join("adapter/adapter_config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["target_modules"] = json!(".*_proj");
        fs::write(path, config.to_string()).unwrap();
        let merged = first(&mut open(whole.path()));
        assert!((merged - beside).abs() < 0.05, "{merged} {beside}");
    }
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2], "{alone:?}");

    let mut server = open(&base);
    for (name, tune) in ["one", "two"].into_iter().zip(&tunes) {
        assert_eq!(load(&mut server, name, tune.path()), Answered::Done);
    }
    for _ in 0..2 {
        for (model, expected) in [None, Some("one"), Some("two")].into_iter().zip(&alone) {
            assert_eq!(&write(&mut server, model), expected, "{model:?}");
        }
    }
    assert_eq!(ask(&mut server, None, Question::Unload("one".to_owned())).1, Answered::Done);
    assert_eq!(write(&mut server, Some("two")), alone[2]);

    // What lies beside weights of its own is in them.
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        fs::copy(base.join(file), tunes[1].path().join(file)).unwrap();
    }
    assert_eq!(write(&mut open(tunes[1].path()), None), alone[0]);

    // The base beside one of its tunes.
    lay_base(tunes[0].path());
    let mut server = open(tunes[0].path());
    let plain = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(base.join(file), plain.path().join(file)).unwrap();
    }
    assert_eq!(load(&mut server, "base", plain.path()), Answered::Done);
    assert_eq!((write(&mut server, Some("base")), write(&mut server, None)), (alone[0].clone(), alone[1].clone()));
}

#[test]
fn what_is_the_bases_is_held_once_and_what_is_an_adapters_is_not() {
    let (base, tune, config) = (golden_path("tiny-llama"), tempfile::tempdir().unwrap(), config());
    write_adapter(tune.path(), &["v_proj"], 2);
    let prefix = config.base_prefix();
    let placement = Placement { policy: &NOTHING, ..Placement::new(test_device(), Kind::Float, 0) };
    let [query, value] = ["q_proj", "v_proj"].map(|part| format!("model.layers.0.self_attn.{part}.weight"));
    let weights = Weights::open(&base, prefix).unwrap();
    let shape = |name: &str| weights.shape(name).unwrap();
    let (held, table, _) = params::build(&weights, placement, |root| {
        Ok([&query, &value].map(|name| root.matrix(name, &shape(name), Init::Required).unwrap()))
    })
    .unwrap();
    let merged = Weights::open_upon(&base, tune.path(), prefix).unwrap();
    let apart = Weights::open_upon(&base, tune.path(), prefix).unwrap().with_adapter_apart().unwrap();
    for (weights, shared) in [(&weights, [true, true]), (&merged, [true, false]), (&apart, [true, true])] {
        let (found, ..) = params::build_beside(Some(&table), weights, placement, |root| {
            Ok([&query, &value].map(|name| root.matrix(name, &shape(name), Init::Required).unwrap()))
        })
        .unwrap();
        assert_eq!([0, 1].map(|place| found[place].data_ptr() == held[place].data_ptr()), shared);
    }
    // In another type it is another tensor.
    let halved = Placement { compute: Kind::BFloat16, ..placement };
    let (found, ..) = params::build_beside(Some(&table), &weights, halved, |root| {
        root.matrix(&query, &shape(&query), Init::Required)
    })
    .unwrap();
    assert_eq!(found.kind(), Kind::BFloat16);
}

#[test]
fn a_model_that_does_not_fit_is_refused_and_the_others_answer_on() {
    let (base, tune) = (golden_path("tiny-llama"), tempfile::tempdir().unwrap());
    write_adapter(tune.path(), &["v_proj"], 2);
    let mut server = open(&base);
    let before = write(&mut server, None);
    let path = tune.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["intermediate_size"] = json!(48);
    fs::write(path, config.to_string()).unwrap();
    let answer = load(&mut server, "one", tune.path());
    let Answered::Error(Refusal { param: Some(param), message }) = answer else { panic!("{answer:?}") };
    assert!(param == "model" && message.contains("has shape"), "{message}");
    assert_eq!(write(&mut server, None), before);
}
