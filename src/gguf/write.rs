//! Model folders of Hugging Face as GGUF files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value};

use super::architecture::Architecture;
use super::encode::{Announced, Entry, write_head};
use super::fields::Fields;
use super::folder::{self, Weights};
use super::hyperparameters;
use super::names::{Change, Dimensions, Slot, slots};
use super::packed::{pack, rows};
use super::rope;
use super::scaling::Rope;
use super::tokens;
use super::types::TensorType;
use crate::domain::method::language::GgufType;

/// The type of matrices, and the number of `general.file_type` (`enum llama_ftype` of llama.cpp).
fn encoding(kind: GgufType) -> (TensorType, u32) {
    match kind {
        GgufType::F16 => (TensorType::F16, 1),
        GgufType::Bf16 => (TensorType::Bf16, 32),
        GgufType::Q8_0 => (TensorType::Q8_0, 7),
    }
}

/// Whether the model in a folder is one that [`export`] writes, as far as it can be told without its weights.
///
/// # Errors
/// It is not: what is missing.
pub fn check(model_directory: &Path) -> Result<(), String> {
    let config = config(model_directory)?;
    let (architecture, fields) = (architecture(&config)?, Fields(&config));
    let words = config.get("vocab_size").and_then(Value::as_u64).unwrap_or_default();
    let dimensions = hyperparameters::dimensions(architecture, fields, words)?;
    hyperparameters::entries(architecture, fields, &dimensions, &Rope::read(architecture, fields)?)?;
    tokens::entries(model_directory, &config, dimensions.vocabulary as usize).map(drop)
}

/// Writes the model in a folder to the file `out`, as llama.cpp reads it: Llama and Mistral, Qwen 2 and 3, Gemma to
/// Gemma 3 and GPT-2, from `config.json`, `model.safetensors` or its shards, `tokenizer.json`, `tokenizer_config.json`
/// and the chat template. A row is held at a time.
///
/// Windows of Mistral's attention are left out: llama.cpp has none for it. `name` is what programs show it by.
///
/// # Errors
/// A file is missing or damaged, the model or its tokenizer is one that llama.cpp does not have, or `out` cannot be
/// written; it is not there then.
pub fn export(model_directory: &Path, name: &str, kind: GgufType, out: &Path) -> Result<(), String> {
    let config = config(model_directory)?;
    let fields = Fields(&config);
    let architecture = architecture(&config)?;
    let weights = Weights::open(model_directory)?;
    let source = Source::new(architecture, fields, &weights)?;
    let mut entries = vec![
        ("general.architecture".to_owned(), Entry::Text(architecture.gguf().to_owned())),
        ("general.type".to_owned(), Entry::Text("model".to_owned())),
        ("general.name".to_owned(), Entry::Text(name.to_owned())),
        ("general.file_type".to_owned(), Entry::Whole(encoding(kind).1)),
        ("general.quantization_version".to_owned(), Entry::Whole(2)),
    ];
    entries.extend(hyperparameters::entries(architecture, fields, &source.dimensions, &source.rope)?);
    entries.extend(tokens::entries(model_directory, &config, source.dimensions.vocabulary as usize)?);
    let written = source.write(&weights, kind, &entries, out);
    if written.is_err() {
        let _ = fs::remove_file(out);
    }
    written
}

fn config(model_directory: &Path) -> Result<Map<String, Value>, String> {
    Ok(folder::json(model_directory, "config.json")?.ok_or("the model does not have config.json")?)
}

/// The architecture of a model that writes texts.
fn architecture(config: &Map<String, Value>) -> Result<Architecture, String> {
    let model_type = config.get("model_type").and_then(Value::as_str);
    let architecture = Architecture::from_model_type(model_type.ok_or("config.json does not have model_type")?)?;
    let class = config.get("architectures").and_then(|classes| classes[0].as_str());
    let is_known = |class: &str| class == architecture.class() || class == "MistralForCausalLM";
    match class.filter(|class| !is_known(class)) {
        Some(class) => Err(format!("config.json is of a {class}; a {} is exported as GGUF", architecture.class())),
        None => Ok(architecture),
    }
}

/// What a folder's tensors become.
struct Source {
    dimensions: Dimensions,
    rope: Rope,
    /// Each with what the folder calls it.
    slots: Vec<(Slot, String)>,
}

