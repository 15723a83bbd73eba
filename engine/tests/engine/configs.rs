//! `config.json` of every family: what it says of a model, and what is refused.

use finetuned::domain::backbone::Backbone;
use finetuned::domain::estimate::{self, Device};
use finetuned::domain::hyperparameters::{DataFacts, Requested, Subject, resolve};
use finetuned::domain::method::{METHODS, ProblemType};
use finetuned::domain::model::ModelFacts;
use finetuned::domain::report::{Contents, DataReport, ExamplesReport, Labels, Lengths};
use finetuned_engine::models::{ModelConfig, read_config};
use serde_json::{Map, Value, json};

const FAMILIES: [&str; 9] =
    ["bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "modernbert", "resnet", "vit", "deit"];

fn facts(config: &Value) -> Result<ModelFacts, String> {
    ModelConfig::parse(&config.to_string()).map(|config| config.facts()).map_err(|error| error.to_string())
}

/// A config that is whole, whatever the family.
fn whole(family: &str) -> Value {
    json!({"model_type": family, "vocab_size": 99, "hidden_size": 8, "num_hidden_layers": 2,
        "intermediate_size": 16, "max_position_embeddings": 64, "pad_token_id": 1, "dim": 8, "n_layers": 2,
        "hidden_dim": 16, "image_size": 32, "patch_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2],
        "num_attention_heads": 2, "n_heads": 2, "embedding_size": 8, "layer_type": "basic"})
}

#[test]
fn each_family_has_its_own_words() {
    let roberta = json!({"model_type": "roberta", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 514, "pad_token_id": 1});
    assert_eq!(facts(&roberta).unwrap().max_positions, 512);
    let distil = json!({"model_type": "distilbert", "vocab_size": 9, "dim": 8, "n_layers": 2, "hidden_dim": 16,
        "n_heads": 2, "max_position_embeddings": 512});
    let found = facts(&distil).unwrap();
    assert_eq!((found.backbone, found.hidden_size, found.layers), (Backbone::TextTransformer, 8, 2));
    let vit = json!({"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 16,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8});
    let found = facts(&vit).unwrap();
    assert_eq!((found.backbone, found.values_per_image), (Backbone::VisionTransformer, 17 * 2 * 96));
    let resnet = json!({"model_type": "resnet", "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3],
        "embedding_size": 64, "layer_type": "bottleneck"});
    let found = facts(&resnet).unwrap();
    assert_eq!((found.backbone, found.hidden_size, found.layers), (Backbone::Convolutional, 2048, 4));
    assert_eq!(found.max_positions, 0);
}

#[test]
fn what_is_missing_or_not_built_is_named() {
    let unknown = facts(&json!({"model_type": "t5"})).unwrap_err();
    assert!(unknown.contains("model_type is t5; supported: bert, roberta"), "{unknown}");
    assert!(unknown.ends_with("resnet, vit, deit"), "{unknown}");
    let vit = json!({"model_type": "vit", "hidden_size": 8});
    assert!(facts(&vit).unwrap_err().contains("missing field `num_hidden_layers`"));
    assert!(facts(&json!({"model_type": "resnet"})).unwrap_err().contains("missing field `embedding_size`"));
    assert!(facts(&json!(["bert"])).unwrap_err().contains("config.json: "));
}

#[test]
fn heads_share_the_width() {
    for family in FAMILIES.into_iter().filter(|family| *family != "resnet") {
        let (name, width) =
            if family == "distilbert" { ("n_heads", "dim") } else { ("num_attention_heads", "hidden_size") };
        for (heads, told) in [
            (json!(3), format!("{name} is 3; supported: a divisor of {width}, which is 8")),
            (json!(0), format!("{name} is 0; supported: a divisor")),
            (json!(null), format!("{name}: invalid type: null")),
        ] {
            let mut config = whole(family);
            config[name] = heads;
            let error = facts(&config).unwrap_err();
            assert!(error.contains(&told), "{family}: {error}");
        }
    }
}

#[test]
fn the_mark_that_editors_put_before_a_text_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let text = whole("bert").to_string();
    std::fs::write(folder.path().join("config.json"), format!("\u{FEFF}{text}")).unwrap();
    assert_eq!(read_config(folder.path()).unwrap(), text);
    std::fs::write(folder.path().join("config.json"), b"{\xFF}").unwrap();
    assert!(read_config(folder.path()).unwrap_err().to_string().contains("config.json is not UTF-8"));
}

/// What a run of a model would need, by every method that it has and with the largest values that are taken.
fn estimate_all(facts: &ModelFacts) {
    let mut text_lengths = Lengths::default();
    text_lengths.add(1 << 20, 1);
    let contents = Contents::Labelled { labels: Labels::default(), text_lengths };
    let training = ExamplesReport { examples: 1 << 32, contents, ..ExamplesReport::default() };
    let data = DataReport { test: Some(training.clone()), training, ..DataReport::default() };
    for method in METHODS.into_iter().filter(|method| method.supports(facts.backbone)) {
        for values in [json!({}), json!({"n_epochs": 50, "batch_size": 256, "keep_checkpoints": 100})] {
            let Value::Object(values) = values else { unreachable!() };
            let requested = Requested::parse(method, values, "h").unwrap();
            let known = DataFacts { training_examples: 9000, problem: ProblemType::default() };
            let subject = Subject { method, facts };
            let Ok(h) = resolve(&requested, subject, known, "h") else { continue };
            for device in [Device { is_gpu: false, has_bf16: false }, Device { is_gpu: true, has_bf16: true }] {
                for labels in [0, 10_000] {
                    let run = estimate::estimate(subject, &h, &data, labels, device);
                    assert!(run.disk_bytes >= facts.parameters.min(1 << 48), "{facts:?}");
                    estimate::evaluation(subject, &h, &data, labels, device);
                }
            }
        }
    }
}

#[test]
fn numbers_of_any_size_are_refused_by_name_or_can_be_reckoned_with() {
    let extremes = [
        json!(0),
        json!(1),
        json!(-1),
        json!(7),
        json!(1000),
        json!(4096),
        json!(65_536),
        json!(262_144),
        json!(1_048_576),
        json!(4_194_304),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(1.5),
        json!("8"),
        json!(true),
        json!([8]),
        json!({}),
    ];
    let (mut taken, mut refused) = (0, 0);
    for family in FAMILIES {
        let Value::Object(base) = whole(family) else { unreachable!() };
        assert!(facts(&whole(family)).is_ok(), "{family}");
        for name in base.keys().filter(|name| !["model_type", "layer_type"].contains(&name.as_str())) {
            for value in &extremes {
                let is_list = base[name].is_array();
                let value = if is_list { json!([value, value]) } else { value.clone() };
                let config: Map<String, Value> =
                    base.clone().into_iter().chain([(name.clone(), value.clone())]).collect();
                match facts(&Value::Object(config)) {
                    Ok(found) => {
                        taken += 1;
                        estimate_all(&ModelFacts { parameters: 1 << 40, ..found });
                    }
                    Err(message) => {
                        refused += 1;
                        let named = message.contains(&format!("config.json: {name}"));
                        let of_another = ["patch_size is 8; supported: a divisor", "heads is 2; supported: "];
                        let named = named || of_another.iter().any(|told| message.contains(told));
                        assert!(named, "{family} {name} {value}: {message}");
                        assert!(message.len() < 400, "{message}");
                    }
                }
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} {refused}");
    // All at their largest.
    let largest = json!({"vocab_size": 4_194_304, "hidden_size": 65_536, "num_hidden_layers": 1000,
        "intermediate_size": 262_144, "max_position_embeddings": 1_048_576, "dim": 65_536, "n_layers": 1000,
        "hidden_dim": 262_144, "image_size": 4096, "patch_size": 1, "hidden_sizes": vec![65_536; 16],
        "depths": vec![1000; 16], "embedding_size": 262_144});
    let Value::Object(largest) = largest else { unreachable!() };
    for family in FAMILIES {
        let Value::Object(base) = whole(family) else { unreachable!() };
        let config: Map<String, Value> = base.into_iter().chain(largest.clone()).collect();
        let found = facts(&Value::Object(config)).unwrap();
        for parameters in [0, 1 << 40, u64::MAX] {
            estimate_all(&ModelFacts { parameters, ..found.clone() });
        }
    }
}

/// What was imported before there were bounds.
#[test]
fn an_estimate_of_any_facts_is_a_number() {
    for backbone in [Backbone::TextTransformer, Backbone::VisionTransformer, Backbone::Convolutional] {
        let most = ModelFacts {
            backbone,
            hidden_size: u32::MAX,
            max_positions: u32::MAX,
            layers: u32::MAX,
            intermediate_size: u32::MAX,
            parameters: u64::MAX,
            vocab_size: u32::MAX,
            image_size: u32::MAX,
            values_per_image: u64::MAX,
            max_seq_length: u32::MAX,
            adapter: None,
            linear_layers: Vec::new(),
            notes: Vec::new(),
            unfit: std::collections::BTreeMap::new(),
        };
        estimate_all(&most);
        estimate_all(&ModelFacts { image_size: 0, ..most });
    }
}
