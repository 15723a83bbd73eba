//! What is saved of a model: what was trained, and the rest as the base model has it.

use std::collections::BTreeMap;

use finetuned_engine::export::write_model;
use finetuned_engine::models::text::TextClassifier;
use finetuned_engine::params::{self, Init, ParamTable, Placement};
use finetuned_engine::weights::{self, Tensors, Weights};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::support::{golden_path, policy, tiny_config};

/// A classifier on the tiny model whose weights are stored in `stored`, computing in bfloat16.
fn build(stored: Kind, hyperparameters: Value) -> (ParamTable, Weights) {
    let tiny = Weights::open_file(&golden_path("tiny-bert/model.safetensors")).unwrap();
    let load = |name: &String| tiny.load(name, &tiny.shape(name).unwrap()).unwrap().to_kind(stored);
    let tensors: Vec<(String, Tensor)> =
        tiny.names_other_than(&[]).iter().map(|name| (name.clone(), load(name))).collect();
    let folder = tempfile::tempdir().unwrap();
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    let base = Weights::open(folder.path(), "bert").unwrap();
    let policy = policy(hyperparameters);
    let placement = Placement { device: Device::Cpu, compute: Kind::BFloat16, seed: 1, policy: &policy };
    let new = |root: &params::Builder<'_, '_>| TextClassifier::new(root, &tiny_config("gelu"), 3, Init::Fresh(0.02));
    let (_, table, _) = params::build(&base, placement, new).unwrap();
    (table, base)
}

#[test]
fn what_is_frozen_is_saved_as_the_base_model_has_it() {
    let (table, base) = build(Kind::Float, json!({"freeze": "backbone"}));
    assert_eq!(table.trained_count(), 32 * 3 + 3);
    let named = table.named().unwrap();
    let expected: usize = named.values().map(Tensor::numel).sum();
    assert_eq!(table.count(), expected);
    let mut rounded = 0;
    for (name, value) in named.iter().filter(|(name, _)| name.starts_with("bert.")) {
        let stored = base.load(name, &value.size()).unwrap();
        assert_eq!(*value, stored, "{name}");
        rounded += usize::from(stored.to_kind(Kind::BFloat16).to_kind(Kind::Float) != stored);
    }
    assert!(rounded > 10, "values that bfloat16 does not have: {rounded} tensors");
}

#[test]
fn what_starts_anew_and_is_frozen_is_saved_as_it_was_drawn() {
    let tiny = Weights::open_file(&golden_path("tiny-bert/model.safetensors")).unwrap();
    let kept: BTreeMap<String, Tensor> = tiny
        .names_other_than(&[])
        .into_iter()
        .filter(|name| !name.contains("pooler"))
        .map(|name| (name.clone(), tiny.load(&name, &tiny.shape(&name).unwrap()).unwrap()))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    weights::write(&folder.path().join("model.safetensors"), &kept).unwrap();
    let base = Weights::open(folder.path(), "bert").unwrap();
    let policy = policy(json!({"freeze": "backbone"}));
    let drawn = |compute| {
        let placement = Placement { device: Device::Cpu, compute, seed: 5, policy: &policy };
        let new =
            |root: &params::Builder<'_, '_>| TextClassifier::new(root, &tiny_config("gelu"), 3, Init::Fresh(0.02));
        params::build(&base, placement, new).unwrap().1.named().unwrap().remove("bert.pooler.dense.weight").unwrap()
    };
    assert_eq!(drawn(Kind::BFloat16), drawn(Kind::Float));
}

#[test]
fn a_model_is_saved_in_the_type_of_its_base() {
    for stored in [Kind::Float, Kind::Half, Kind::BFloat16] {
        for hyperparameters in [json!({}), json!({"adapter": {"type": "lora"}}), json!({"freeze": {"layers": 1}})] {
            let (table, _) = build(stored, hyperparameters);
            let export = table.export(&table.trained().unwrap()).unwrap();
            assert_eq!(export.kind(), stored);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model.safetensors");
            weights::write(&path, &export).unwrap();
            let written = Weights::open_file(&path).unwrap();
            assert_eq!((written.kind(), written.values() as usize), (stored, table.count() - adapters(&table)));
            let length = std::fs::metadata(&path).unwrap().len();
            assert!(length > export.bytes() && length < export.bytes() + 20_000, "{length} {}", export.bytes());
        }
    }
}

/// Values of the adapters, which are merged.
fn adapters(table: &ParamTable) -> usize {
    table.trained().unwrap().iter().filter(|(name, _)| name.contains(".lora_")).map(|(_, tensor)| tensor.numel()).sum()
}

#[test]
fn a_large_model_is_saved_in_shards_with_an_index() {
    let tensors: BTreeMap<String, Tensor> =
        (0..5).map(|i| (format!("t{i}"), Tensor::full([10 * (i + 1)], i, (Kind::Float, Device::Cpu)))).collect();
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &tensors, 300).unwrap();
    let mut files: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    // 40, 80 and 120 bytes; 160; 200.
    let shard = |number: usize| format!("model-{number:05}-of-00003.safetensors");
    assert_eq!(files, [shard(1), shard(2), shard(3), "model.safetensors.index.json".to_owned()]);
    let index: Value = serde_json::from_slice(&std::fs::read(folder.path().join(&files[3])).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 600);
    assert_eq!((&index["weight_map"]["t2"], &index["weight_map"]["t3"]), (&json!(shard(1)), &json!(shard(2))));
    let read = Weights::open_renamed(folder.path(), "x", |_, name| format!("x.{name}")).unwrap();
    for described in tensors.list() {
        let name = format!("x.{}", described.name);
        assert_eq!(read.load(&name, &described.shape).unwrap(), tensors[&described.name]);
    }
    write_model(folder.path(), &tensors, 600).unwrap();
    assert!(folder.path().join("model.safetensors").is_file());
}

#[test]
fn what_cannot_be_made_leaves_an_error_and_no_false_file() {
    struct Broken;
    impl Tensors for Broken {
        fn list(&self) -> Vec<weights::Described> {
            vec![weights::Described { name: "a".to_owned(), shape: vec![2], kind: Kind::Float }]
        }
        fn tensor(&self, _: &str) -> finetuned_engine::error::Result<Tensor> {
            BTreeMap::new().tensor("a")
        }
        fn holds(&self, _: &str) -> bool {
            false
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let error = weights::write(&path, &Broken).unwrap_err();
    assert!(error.to_string().contains("there is no tensor a"), "{error}");
    assert!(!path.exists());
}