impl Source {
    fn new(architecture: Architecture, fields: Fields, weights: &Weights) -> Result<Self, String> {
        let embedding =
            if architecture == Architecture::Gpt2 { "transformer.wte.weight" } else { "model.embed_tokens.weight" };
        let rows = called(weights, embedding)?;
        let rows = weights.shape(&rows).and_then(|shape| shape.first().copied()).unwrap_or_default();
        let dimensions = hyperparameters::dimensions(architecture, fields, rows)?;
        let rope = Rope::read(architecture, fields)?;
        let slots = slots(architecture, &dimensions).into_iter().map(|slot| {
            let name = called(weights, &slot.transformers)?;
            match weights.shape(&name) {
                Some(shape) if shape == slot.shape => Ok((slot, name)),
                shape => {
                    let (found, expected) = (shape.unwrap_or_default(), &slot.shape);
                    Err(format!("the tensor {name} has the shape {found:?}; by config.json it is {expected:?}"))
                }
            }
        });
        let slots = slots.collect::<Result<Vec<_>, String>>()?;
        let used: BTreeSet<&str> = slots.iter().map(|(_, name)| name.as_str()).collect();
        let is_needless = |name: &str| {
            let constants = [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"];
            dimensions.tied && name == "lm_head.weight" || constants.iter().any(|constant| name.ends_with(constant))
        };
        if let Some(name) = weights.names().find(|name| !used.contains(name) && !is_needless(name)) {
            return Err(format!("the model has the tensor {name}, which a {} does not have", architecture.class()));
        }
        Ok(Self { dimensions, rope, slots })
    }

    /// Writes the head and all tensors, and syncs the file.
    fn write(&self, weights: &Weights, kind: GgufType, entries: &[(String, Entry)], out: &Path) -> Result<(), String> {
        let announced = |(slot, _): &(Slot, String)| {
            let shape = slot.gguf_shape();
            Announced { kind: stored(slot, &shape, kind), name: slot.gguf.clone(), shape }
        };
        let mut tensors: Vec<Announced> = self.slots.iter().map(announced).collect();
        let factors = self.rope.factors(self.dimensions.head);
        if let Some(factors) = &factors {
            let shape = vec![factors.len() as u64];
            tensors.push(Announced { name: rope::FACTORS.to_owned(), shape, kind: TensorType::F32 });
        }
        let unwritable = |error: std::io::Error| format!("the GGUF file cannot be written: {error}");
        let mut file = BufWriter::new(File::create(out).map_err(unwritable)?);
        write_head(&mut file, entries, &tensors).map_err(unwritable)?;
        let padding = |tensor: &Announced| vec![0; tensor.padding() as usize];
        for ((slot, name), tensor) in self.slots.iter().zip(&tensors) {
            let put = |row: &[u8]| file.write_all(row).map_err(unwritable);
            rows(name, &weights.get(name)?, slot.change, tensor.kind, put)?;
            file.write_all(&padding(tensor)).map_err(unwritable)?;
        }
        if let (Some(factors), Some(tensor)) = (factors, tensors.last()) {
            let mut bytes = Vec::new();
            pack(&factors, TensorType::F32, &mut bytes)?;
            bytes.extend(padding(tensor));
            file.write_all(&bytes).map_err(unwritable)?;
        }
        let file = file.into_inner().map_err(|error| unwritable(error.into_error()))?;
        file.sync_all().map_err(unwritable)
    }
}

/// What the folder calls a tensor: models that were saved without a head leave the first part out.
fn called(weights: &Weights, name: &str) -> Result<String, String> {
    let bare = name.split_once('.').map_or(name, |(_, bare)| bare);
    let found = [name, bare].into_iter().find(|name| weights.shape(name).is_some());
    found.map(str::to_owned).ok_or_else(|| format!("the model does not have the tensor {name}"))
}

/// The type that a tensor is written in.
fn stored(slot: &Slot, shape: &[u64], kind: GgufType) -> TensorType {
    let is_matrix = shape.len() > 1 && slot.change != Change::PlusOne && slot.gguf != "position_embd.weight";
    match encoding(kind).0 {
        _ if !is_matrix => TensorType::F32,
        TensorType::Q8_0 if TensorType::Q8_0.bytes_of(shape.last().copied().unwrap_or(1)).is_none() => TensorType::F16,
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gguf::container::Gguf;
    use crate::gguf::convert::convert;
    use crate::gguf::samples::{self, entries, sentence_piece, value};

    /// The folder of a small model, in a directory of its own.
    fn folder(name: &str, change: impl FnOnce(&mut samples::Entries)) -> tempfile::TempDir {
        let architecture = Architecture::from_gguf(name).unwrap();
        let mut entries = entries(architecture);
        change(&mut entries);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("original.gguf");
        fs::write(&file, samples::model(architecture, &entries)).unwrap();
        convert(&file, &directory.path().join("model")).unwrap();
        directory
    }

    fn exported(directory: &Path, kind: GgufType) -> Result<Gguf, String> {
        let out = directory.join("exported.gguf");
        export(&directory.join("model"), "A model", kind, &out)?;
        Gguf::open(&out)
    }

    #[test]
    fn what_is_exported_converts_to_the_same_folder() {
        for name in ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gpt2"] {
            let directory = folder(name, |entries| {
                if name.starts_with("gemma") {
                    sentence_piece(entries);
                }
            });
            let directory = directory.path();
            exported(directory, GgufType::F16).unwrap();
            convert(&directory.join("exported.gguf"), &directory.join("again")).unwrap();
            for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"] {
                let read = |folder: &str| -> Value {
                    let mut content: Value =
                        serde_json::from_slice(&fs::read(directory.join(folder).join(file)).unwrap()).unwrap();
                    content["dtype"] = Value::Null;
                    content
                };
                assert_eq!(read("again"), read("model"), "{name} {file}");
            }
        }
    }

