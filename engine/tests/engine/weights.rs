//! Reading and writing safetensors.

use std::collections::BTreeMap;

use finetuned_engine::models::text::TextClassifier;
use finetuned_engine::params::{self, Init};
use finetuned_engine::weights::{self, Weights};
use tch::{Device, Kind, Tensor};

use super::support::{golden, golden_path, tiny_config, weights_of};

fn build(weights: &Weights, head: Init) -> Result<params::LoadReport, String> {
    let config = tiny_config("gelu");
    params::build(weights, params::Placement::new(Device::Cpu, Kind::Float, 3), |root| {
        TextClassifier::new(root, &config, 5, head)
    })
    .map(|(_, _, report)| report)
    .map_err(|error| error.to_string())
}

#[test]
fn a_base_model_is_loaded_under_the_task_models_names() {
    let weights = Weights::open(&golden_path("tiny-bert"), "bert").unwrap();
    let report = build(&weights, Init::Fresh(0.02)).unwrap();
    assert_eq!(report.initialised, ["classifier.weight", "classifier.bias"]);
    assert!(report.unused.is_empty(), "{:?}", report.unused);
}

#[test]
fn what_is_missing_or_misshapen_is_named() {
    let mut tensors = golden("bert_gelu");
    tensors.insert("weight.cls.predictions.bias".to_owned(), Tensor::zeros([3], (Kind::Float, Device::Cpu)));
    let report = build(&weights_of(&tensors, "weight."), Init::Normal(0.02)).unwrap();
    assert_eq!(report.unused, ["cls.predictions.bias"]);

    let name = "weight.bert.encoder.layer.1.output.dense.weight";
    let kept = tensors.remove(name).unwrap();
    let error = build(&weights_of(&tensors, "weight."), Init::Normal(0.02)).unwrap_err();
    assert_eq!(error, "the model has no tensor bert.encoder.layer.1.output.dense.weight");

    tensors.insert(name.to_owned(), kept.tr());
    let error = build(&weights_of(&tensors, "weight."), Init::Normal(0.02)).unwrap_err();
    assert!(error.contains("has shape [64, 32] where [32, 64] is expected"), "{error}");

    tensors.insert(name.to_owned(), kept);
    tensors.remove("weight.bert.pooler.dense.weight");
    let report = build(&weights_of(&tensors, "weight."), Init::Normal(0.02)).unwrap();
    assert_eq!(report.initialised, ["bert.pooler.dense.weight"]);
}

#[test]
fn old_names_of_norms_are_understood() {
    let renamed: BTreeMap<String, Tensor> = golden("bert_gelu")
        .into_iter()
        .filter_map(|(name, tensor)| {
            let name = name.strip_prefix("weight.")?;
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            Some((name, tensor))
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    weights::write(&folder.path().join("model.safetensors"), &renamed).unwrap();
    let report = build(&Weights::open(folder.path(), "bert").unwrap(), Init::Normal(0.02)).unwrap();
    assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
}

#[test]
fn a_fresh_head_depends_on_the_seed_alone() {
    let weights = Weights::open(&golden_path("tiny-bert"), "bert").unwrap();
    let head = |seed| {
        let config = tiny_config("gelu");
        let built = params::build(&weights, params::Placement::new(Device::Cpu, Kind::Float, seed), |root| {
            TextClassifier::new(root, &config, 5, Init::Fresh(0.02))
        });
        built.unwrap().1.named().unwrap().remove("classifier.weight").unwrap()
    };
    assert_eq!(head(1), head(1));
    assert_ne!(head(1), head(2));
}

#[test]
fn shards_are_read_by_their_index_and_nothing_outside_the_folder() {
    let tensors = golden("bert_gelu");
    let folder = tempfile::tempdir().unwrap();
    let (mut shards, mut map) = (vec![BTreeMap::new(), BTreeMap::new()], serde_json::Map::new());
    for (i, (name, tensor)) in tensors.iter().filter(|(name, _)| name.starts_with("weight.")).enumerate() {
        let name = name.trim_start_matches("weight.").to_owned();
        map.insert(name.clone(), format!("model-{}.safetensors", i % 2).into());
        shards[i % 2].insert(name, tensor.shallow_clone());
    }
    for (i, shard) in shards.iter().enumerate() {
        weights::write(&folder.path().join(format!("model-{i}.safetensors")), shard).unwrap();
    }
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({"weight_map": map}).to_string()).unwrap();
    build(&Weights::open(folder.path(), "bert").unwrap(), Init::Normal(0.02)).unwrap();

    std::fs::write(&index, r#"{"weight_map": {"a": "../model-0.safetensors"}}"#).unwrap();
    assert!(Weights::open(folder.path(), "bert").err().unwrap().to_string().contains("names the shard"));
}

#[test]
fn lying_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let good = std::fs::read(golden_path("tiny-bert/model.safetensors")).unwrap();
    let pickle = b"PK\x03\x04pickled".to_vec();
    let huge_header = [u64::MAX.to_le_bytes().to_vec(), b"{}".to_vec()].concat();
    let beyond = {
        let header = br#"{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}"#;
        [(header.len() as u64).to_le_bytes().to_vec(), header.to_vec(), vec![0; 16]].concat()
    };
    for bytes in [Vec::new(), pickle, huge_header, beyond, good[..good.len() - 10].to_vec()] {
        std::fs::write(&path, &bytes).unwrap();
        let error = Weights::open(folder.path(), "bert").err().unwrap().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(Weights::open(folder.path(), "bert").err().unwrap().to_string().contains("has no weights in .safetensors"));
}

#[test]
fn half_precision_weights_are_widened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for kind in [Kind::Half, Kind::BFloat16] {
        let values = Tensor::from_slice(&[1.5_f32, -2.0, 0.25]).to_kind(kind);
        Tensor::write_safetensors(&[("a", &values)], &path).unwrap();
        let loaded = Weights::open_file(&path).unwrap().load("a", &[3]).unwrap();
        assert_eq!(Vec::<f32>::try_from(loaded).unwrap(), [1.5, -2.0, 0.25]);
    }
    Tensor::write_safetensors(&[("a", &Tensor::from_slice(&[1_i64]))], &path).unwrap();
    let error = Weights::open_file(&path).unwrap().load("a", &[1]).unwrap_err();
    assert!(error.to_string().contains("has type I64"), "{error}");
}
