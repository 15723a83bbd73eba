//! The text encoder families against Transformers: classifiers, masked language models and embeddings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use finetuned::domain::hyperparameters::LrSchedule;
use finetuned_engine::models::text::{CausalLm, MaskedLm, TextClassifier, TextConfig, TextEmbedder, TextTask, Tokens};
use finetuned_engine::nn::{Mode, Sequences};
use finetuned_engine::optim::{AdamW, AdamWConfig, Schedule};
use finetuned_engine::params::{self, Builder, Init, LoadReport, ParamTable};
use finetuned_engine::text::TextTokenizer;
use finetuned_engine::weights::{self, Weights};
use tch::{Device, Kind, Tensor};

use super::support::{
    BF16, CLASSES, FP32, Tolerance, assert_close, assert_within, difference, golden, golden_path, loss, test_device,
};

const FAMILIES: [&str; 6] = ["bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "modernbert"];

type Golden = HashMap<String, Tensor>;

/// The tensors of a family's golden file whose names start with `part`, without it.
fn part(family: &str, part: &str) -> Golden {
    let tensors = golden(&format!("text_{family}")).into_iter();
    tensors.filter_map(|(name, tensor)| Some((name.strip_prefix(part)?.to_owned(), tensor))).collect()
}

fn config_json(family: &str, task: &str) -> serde_json::Value {
    let text = std::fs::read(golden_path("text_configs.json")).unwrap();
    let mut configs: serde_json::Value = serde_json::from_slice(&text).unwrap();
    configs[family][task].take()
}

fn config(family: &str, task: &str) -> TextConfig {
    TextConfig::parse(&config_json(family, task).to_string()).unwrap()
}

/// A model from the `weight.` tensors of a part, read from a file as Transformers writes it.
fn build<M>(
    golden: &Golden,
    config: &TextConfig,
    kind: Kind,
    new: impl FnOnce(&Builder<'_, '_>) -> finetuned_engine::error::Result<M>,
) -> (M, ParamTable, LoadReport) {
    let named = golden
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("weight.")?.to_owned(), tensor.shallow_clone())))
        .collect::<BTreeMap<_, _>>();
    let folder = tempfile::tempdir().unwrap();
    weights::write(&folder.path().join("model.safetensors"), &named).unwrap();
    let weights = Weights::open(folder.path(), config.base_prefix()).unwrap();
    params::build(&weights, params::Placement::new(test_device(), kind, 0), new).unwrap()
}

fn classifier(golden: &Golden, config: &TextConfig, kind: Kind) -> (TextClassifier, ParamTable) {
    let head = Init::Normal(0.02);
    let (model, table, report) = build(golden, config, kind, |root| TextClassifier::new(root, config, CLASSES, head));
    assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
    (model, table)
}

fn integers(tensor: &Tensor) -> Vec<Vec<i64>> {
    let rows = Vec::<Vec<f32>>::try_from(tensor).unwrap();
    rows.into_iter().map(|row| row.into_iter().map(|value| value as i64).collect()).collect()
}

fn lengths(golden: &Golden, prefix: &str) -> Vec<usize> {
    let lengths = Vec::<f32>::try_from(&golden[&format!("{prefix}lengths")]).unwrap();
    lengths.into_iter().map(|length| length as usize).collect()
}

/// The real values of padded rows, one row after the other.
fn flat(rows: &Tensor, lengths: &[usize]) -> Vec<i64> {
    integers(rows).iter().zip(lengths).flat_map(|(row, &length)| row[..length].to_vec()).collect()
}