    #[test]
    fn matrices_are_written_in_the_wanted_kind_and_norms_in_f32() {
        let directory = folder("llama", |_| ());
        let path = directory.path().join("exported.gguf");
        for (kind, matrix) in
            [(GgufType::F16, TensorType::F16), (GgufType::Bf16, TensorType::Bf16), (GgufType::Q8_0, TensorType::Q8_0)]
        {
            let gguf = exported(directory.path(), kind).unwrap();
            assert_eq!(gguf.tensors()["blk.0.attn_q.weight"].kind, matrix);
            assert_eq!(gguf.tensors()["blk.0.attn_norm.weight"].kind, TensorType::F32);
            assert_eq!(samples::values(&path, "output_norm.weight")[3], value("output_norm.weight", 3));
            let found = samples::values(&path, "blk.0.attn_q.weight");
            let near = |(place, found): (usize, &f32)| (found - value("blk.0.attn_q.weight", place)).abs() < 0.005;
            assert!(found.iter().enumerate().all(near));
        }
    }

    #[test]
    fn models_that_llama_cpp_does_not_have_are_refused_and_leave_no_file() {
        let directory = folder("llama", |_| ());
        let path = directory.path().join("model/config.json");
        let config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let refusal = |name: &str, field: Value| {
            let mut config = config.clone();
            config[name] = field;
            fs::write(&path, config.to_string()).unwrap();
            let refused = exported(directory.path(), GgufType::F16).err().unwrap();
            assert!(!directory.path().join("exported.gguf").exists());
            refused
        };
        let refused = refusal("architectures", json!(["LlamaForSequenceClassification"]));
        assert_eq!(
            refused,
            "config.json is of a LlamaForSequenceClassification; a LlamaForCausalLM is exported as GGUF"
        );
        assert!(refusal("model_type", json!("bert")).contains("bert, which is not exported as GGUF"));
        let refused = refusal("num_hidden_layers", json!(2));
        assert_eq!(refused, "the model does not have the tensor model.layers.1.input_layernorm.weight");
        let refused = refusal("num_hidden_layers", json!(1_000_000));
        assert_eq!(refused, "num_hidden_layers of config.json is 1000000; supported: 1 to 1024");
        let refused = refusal("hidden_act", json!("gelu"));
        assert_eq!(refused, "hidden_act of config.json is \"gelu\"; models are exported as GGUF with \"silu\" alone");
        let refused = refusal("num_key_value_heads", json!(2));
        assert!(refused.contains("self_attn.k_proj.weight has the shape [16, 32]; by config.json it is [32, 32]"));
        let refused = refusal("rope_scaling", json!({"rope_type": "dynamic", "factor": 2.0}));
        assert!(refused.starts_with("config.json scales RoPE as dynamic"));
    }
}
