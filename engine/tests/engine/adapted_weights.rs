//! Checkpoints that hold an adapter alone: with their base model's weights they are the merged model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use finetuned_engine::export::{AdapterFiles, ModelFiles};
use finetuned_engine::models::text::{MaskedLm, TextClassifier, TextConfig, TextEmbedder};
use finetuned_engine::models::vision::{ImageClassifier, VisionConfig};
use finetuned_engine::params::{self, Builder, Init, ParamTable, Placement};
use finetuned_engine::policy::Policy;
use finetuned_engine::weights::{self, Weights};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::support::{golden_path, policy_for as policy};

fn json_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("config.json")).unwrap()
}

/// A model of some kind on the weights in a folder.
struct Case {
    what: &'static str,
    base: &'static str,
    open: fn(&Path) -> Weights,
    build: fn(&Weights, &Path, &Policy) -> ParamTable,
    files: fn(&Path, &Policy) -> ModelFiles,
}

fn text(folder: &Path) -> TextConfig {
    TextConfig::parse(&json_of(folder)).unwrap()
}

fn image(folder: &Path) -> VisionConfig {
    VisionConfig::parse(&json_of(folder)).unwrap()
}

fn table<M>(
    weights: &Weights,
    policy: &Policy,
    model: impl FnOnce(&Builder<'_, '_>) -> finetuned_engine::error::Result<M>,
) -> ParamTable {
    let placement = Placement { device: Device::Cpu, compute: Kind::Float, seed: 3, policy };
    params::build(weights, placement, model).unwrap().1
}

fn files(folder: &Path, policy: &Policy, class: &str) -> ModelFiles {
    ModelFiles::new(folder, class).unwrap().with_adapter(AdapterFiles::new(policy, "base", None))
}

const CASES: [Case; 4] = [
    Case {
        what: "a text classifier",
        base: "tiny-bert",
        open: |folder| Weights::open(folder, "bert").unwrap(),
        build: |weights, folder, policy| {
            table(weights, policy, |root| TextClassifier::new(root, &text(folder), 3, Init::Normal(0.02)))
        },
        files: |folder, policy| files(folder, policy, "BertForSequenceClassification"),
    },
    Case {
        what: "a masked language model",
        base: "tiny-bert",
        open: |folder| Weights::open(folder, "bert").unwrap(),
        build: |weights, folder, policy| table(weights, policy, |root| MaskedLm::new(root, &text(folder))),
        files: |folder, policy| files(folder, policy, "BertForMaskedLM"),
    },
    Case {
        what: "an embedder, whose names have no prefix in files",
        base: "tiny-bert",
        open: |folder| Weights::open(folder, "bert").unwrap(),
        build: |weights, folder, policy| table(weights, policy, |root| TextEmbedder::new(root, &text(folder))),
        files: |folder, policy| {
            let weights = Weights::open(folder, "bert").unwrap();
            files(folder, policy, "BertModel").as_sentence_transformer("bert", &weights)
        },
    },
    Case {
        what: "an image classifier, whose modules have other names in Transformers",
        base: "tiny-vit",
        open: |folder| image(folder).open_weights(folder).unwrap(),
        build: |weights, folder, policy| {
            table(weights, policy, |root| ImageClassifier::new(root, &image(folder), 3, Init::Normal(0.02)))
        },
        files: |folder, policy| {
            let adapter = AdapterFiles::new(policy, "base", None).unwrap();
            let adapter = adapter.with_module_names(image(folder).module_name());
            ModelFiles::new(folder, "ViTForImageClassification").unwrap().with_adapter(Some(adapter))
        },
    },
];

/// A policy of adapters for the backbone of a case.
fn lora(case: &Case, more: Value) -> Policy {
    let mut lora = json!({"type": "lora", "r": 3, "alpha": 7});
    lora.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let backbone = if case.base == "tiny-vit" { "vit" } else { "bert" };
    policy(backbone, json!({"adapter": lora}))
}

/// Trains nothing, but draws what would be trained.
fn drawn(table: &mut ParamTable) -> BTreeMap<String, Tensor> {
    let values: BTreeMap<String, Tensor> =
        table.state().unwrap().into_iter().map(|(name, value)| (name, value.randn_like())).collect();
    table.put_back(&values).unwrap();
    values
}