/// The batch whose tensors have `prefix`, packed.
fn packed(golden: &Golden, prefix: &str) -> Tokens {
    let device = test_device();
    let lengths = lengths(golden, prefix);
    let ids = flat(&golden[&format!("{prefix}input_ids")], &lengths);
    let types = golden.get(&format!("{prefix}token_type_ids"));
    // A model without segments must not mind what they say.
    let types = types.map_or_else(|| vec![1; ids.len()], |types| flat(types, &lengths));
    let positions: Vec<i64> = lengths.iter().flat_map(|&length| 0..length as i64).collect();
    Tokens {
        ids: Tensor::from_slice(&ids).to_device(device),
        positions: Tensor::from_slice(&positions).to_device(device),
        types: Tensor::from_slice(&types).to_device(device),
        sequences: Rc::new(
            Sequences::from_lengths(lengths.iter().map(|&length| length as i64).collect(), device).unwrap(),
        ),
        past: None,
    }
}

/// Places and words of the tokens to guess.
fn targets(golden: &Golden) -> (Tensor, Tensor) {
    let labels = flat(&golden["labels"], &lengths(golden, ""));
    let (rows, words): (Vec<i64>, Vec<i64>) =
        labels.iter().enumerate().filter(|(_, label)| **label >= 0).map(|(row, &label)| (row as i64, label)).unzip();
    (Tensor::from_slice(&rows).to_device(test_device()), Tensor::from_slice(&words))
}

/// Every gradient, and that names and shapes are those of Transformers' file.
fn compare_gradients(table: &ParamTable, golden: &Golden, tolerance: &Tolerance, what: &str) {
    let mut compared = BTreeSet::new();
    let mut worst: (f64, String) = (0.0, String::new());
    for param in table.iter() {
        for (name, grad) in param.split(&param.grad().unwrap()).unwrap() {
            let expected = &golden[&format!("grad.{name}")];
            // Without rotary positions the keys' bias cannot change a softmax: its gradient is rounding noise around 0.
            if ["key.bias", ".k.bias", "k_lin.bias"].iter().any(|end| name.ends_with(end)) {
                assert_eq!(grad.size(), expected.size());
                assert!(grad.abs().max().double_value(&[]) < 1e-3, "{name}");
            } else {
                let difference = difference(&grad, expected);
                if difference > worst.0 {
                    worst = (difference, name.to_owned());
                }
            }
            assert_eq!(grad.size(), golden[&format!("weight.{name}")].size(), "{name}");
            compared.insert(name.to_owned());
        }
    }
    let with = |prefix: &str| -> BTreeSet<String> {
        golden.keys().filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned())).collect()
    };
    assert_eq!(compared, with("grad."), "{what}");
    assert_eq!(compared, with("weight."), "{what}");
    assert_within(worst.0, tolerance.gradients, &format!("gradient of {} ({what})", worst.1));
}

fn compare_classifier(family: &str, tolerance: &Tolerance) {
    let golden = part(family, "classifier.");
    let (model, table) = classifier(&golden, &config(family, "classifier"), tolerance.kind);
    let tokens = packed(&golden, "");
    let logits = model.forward(&tokens, &Mode::eval()).unwrap();
    let loss = loss(&logits, &golden["labels"]);
    assert_close(&logits, &golden["logits"], tolerance.logits, &format!("logits of the {family} classifier"));
    assert_close(&loss.reshape([1]), &golden["loss"], tolerance.losses, "loss");
    loss.backward();
    compare_gradients(&table, &golden, tolerance, &format!("{family} classifier"));
}

fn compare_masked_lm(family: &str, tolerance: &Tolerance) {
    let golden = part(family, "masked.");
    let config = config(family, "masked");
    let (model, table, report) = build(&golden, &config, tolerance.kind, |root| MaskedLm::new(root, &config));
    assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
    let (rows, words) = targets(&golden);
    let logits = model.forward(&packed(&golden, ""), &rows, &Mode::eval()).unwrap();
    let loss = loss(&logits, &words);
    assert_close(&logits, &golden["logits"], tolerance.logits, &format!("logits of the {family} masked model"));
    assert_close(&loss.reshape([1]), &golden["loss"], tolerance.losses, "loss");
    loss.backward();
    compare_gradients(&table, &golden, tolerance, &format!("{family} masked model"));
}

