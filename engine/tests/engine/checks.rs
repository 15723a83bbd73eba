//! What is said of a model's folder before it is imported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use finetuned::domain::method::Method;
use finetuned::domain::model::{Checked, ModelFacts};
use finetuned_engine::check::check;
use finetuned_engine::text::TextTokenizer;
use finetuned_engine::weights::Weights;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

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

/// Adds tensors to the weights.
fn add(folder: &Path, more: &[(&str, Tensor)]) {
    let path = folder.join("model.safetensors");
    let read = Weights::open_file(&path).unwrap();
    let names = read.names_other_than(&more.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let mut tensors: Vec<(String, Tensor)> =
        names.iter().map(|name| (name.clone(), read.load(name, &read.shape(name).unwrap()).unwrap())).collect();
    drop(read);
    tensors.extend(more.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())));
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
    // What is no known wrapper's, or not before all names, is not guessed away.
    for (wrapper, wraps) in [("net.", ""), ("roberta.", ""), ("module.", "embeddings"), ("model.", "encoder.layer.0")] {
        let message = format!("a wrapper put \"{wrapper}\" before its names");
        let wrapped = |name: &str| {
            if name.starts_with(wraps) { format!("{wrapper}{name}") } else { name.to_owned() }
        };
        tell(
            "tiny-bert",
            &|folder| reweigh(folder, |name, tensor| Some((wrapped(name), tensor))),
            &["the model has no tensor bert.", &message],
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

/// The tensors of a model by the names in use today.
fn values(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let weights = Weights::open(folder, "bert").unwrap();
    let value = |name: &String| {
        let tensor = weights.load(name, &weights.shape(name).unwrap()).unwrap();
        Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap()
    };
    weights.names_other_than(&[]).iter().map(|name| (name.clone(), value(name))).collect()
}

#[test]
fn what_wrappers_put_before_all_names_is_left_out_with_a_note() {
    for wrapper in ["module.", "model.", "_orig_mod.", "_orig_mod.module.", "module.model."] {
        for prefix in ["", "bert."] {
            let folder = copy_of("tiny-bert");
            reweigh(folder.path(), |name, tensor| Some((format!("{wrapper}{prefix}{name}"), tensor)));
            let (_, facts) = trainable(folder.path());
            let note = format!("a wrapper put \"{wrapper}\" before the names of all tensors; they are read without it");
            assert!(facts.notes.contains(&note) && facts.unfit.is_empty(), "{facts:?}");
            assert!(values(folder.path()) == values(&golden_path("tiny-bert")), "{wrapper}{prefix}");
        }
    }
    let folder = copy_of("tiny-vit");
    reweigh(folder.path(), |name, tensor| Some((format!("module.{name}"), tensor)));
    let (_, facts) = trainable(folder.path());
    assert!(facts.notes[0].starts_with("a wrapper put \"module.\" before"), "{facts:?}");
    let (_, facts) = trainable(&golden_path("tiny-modernbert"));
    assert!(!facts.notes.iter().any(|note| note.contains("wrapper")), "its own prefix is called model.: {facts:?}");
}

#[test]
fn a_classifier_of_other_labels_than_config_json_says_is_told() {
    let folder = copy_of("tiny-bert");
    reweigh(folder.path(), |name, tensor| Some((format!("bert.{name}"), tensor)));
    let with_labels = |labels: Value| {
        edit(folder.path().join("config.json"), |config| {
            config["architectures"] = json!(["BertForSequenceClassification"]);
            config["id2label"] = labels;
        });
        trainable(folder.path()).1
    };
    // Without a head in its weights any labels do; with one, those that it has.
    assert!(with_labels(json!({"0": "a", "1": "b"})).unfit.is_empty());
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    add(folder.path(), &[("classifier.weight", zeros(&[3, 32])), ("classifier.bias", zeros(&[3]))]);
    let facts = with_labels(json!({"0": "a", "1": "b"}));
    let why = &facts.unfit[&Method::TextClassification];
    assert!(why.contains("classifier.weight has shape [3, 32]") && why.contains("[2, 32]"), "{why}");
    assert!(with_labels(json!({"0": "a", "1": "b", "2": "c"})).unfit.is_empty());
}

#[test]
fn code_of_its_own_and_a_tokenizer_of_another_model_are_told() {
    let folder = copy_of("tiny-bert");
    edit(folder.path().join("config.json"), |config| config["auto_map"] = json!({"AutoModel": "modeling.Mine"}));
    let (_, facts) = trainable(folder.path());
    let told = |facts: &ModelFacts, what: &str| facts.notes.iter().any(|note| note.contains(what));
    assert!(told(&facts, "code that the model brings (auto_map), which is never run"), "{facts:?}");
    assert!(!told(&facts, "another model's"), "{facts:?}");
    let many = 2000;
    edit(folder.path().join("config.json"), |config| config["vocab_size"] = json!(many));
    let name = "embeddings.word_embeddings.weight";
    reweigh(folder.path(), |found, tensor| {
        let tensor = if found.ends_with(name) { Tensor::zeros([many, 32], (Kind::Float, Device::Cpu)) } else { tensor };
        Some((found.to_owned(), tensor))
    });
    let (_, facts) = trainable(folder.path());
    assert!(told(&facts, "tokens, and the model has embeddings of 2000: it may be another model's"), "{facts:?}");
}

#[test]
fn a_tokenizer_is_built_from_a_vocabulary_alone() {
    let folder = copy_of("tiny-bert");
    let path = |name: &str| folder.path().join(name);
    let tokenizer: Value = serde_json::from_slice(&fs::read(path("tokenizer.json")).unwrap()).unwrap();
    let mut words: Vec<(String, u64)> =
        serde_json::from_value::<BTreeMap<String, u64>>(tokenizer["model"]["vocab"].clone())
            .unwrap()
            .into_iter()
            .collect();
    words.sort_by_key(|(_, id)| *id);
    let lines: String = words.iter().map(|(word, _)| format!("{word}\n")).collect();
    fs::write(path("vocab.txt"), lines).unwrap();
    fs::remove_file(path("tokenizer.json")).unwrap();
    edit(path("tokenizer_config.json"), |config| {
        config.as_object_mut().unwrap().remove("tokenizer_class");
        config["do_lower_case"] = json!(true);
    });
    let (_, facts) = trainable(folder.path());
    let note =
        "tokenizer.json was built from vocab.txt (in lower case), as Transformers' BertTokenizer does".to_owned();
    assert!(facts.notes.contains(&note), "{facts:?}");
    let cases: Vec<Value> = serde_json::from_slice(&fs::read(golden_path("tokens.json")).unwrap()).unwrap();
    let built = TextTokenizer::open(folder.path(), 64, 120).unwrap();
    for case in &cases {
        let encoded = built.encode(&[(case["text"].as_str().unwrap(), None)]).unwrap();
        assert_eq!(json!(encoded[0].ids), case["ids"], "{case}");
    }
}

#[test]
fn how_sentences_are_embedded_is_said_and_what_is_not_built_is_no_reason_to_refuse_a_model() {
    let with = |modules: &[&str]| {
        let folder = copy_of("tiny-bert");
        let module = |(place, class): (usize, &&str)| {
            let path = if place == 0 { String::new() } else { format!("{place}_{class}") };
            json!({"idx": place, "name": place.to_string(), "path": path, "type": format!("sentence_transformers.models.{class}")})
        };
        let listed: Vec<Value> = modules.iter().enumerate().map(module).collect();
        fs::write(folder.path().join("modules.json"), json!(listed).to_string()).unwrap();
        fs::write(folder.path().join("sentence_bert_config.json"), r#"{"max_seq_length": 32}"#).unwrap();
        folder
    };
    let pooling = |folder: &Path| {
        fs::create_dir(folder.join("1_Pooling")).unwrap();
        let cls = r#"{"word_embedding_dimension": 32, "pooling_mode_cls_token": true}"#;
        fs::write(folder.join("1_Pooling/config.json"), cls).unwrap();
    };
    let (_, plain) = trainable(&golden_path("tiny-bert"));
    assert_eq!(plain.max_seq_length, 0);
    assert!(plain.notes[0].contains("the mean over all tokens, normalised, since it has no modules.json"), "{plain:?}");
    let folder = with(&["Transformer", "Pooling"]);
    let (_, facts) = trainable(folder.path());
    let why = "modules.json names 1_Pooling/config.json, which is not there; fetch it again".to_owned();
    assert_eq!(facts.unfit, BTreeMap::from([(Method::Embedding, why)]));
    pooling(folder.path());
    let (_, facts) = trainable(folder.path());
    assert_eq!((facts.max_seq_length, facts.unfit.len()), (32, 0));
    let said =
        "sentence embeddings are the state of the first token, not normalised, as modules.json has it".to_owned();
    assert_eq!(facts.notes, [said]);
    let folder = with(&["Transformer", "Pooling", "Dense"]);
    pooling(folder.path());
    let (_, facts) = trainable(folder.path());
    let why = &facts.unfit[&Method::Embedding];
    assert!(why.contains("the module sentence_transformers.models.Dense in place 2; supported: Transformer"), "{why}");
    assert_eq!(facts.notes, [format!("it cannot be trained with the method embedding: {why}")]);
}

#[test]
fn files_as_editors_and_older_versions_left_them_are_read() {
    let folder = copy_of("tiny-bert");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name), format!("\u{feff}{text}")).unwrap();
    }
    trainable(folder.path());
    let folder = copy_of("tiny-vit");
    for config in [
        json!({"size": 32, "resample": 0, "image_mean": [0.5, 0.5, 0.5]}),
        json!({"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "resample": 1}),
        json!({"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 36}, "crop_size": 32}),
    ] {
        fs::write(folder.path().join("preprocessor_config.json"), format!("\u{feff}{config}")).unwrap();
        trainable(folder.path());
    }
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
