//! Sentence embeddings against sentence-transformers: `tests/golden/sentences.py` makes the values.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use finetuned::domain::run::{RunSpec, TrainerCommand, TrainerMessage};
use finetuned_engine::data::texts::Texts;
use finetuned_engine::models::text::{SentenceConfig, SentencePooling, TextConfig, TextEmbedder};
use finetuned_engine::nn::Mode;
use finetuned_engine::observer::Observer;
use finetuned_engine::params::{self, Placement};
use finetuned_engine::text::TextTokenizer;
use finetuned_engine::weights::Weights;
use finetuned_engine::{device, run};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::support::{FP32, assert_close, copy_of, golden, golden_path};

type Files = BTreeMap<String, Value>;

#[derive(serde::Deserialize)]
struct Golden {
    texts: Vec<String>,
    longest: u32,
    cases: BTreeMap<String, Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    normalised: bool,
    /// As version 6 writes them, and as older ones did.
    files: Vec<Files>,
}

fn read() -> Golden {
    serde_json::from_slice(&fs::read(golden_path("sentences.json")).unwrap()).unwrap()
}

fn write(folder: &Path, files: &Files) {
    for (path, content) in files {
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), content.to_string()).unwrap();
    }
}

/// The tiny BERT with these files of sentence-transformers.
fn model(files: &Files) -> tempfile::TempDir {
    let folder = copy_of("tiny-bert");
    write(folder.path(), files);
    folder
}

fn open(files: &Files) -> Result<SentenceConfig, String> {
    SentenceConfig::open(model(files).path(), 32).map_err(|error| error.to_string())
}