/// Every tensor of a model.
fn all(weights: &Weights) -> BTreeMap<String, Tensor> {
    let load = |name: String| {
        let value = weights.load(&name, &weights.shape(&name).unwrap()).unwrap();
        (name, value)
    };
    weights.names_other_than(&[]).into_iter().map(load).collect()
}

/// A checkpoint of the case's model on the one in `base`, which is said to be of this type: its folder, and the model.
fn checkpoint(case: &Case, base: &Path, policy: &Policy, kind: Kind) -> (tempfile::TempDir, ParamTable) {
    let folder = tempfile::tempdir().unwrap();
    let mut table = (case.build)(&(case.open)(base), base, policy);
    let trained = drawn(&mut table);
    (case.files)(base, policy).write_adapter(folder.path(), kind, &trained).unwrap();
    (folder, table)
}

fn copy_weights(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::copy(from.join("model.safetensors"), to.join("model.safetensors")).unwrap();
}

#[test]
fn an_adapter_and_its_base_are_the_merged_model() {
    for case in &CASES {
        let (base, policy) = (golden_path(case.base), lora(case, json!({"rslora": true})));
        let (folder, table) = checkpoint(case, &base, &policy, Kind::Float);
        assert!(!folder.path().join("model.safetensors").exists() && folder.path().join("config.json").exists());
        copy_weights(&base, &folder.path().join("base"));
        let (found, merged) = (all(&(case.open)(folder.path())), table.named().unwrap());
        for (name, value) in &merged {
            assert_eq!(found.get(name), Some(value), "{}: {name}", case.what);
        }
        let changed = merged.keys().filter(|name| all(&(case.open)(&base)).get(*name) != found.get(*name)).count();
        assert!(changed >= 4, "{}: {changed}", case.what);

        // An adapter that was trained on this one adds to it.
        let (further, second) = checkpoint(case, folder.path(), &policy, Kind::Float);
        copy_weights(&base, &further.path().join("base/base"));
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::create_dir_all(further.path().join("base/adapter")).unwrap();
            fs::copy(folder.path().join("adapter").join(file), further.path().join("base/adapter").join(file)).unwrap();
        }
        let found = all(&(case.open)(further.path()));
        for (name, value) in second.named().unwrap() {
            assert_eq!(found.get(&name), Some(&value), "{}: {name}", case.what);
        }
    }
}

#[test]
fn the_type_of_a_model_is_that_of_its_base() {
    let (case, base) = (&CASES[0], golden_path("tiny-bert"));
    let policy = lora(case, json!({}));
    let (folder, _) = checkpoint(case, &base, &policy, Kind::Half);
    let halved: BTreeMap<String, Tensor> =
        all(&(case.open)(&base)).into_iter().map(|(name, value)| (name, value.to_kind(Kind::Half))).collect();
    fs::create_dir_all(folder.path().join("base")).unwrap();
    let tensors: Vec<_> = halved.into_iter().collect();
    Tensor::write_safetensors(&tensors, folder.path().join("base/model.safetensors")).unwrap();
    assert_eq!((case.open)(folder.path()).kind(), Kind::Half);
    let config: Value = serde_json::from_str(&json_of(folder.path())).unwrap();
    assert_eq!(config["dtype"], "float16");
    let further = (case.build)(&(case.open)(folder.path()), folder.path(), &policy);
    assert_eq!(further.export(&further.state().unwrap()).unwrap().kind(), Kind::Half);
}

#[test]
fn an_adapter_that_does_not_fit_its_base_is_refused() {
    let (case, base) = (&CASES[0], golden_path("tiny-bert"));
    let policy = lora(case, json!({}));
    let (folder, _) = checkpoint(case, &base, &policy, Kind::Float);
    assert!(Weights::open(folder.path(), "bert").is_err(), "there is no base");
    let query = "bert.encoder.layer.0.attention.self.query.weight";
    let mut tensors = all(&(case.open)(&base));
    assert!(tensors.remove(query).is_some());
    fs::create_dir_all(folder.path().join("base")).unwrap();
    weights::write(&folder.path().join("base/model.safetensors"), &tensors).unwrap();
    let error = Weights::open(folder.path(), "bert").err().unwrap().to_string();
    assert!(error.contains(query), "{error}");
    copy_weights(&base, &folder.path().join("base"));
    fs::write(folder.path().join("adapter/adapter_config.json"), "{}").unwrap();
    let error = Weights::open(folder.path(), "bert").err().unwrap().to_string();
    assert!(error.contains("adapter_config.json"), "{error}");
}