#[test]
fn classifiers_are_those_of_transformers() {
    for family in FAMILIES {
        compare_classifier(family, &FP32);
    }
}

#[test]
fn masked_language_models_are_those_of_transformers() {
    for family in FAMILIES {
        compare_masked_lm(family, &FP32);
    }
}

#[test]
fn every_family_in_bfloat16_stays_near_float32() {
    for family in FAMILIES {
        compare_classifier(family, &BF16);
        compare_masked_lm(family, &BF16);
    }
}

#[test]
fn embeddings_are_means_over_each_text() {
    for family in FAMILIES {
        let golden = part(family, "classifier.");
        let config = config(family, "classifier");
        let (model, table, report) = build(&golden, &config, Kind::Float, |root| TextEmbedder::new(root, &config));
        let embeddings = model.forward(&packed(&golden, ""), &Mode::eval()).unwrap();
        assert_close(&embeddings, &golden["embeddings"], FP32.logits, &format!("embeddings of {family}"));
        // Head and pooler are no part of it; everything else is, and learns.
        let is_head = |name: &String| !name.starts_with(config.base_prefix()) || name.contains("pooler");
        assert!(report.initialised.is_empty() && report.unused.iter().all(is_head), "{report:?}");
        (&embeddings * &embeddings).sum(Kind::Float).backward();
        assert!(table.iter().all(|param| param.grad().is_some_and(|grad| grad.abs().max().double_value(&[]) > 0.0)));
    }
}

#[test]
fn loss_curves_of_twenty_steps_are_those_of_pytorch() {
    for family in &FAMILIES[1..] {
        let golden = part(family, "curve.");
        let mut json = config_json(family, "classifier");
        if *family == "modernbert" {
            json["classifier_pooling"] = "cls".into();
        }
        let (model, mut table) = classifier(&golden, &TextConfig::parse(&json.to_string()).unwrap(), Kind::Float);
        let mut optimizer = AdamW::new(&table, AdamWConfig::new(0.01, 1.0)).unwrap();
        let schedule = Schedule { kind: LrSchedule::Linear, peak: 2e-3, warmup_steps: 3, total_steps: 20 };
        let mut worst = 0.0_f64;
        for step in 0..20 {
            let prefix = format!("step{step}.");
            let logits = model.forward(&packed(&golden, &prefix), &Mode::train(step)).unwrap();
            let loss = loss(&logits, &golden[&format!("{prefix}labels")]);
            loss.backward();
            let norm = optimizer.grad_norm(&table).unwrap();
            optimizer.step(&mut table, schedule.learning_rate(step), &norm).unwrap();
            for (what, value) in [("losses", &loss), ("norms", &norm)] {
                let expected = golden[what].double_value(&[step as i64]);
                worst = worst.max((value.double_value(&[]) - expected).abs() / expected);
            }
        }
        assert_within(worst, FP32.losses, &format!("losses and norms of {family}"));
    }
}

#[test]
fn a_text_gives_the_same_alone_and_in_a_batch() {
    for family in FAMILIES {
        let golden = part(family, "classifier.");
        let (model, _) = classifier(&golden, &config(family, "classifier"), Kind::Float);
        let all = model.forward(&packed(&golden, ""), &Mode::eval()).unwrap();
        for row in 0..6 {
            let alone = golden
                .iter()
                .filter(|(name, _)| ["input_ids", "token_type_ids", "lengths"].contains(&name.as_str()))
                .map(|(name, tensor)| (name.clone(), tensor.narrow(0, row, 1)))
                .collect();
            let alone = model.forward(&packed(&alone, ""), &Mode::eval()).unwrap();
            assert_close(&alone, &all.narrow(0, row, 1), 1e-5, &format!("row {row} of {family}"));
        }
    }
}