fn embeddings(folder: &Path, sentence: &SentenceConfig, texts: &[String]) -> Tensor {
    let config = TextConfig::parse(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let weights = Weights::open(folder, config.base_prefix()).unwrap();
    let placement = Placement::new(Device::Cpu, Kind::Float, 0);
    let (model, ..) = params::build(&weights, placement, |root| TextEmbedder::new(root, &config)).unwrap();
    let model = model.with_pooling(sentence.pooling());
    let longest = sentence.max_seq_length().unwrap() as usize;
    let tokenizer = TextTokenizer::open(folder, longest, config.vocab_size()).unwrap();
    let pairs: Vec<(&str, Option<&str>)> = texts.iter().map(|text| (text.as_str(), None)).collect();
    let mut read = Texts::default();
    read.add(&pairs, &tokenizer).unwrap();
    let all: Vec<usize> = (0..texts.len()).collect();
    model.forward(&read.pack(&all, None).on(Device::Cpu).unwrap(), &Mode::eval()).unwrap()
}

#[test]
fn embeddings_are_those_of_sentence_transformers() {
    let (golden, values) = (read(), golden("sentences"));
    assert_eq!(golden.cases.len(), 8);
    for (name, case) in &golden.cases {
        for files in &case.files {
            let folder = model(files);
            let sentence = SentenceConfig::open(folder.path(), 32).unwrap();
            assert_eq!(sentence.max_seq_length(), Some(golden.longest), "{name}");
            let found = embeddings(folder.path(), &sentence, &golden.texts);
            let scale = if case.normalised {
                let squares = (&found * &found).sum_dim_intlist(&[1_i64][..], true, Kind::Float);
                squares.sqrt()
            } else {
                Tensor::from(1.0_f32)
            };
            assert_close(&(&found / scale), &values[name], FP32.logits, name);
            assert_eq!(!sentence.describe().contains("not normalised"), case.normalised, "{name}");
        }
    }
}

#[test]
fn every_way_of_pooling_is_differentiated() {
    let golden = read();
    for (name, case) in &golden.cases {
        let folder = model(&case.files[0]);
        let sentence = SentenceConfig::open(folder.path(), 32).unwrap();
        let config = TextConfig::parse(&fs::read_to_string(folder.path().join("config.json")).unwrap()).unwrap();
        let weights = Weights::open(folder.path(), config.base_prefix()).unwrap();
        let placement = Placement::new(Device::Cpu, Kind::Float, 0);
        let (model, table, _) = params::build(&weights, placement, |root| TextEmbedder::new(root, &config)).unwrap();
        let tokenizer = TextTokenizer::open(folder.path(), 9, config.vocab_size()).unwrap();
        let mut texts = Texts::default();
        texts.add(&[("where is my card", None), ("a", None)], &tokenizer).unwrap();
        let packed = texts.pack(&[0, 1], None).on(Device::Cpu).unwrap();
        let found = model.with_pooling(sentence.pooling()).forward(&packed, &Mode::train(1)).unwrap();
        (&found * &found).sum(Kind::Float).backward();
        let learns =
            |grad: Tensor| grad.abs().max().double_value(&[]) > 0.0 && grad.isfinite().all().int64_value(&[]) == 1;
        assert!(table.iter().all(|param| param.grad().is_some_and(learns)), "{name}");
    }
}

#[test]
fn a_plain_encoder_takes_the_normalised_mean_and_says_so() {
    let sentence = open(&Files::new()).unwrap();
    assert!(!sentence.is_given() && sentence.max_seq_length().is_none() && !sentence.lowers());
    let said = "the mean over all tokens, normalised, since it has no modules.json that says otherwise";
    assert!(sentence.describe().contains(said), "{}", sentence.describe());
    let files = sentence.files(Some(64));
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected =
        ["1_Pooling/config.json", "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json"];
    assert_eq!(names, expected);
    assert_eq!(files["sentence_bert_config.json"], json!({"max_seq_length": 64, "do_lower_case": false}));
    assert_eq!(files["modules.json"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_written_is_what_was_read_but_for_the_length() {
    let golden = read();
    for case in golden.cases.values() {
        for files in &case.files {
            let written = open(files).unwrap().files(Some(17));
            for (path, content) in files.iter().filter(|(path, _)| *path != "tokenizer_config.json") {
                let mut content = content.clone();
                if path == "sentence_bert_config.json" {
                    content["max_seq_length"] = json!(17);
                }
                assert_eq!(written[path], content, "{path}");
            }
            let again = open(&written).unwrap();
            assert_eq!((again.max_seq_length(), again.pooling()), (Some(17), open(files).unwrap().pooling()));
        }
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let base = read().cases["cls"].files[1].clone();
    let module = |class: &str, path: &str| json!({"idx": 2, "name": "2", "path": path, "type": class});
    let with = |change: &dyn Fn(&mut Files)| {
        let mut files = base.clone();
        change(&mut files);
        open(&files)
    };
    let add = |class: &'static str| {
        move |files: &mut Files| {
            files.get_mut("modules.json").unwrap().as_array_mut().unwrap().push(module(class, "2_Dense"));
        }
    };
    let set = |path: &'static str, field: &'static str, value: Value| {
        move |files: &mut Files| files.get_mut(path).unwrap()[field] = value.clone()
    };
    let place = |module: usize, path: &'static str| {
        move |files: &mut Files| files.get_mut("modules.json").unwrap()[module]["path"] = json!(path)
    };
    let pooling = "1_Pooling/config.json";
    let rows: [(&dyn Fn(&mut Files), &str); 11] = [
        (&add("sentence_transformers.models.Dense"), "modules.json has the module sentence_transformers.models.Dense"),
        (
            &add("custom_st.Normalize"),
            "modules.json has the module custom_st.Normalize in place 2; supported: Transformer",
        ),
        (&place(0, "0_Transformer"), "has its Transformer in 0_Transformer"),
        (&|files| drop(files.insert("modules.json".to_owned(), json!([]))), "modules.json has no Pooling"),
        (&|files| drop(files.insert("modules.json".to_owned(), json!({}))), "modules.json: "),
        (&place(1, "../1_Pooling"), "modules.json has the path \"../1_Pooling\"; supported: names of folders"),
        (&set(pooling, "pooling_mode", json!("attention")), "pooling_mode is \"attention\"; supported: cls, max, mean"),
        (&set(pooling, "pooling_mode_rms_tokens", json!(true)), "pooling_mode_rms_tokens is true; supported: cls"),
        (&set(pooling, "word_embedding_dimension", json!(768)), "word_embedding_dimension is 768, and config.json's"),
        (
            &set("sentence_bert_config.json", "transformer_task", json!("text-generation")),
            "transformer_task is \"text-generation\"; supported: feature-extraction",
        ),
        (
            &|files| {
                add("sentence_transformers.models.Normalize")(files);
                files.insert("2_Dense/config.json".to_owned(), json!({"module_input_name": "token_embeddings"}));
            },
            "2_Dense/config.json: module_input_name is \"token_embeddings\"; supported: sentence_embedding",
        ),
    ];
    for (change, said) in rows {
        let why = with(change).unwrap_err();
        assert!(why.contains(said), "{said}: {why}");
    }
    let missing = with(&|files| drop(files.remove(pooling))).unwrap();
    assert_eq!(missing.missing(), Some(pooling));
    let prompted = with(&|files| {
        let about =
            json!({"prompts": {"query": "query: "}, "default_prompt_name": "query", "similarity_fn_name": "dot"});
        files.insert("config_sentence_transformers.json".to_owned(), about);
    });
    let said = prompted.unwrap().describe();
    assert!(said.contains("its default prompt \"query\" is not put before the texts"), "{said}");
    assert!(said.contains("its similarity is \"dot\", while jobs compare by the cosine"), "{said}");
}

#[derive(Default)]
struct Notices(std::sync::Mutex<Vec<(bool, String)>>);

impl Observer for Notices {
    fn report(&self, message: TrainerMessage) {
        if let TrainerMessage::Notice { warning, message } = message {
            self.0.lock().unwrap().push((warning, message));
        }
    }

    fn stop(&self) -> Option<TrainerCommand> {
        None
    }
}

#[test]
fn a_model_that_was_imported_without_its_pooling_goes_on_with_the_mean_and_a_warning() {
    let mut files = read().cases["cls"].files[1].clone();
    files.remove("1_Pooling/config.json");
    let (base, folder) = (model(&files), tempfile::tempdir().unwrap());
    let pairs: String = (0..8)
        .map(|i| format!("{}\n", json!({"anchor": format!("card {i}"), "positive": format!("my new card {i}")})))
        .collect();
    fs::write(folder.path().join("pairs.jsonl"), pairs).unwrap();
    let mut spec: Value = serde_json::from_str(include_str!("../../../tests/fixtures/run_spec_v1.json")).unwrap();
    spec["method"] = json!("embedding");
    spec["training"] = json!({"path": folder.path().join("pairs.jsonl"), "format": "jsonl", "sha256": "00"});
    let mut spec: RunSpec = serde_json::from_value(spec).unwrap();
    spec.model = base.path().to_owned();
    (spec.labels, spec.validation, spec.test, spec.resume) = (Vec::new(), None, None, None);
    spec.hyperparameters.course.n_epochs = 1;
    spec.hyperparameters.course.max_sequence_length = 16;
    (spec.output, spec.checkpoints) = (folder.path().join("output"), folder.path().join("checkpoints"));
    let notices = Notices::default();
    run::run(&spec, device::prepare("cpu", 1).unwrap(), &notices).unwrap();
    let told =
        "modules.json names 1_Pooling/config.json, which the model was imported without, so that tokens are averaged";
    assert!(notices.0.into_inner().unwrap().contains(&(true, told.to_owned())));
    let saved = SentenceConfig::open(&spec.output, 32).unwrap();
    assert_eq!(
        (saved.pooling(), saved.missing(), saved.max_seq_length()),
        (&[SentencePooling::Mean][..], None, Some(16))
    );
}
