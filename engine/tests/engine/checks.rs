//! What is said of a model's folder before it is imported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use finetuned::domain::method::Method;
use finetuned::domain::model::{Checked, ModelFacts};
use finetuned_engine::check::check;
use finetuned_engine::weights::Weights;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::support::{copy_of, golden_path};

fn trainable(folder: &Path) -> (String, ModelFacts) {
    match check(folder) {
        Checked::Trainable { family, facts } => (family, facts),
        Checked::Refused(why) => panic!("{}: {why}", folder.display()),
    }
}

/// A copy of a model, spoilt.
fn refused(model: &str, spoil: impl FnOnce(&Path)) -> String {
    let folder = copy_of(model);
    spoil(folder.path());
    match check(folder.path()) {
        Checked::Trainable { .. } => panic!("{model} is taken"),
        Checked::Refused(why) => why,
    }
}

fn edit(path: PathBuf, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Rewrites the weights with each tensor under the name, and of the values, that `change` gives; None leaves it out.
fn reweigh(folder: &Path, change: impl Fn(&str, Tensor) -> Option<(String, Tensor)>) {
    let path = folder.join("model.safetensors");
    let read = Weights::open_file(&path).unwrap();
    let names = read.names_other_than(&[]);
    let tensors: Vec<(String, Tensor)> =
        names.iter().filter_map(|name| change(name, read.load(name, &read.shape(name).unwrap()).unwrap())).collect();
    drop(read);
    Tensor::write_safetensors(&tensors, &path).unwrap();
}

#[test]
fn every_family_is_trainable() {
    for (model, parameters) in
        [("tiny-bert", 1000), ("tiny-roberta", 1000), ("tiny-distilbert", 1000), ("tiny-modernbert", 1000)]
    {
        let (family, facts) = trainable(&golden_path(model));
        assert_eq!(format!("tiny-{family}"), model);
        assert!(facts.parameters > parameters && facts.unfit.is_empty(), "{facts:?}");
    }
    for model in ["tiny-resnet", "tiny-vit"] {
        let (family, facts) = trainable(&golden_path(model));
        assert_eq!(format!("tiny-{family}"), model);
        assert!(facts.backbone.is_vision() && facts.parameters > 1000, "{facts:?}");
    }
}

#[test]
fn a_method_that_a_model_lacks_something_for_is_named_with_the_reason() {
    let folder = copy_of("tiny-bert");
    edit(folder.path().join("config.json"), |config| config["tie_word_embeddings"] = json!(false));
    let (_, facts) = trainable(folder.path());
    let why = "config.json: tie_word_embeddings is false; supported: true".to_owned();
    assert_eq!(facts.unfit, BTreeMap::from([(Method::MaskedLm, why)]));
}

#[test]
fn what_no_method_can_train_is_refused_with_a_remedy() {
    let tell = |model: &str, spoil: &dyn Fn(&Path), told: &[&str]| {
        let why = refused(model, spoil);
        for part in told {
            assert!(why.contains(part), "{why}");
        }
    };
    let config = |change: fn(&mut Value)| move |folder: &Path| edit(folder.join("config.json"), change);
    tell("tiny-bert", &config(|c| c["hidden_act"] = json!("mish")), &["hidden_act is mish; supported: gelu"]);
    tell("tiny-bert", &config(|c| c["position_embedding_type"] = json!("relative_key")), &["supported: absolute"]);
    tell("tiny-bert", &config(|c| c["type_vocab_size"] = json!(0)), &["type_vocab_size is 0; supported: 1"]);
    tell(
        "tiny-bert",
        &|folder| fs::remove_file(folder.join("tokenizer.json")).unwrap(),
        &["tokenizer.json", "AutoTokenizer"],
    );
    tell("tiny-bert", &|folder| fs::write(folder.join("tokenizer.json"), "{}").unwrap(), &["tokenizer.json: "]);
    tell("tiny-bert", &config(|c| c["vocab_size"] = json!(20)), &["vocab_size is 20", "resize_token_embeddings"]);
    tell(
        "tiny-bert",
        &|folder| {
            reweigh(folder, |name, tensor| {
                (!name.ends_with("0.output.dense.weight")).then(|| (name.to_owned(), tensor))
            });
        },
        &["the model has no tensor bert.encoder.layer.0."],
    );
    for wrapper in ["module.", "model.", "_orig_mod."] {
        let message = format!("a wrapper put \"{wrapper}\" before its names");
        tell(
            "tiny-bert",
            &|folder| reweigh(folder, |name, tensor| Some((format!("{wrapper}{name}"), tensor))),
            &["the model has no tensor bert.embeddings.word_embeddings.weight", &message],
        );
    }
    tell(
        "tiny-bert",
        &|folder| reweigh(folder, |name, tensor| Some((name.to_owned(), tensor.to_kind(Kind::Double)))),
        &["has type F64; use float32, float16 or bfloat16"],
    );
    tell(
        "tiny-bert",
        &|folder| {
            fs::remove_file(folder.join("model.safetensors")).unwrap();
            let index = json!({"weight_map": {"a": "model-00002-of-00003.safetensors"}});
            fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        },
        &["names the shard model-00002-of-00003.safetensors, which is not there; fetch it again"],
    );
    let processor = |change: fn(&mut Value)| move |folder: &Path| edit(folder.join("preprocessor_config.json"), change);
    tell("tiny-vit", &processor(|c| c["image_processor_type"] = json!("SamImageProcessor")), &["image_processor_type"]);
    tell("tiny-vit", &processor(|c| c["resample"] = json!(6)), &["resample is 6; supported: 0 (nearest), 1 (lanczos)"]);
    tell(
        "tiny-vit",
        &processor(|c| c["size"] = json!({"height": 16, "width": 16})),
        &["16 by 16 pixels", "image_size is"],
    );
}

#[test]
fn of_an_outline_no_value_is_read() {
    let folder = copy_of("tiny-bert");
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let hollow = [&bytes[..header], vec![0xFF; bytes.len() - header].as_slice()].concat();
    fs::write(&path, hollow).unwrap();
    trainable(folder.path());
    let outline = Weights::open(folder.path(), "bert").unwrap().outline();
    let name = "bert.embeddings.LayerNorm.weight";
    assert_eq!(outline.load(name, &[32]).unwrap().size(), [32]);
    assert!(outline.load(name, &[33]).unwrap_err().to_string().contains("has shape [32]"));
}