#[test]
fn the_head_is_what_follows_the_features() {
    for family in FAMILIES {
        let golden = part(family, "classifier.");
        let (model, table) = classifier(&golden, &config(family, "classifier"), Kind::Float);
        let features = model.features(&packed(&golden, ""), &Mode::eval()).unwrap().detach();
        model.head(&features, &Mode::eval()).unwrap().sum(Kind::Float).backward();
        let trained = table.iter().filter(|param| param.grad().is_some()).flat_map(|param| &param.parts);
        let mut names: Vec<&str> = trained.map(|part| part.0.as_str()).collect();
        names.sort_unstable();
        let expected: &[&str] = match family {
            "bert" => &["classifier.bias", "classifier.weight"],
            "distilbert" => &["classifier.bias", "classifier.weight", "pre_classifier.bias", "pre_classifier.weight"],
            "modernbert" => &["classifier.bias", "classifier.weight", "head.dense.weight", "head.norm.weight"],
            _ => &[
                "classifier.dense.bias",
                "classifier.dense.weight",
                "classifier.out_proj.bias",
                "classifier.out_proj.weight",
            ],
        };
        assert_eq!(names, expected, "{family}");
    }
}

#[test]
fn a_saved_masked_model_is_read_again_with_its_tied_table_once() {
    for family in FAMILIES {
        let golden = part(family, "masked.");
        let config = config(family, "masked");
        let (_, table, _) = build(&golden, &config, Kind::Float, |root| MaskedLm::new(root, &config));
        let folder = tempfile::tempdir().unwrap();
        weights::write(&folder.path().join("model.safetensors"), &table.named().unwrap()).unwrap();
        let weights = Weights::open(folder.path(), config.base_prefix()).unwrap();
        let (_, again, report) = params::build(&weights, params::Placement::new(Device::Cpu, Kind::Float, 1), |root| {
            MaskedLm::new(root, &config)
        })
        .unwrap();
        assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
        for (name, value) in again.named().unwrap() {
            assert_eq!(value, golden[&format!("weight.{name}")], "{name}");
        }
    }
}

#[test]
fn every_dropout_of_a_config_takes_part() {
    for (family, fields) in [
        ("bert", &["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"][..]),
        ("roberta", &["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"]),
        ("mpnet", &["hidden_dropout_prob", "attention_probs_dropout_prob"]),
        ("distilbert", &["dropout", "attention_dropout", "seq_classif_dropout"]),
        ("modernbert", &["embedding_dropout", "attention_dropout", "mlp_dropout", "classifier_dropout"]),
    ] {
        let golden = part(family, "classifier.");
        for field in fields {
            let mut json = config_json(family, "classifier");
            json[field] = 0.5.into();
            let (model, _) = classifier(&golden, &TextConfig::parse(&json.to_string()).unwrap(), Kind::Float);
            let logits = |mode: &Mode| model.forward(&packed(&golden, ""), mode).unwrap();
            assert_close(&logits(&Mode::eval()), &golden["logits"], FP32.logits, "logits without dropout");
            assert!(difference(&logits(&Mode::train(1)), &golden["logits"]) > 1e-3, "{family} {field}");
        }
    }
}

/// Names that start anew and names not used, when a tiny base model becomes the model of a task.
fn from_base(name: &str, task: TextTask) -> (Vec<String>, Vec<String>) {
    let folder = golden_path(name);
    let config = TextConfig::parse(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let weights = Weights::open(&folder, config.base_prefix()).unwrap();
    let placement = params::Placement::new(Device::Cpu, Kind::Float, 0);
    let built = match task {
        TextTask::Classification => params::build(&weights, placement, |root| {
            TextClassifier::new(root, &config, 3, Init::Fresh(0.02)).map(drop)
        }),
        TextTask::MaskedLm => params::build(&weights, placement, |root| MaskedLm::new(root, &config).map(drop)),
        TextTask::CausalLm => params::build(&weights, placement, |root| CausalLm::new(root, &config).map(drop)),
        TextTask::Embedding => params::build(&weights, placement, |root| TextEmbedder::new(root, &config).map(drop)),
    };
    let ((), table, report) = built.unwrap();
    for (name, value) in table.named().unwrap() {
        if report.initialised.contains(&name) && name.to_lowercase().contains("norm.weight") {
            assert_eq!(value, value.ones_like(), "{name}");
        }
    }
    (report.initialised, report.unused)
}

#[test]
fn base_models_become_the_models_of_every_task() {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let head = names(&["classifier.weight", "classifier.bias"]);
    let (new, unused) = from_base("tiny-distilbert", TextTask::Classification);
    assert_eq!(new, [names(&["pre_classifier.weight", "pre_classifier.bias"]), head.clone()].concat());
    assert!(unused.is_empty(), "{unused:?}");
    let (new, unused) = from_base("tiny-distilbert", TextTask::MaskedLm);
    let kinds = ["vocab_transform.weight", "vocab_transform.bias", "vocab_layer_norm.weight", "vocab_layer_norm.bias"];
    assert_eq!(new, [names(&kinds), names(&["vocab_projector.bias"])].concat());
    assert!(unused.is_empty(), "{unused:?}");

    // Published ModernBERT and RoBERTa come as masked models; ModernBERT's classifier goes on with the same head.
    assert_eq!(from_base("tiny-modernbert", TextTask::Classification), (head, names(&["decoder.bias"])));
    let (new, unused) = from_base("tiny-roberta", TextTask::Classification);
    assert_eq!((new.len(), unused.len()), (4, 5), "{new:?} {unused:?}");
    for model in ["tiny-roberta", "tiny-modernbert"] {
        assert_eq!(from_base(model, TextTask::MaskedLm), (vec![], vec![]), "{model}");
    }

    let (new, unused) = from_base("tiny-bert", TextTask::MaskedLm);
    assert!(new.len() == 5 && new.iter().all(|name| name.starts_with("cls.predictions.")), "{new:?}");
    assert_eq!(unused, ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]);
    for model in ["tiny-bert", "tiny-roberta", "tiny-distilbert", "tiny-modernbert"] {
        assert!(from_base(model, TextTask::Embedding).0.is_empty(), "{model}");
    }
}

#[test]
fn a_config_says_what_the_model_takes_and_what_it_is_called() {
    let facts = |family: &str| {
        let config = config(family, "masked");
        let names = [TextTask::Classification, TextTask::MaskedLm, TextTask::Embedding].map(|t| config.architecture(t));
        (config.max_tokens(), config.has_token_types(), config.base_prefix(), names)
    };
    let names =
        |prefix: &str| ["ForSequenceClassification", "ForMaskedLM", "Model"].map(|end| format!("{prefix}{end}"));
    assert_eq!(facts("bert"), (40, true, "bert", names("Bert")));
    // 40 rows, of which the padding's and the one before it are never a token's.
    assert_eq!(facts("roberta"), (38, false, "roberta", names("Roberta")));
    assert_eq!(facts("xlm-roberta"), (38, true, "roberta", names("XLMRoberta")));
    assert_eq!(facts("mpnet"), (38, false, "mpnet", names("MPNet")));
    assert_eq!(facts("distilbert"), (40, false, "distilbert", names("DistilBert")));
    assert_eq!(facts("modernbert"), (40, false, "model", names("ModernBert")));
}

#[test]
fn old_and_new_configs_of_modernbert_are_the_same_model() {
    let golden = part("modernbert", "classifier.");
    let mut json = config_json("modernbert", "classifier");
    let fields = json.as_object_mut().unwrap();
    fields.remove("layer_types");
    fields.remove("rope_parameters");
    let logits = |json: &serde_json::Value| {
        let (model, _) = classifier(&golden, &TextConfig::parse(&json.to_string()).unwrap(), Kind::Float);
        model.forward(&packed(&golden, ""), &Mode::eval()).unwrap()
    };
    json["global_attn_every_n_layers"] = 3.into();
    json["global_rope_theta"] = 160_000.0.into();
    json["local_rope_theta"] = 10_000.0.into();
    assert_close(&logits(&json), &golden["logits"], FP32.logits, "logits of the old config");
    for (field, value) in [
        ("global_attn_every_n_layers", serde_json::Value::from(2)),
        ("global_rope_theta", 1000.0.into()),
        ("local_rope_theta", 100.0.into()),
        ("local_attention", 4.into()),
    ] {
        let mut other = json.clone();
        other[field] = value;
        assert!(difference(&logits(&other), &golden["logits"]) > 1e-3, "{field} makes a difference");
    }
}

#[test]
fn what_is_not_built_is_refused_by_its_field() {
    let refused = |family: &str, field: &str, value: serde_json::Value| {
        let mut json = config_json(family, "masked");
        json[field] = value;
        TextConfig::parse(&json.to_string()).unwrap_err().to_string()
    };
    let named = |family: &str, field: &str, value: serde_json::Value, message: &str| {
        let text = refused(family, field, value);
        assert!(text.contains(message), "{family} {field}: {text}");
    };
    named(
        "roberta",
        "hidden_act",
        "mish".into(),
        "hidden_act is mish; supported: gelu, gelu_new, gelu_pytorch_tanh, relu, silu",
    );
    named("roberta", "position_embedding_type", "relative_key".into(), "position_embedding_type is relative_key");
    named("roberta", "pad_token_id", 39.into(), "pad_token_id is 39");
    named("xlm-roberta", "is_decoder", true.into(), "is_decoder");
    named("mpnet", "relative_attention_num_buckets", 64.into(), "relative_attention_num_buckets is 64; supported: 32");
    named("bert", "num_hidden_layers", 0.into(), "num_hidden_layers is 0; supported: 1 to 1000");
    named("bert", "type_vocab_size", 0.into(), "type_vocab_size is 0");
    named("distilbert", "activation", "mish".into(), "activation is mish");
    named("distilbert", "n_heads", 3.into(), "n_heads is 3; supported: a divisor of dim");
    named("distilbert", "dim", "wide".into(), "dim");
    named("modernbert", "hidden_activation", "mish".into(), "hidden_activation is mish");
    named("modernbert", "classifier_activation", "tanh".into(), "classifier_activation is tanh");
    named(
        "modernbert",
        "num_attention_heads",
        16.into(),
        "num_attention_heads is 16; supported: heads of an even size",
    );
    named("modernbert", "classifier_pooling", "max".into(), "classifier_pooling");
    named("modernbert", "layer_types", serde_json::json!(["full_attention"]), "layer_types is 1 long");
    named("modernbert", "layer_types", serde_json::json!(["chunked_attention"]), "layer_types");
    named("modernbert", "rope_scaling", serde_json::json!({"factor": 2}), "rope_scaling is");
    let scaled = serde_json::json!({"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}});
    named("modernbert", "rope_parameters", scaled, "rope_type is yarn; supported: default");

    let mut json = config_json("bert", "masked");
    json["tie_word_embeddings"] = false.into();
    let config = TextConfig::parse(&json.to_string()).unwrap();
    let weights = Weights::open(&golden_path("tiny-bert"), "bert").unwrap();
    let untied = params::build(&weights, params::Placement::new(Device::Cpu, Kind::Float, 0), |root| {
        MaskedLm::new(root, &config)
    })
    .err();
    assert!(untied.unwrap().to_string().contains("tie_word_embeddings is false; supported: true"));
}

#[test]
fn ids_of_a_byte_level_tokenizer_are_those_of_transformers() {
    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
    }
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(golden_path("byte_tokens.json")).unwrap()).unwrap();
    let tokenizer = TextTokenizer::open(&golden_path("tiny-roberta"), 64, 320).unwrap();
    for case in cases {
        assert_eq!(tokenizer.encode(&[(case.text.as_str(), None)]).unwrap()[0].ids, case.ids, "{:?}", case.text);
    }
}
