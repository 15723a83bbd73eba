//! GGUF files as model folders of Hugging Face.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::config::{self, Model};
use super::container::Gguf;
use super::names::{Slot, slots};
use super::rope;
use super::stored::{Stored, write_weights};
use super::tensors::Tensor;
use super::tokenizer::Tokenizer;
use super::types::TensorType;
use super::vocabulary::Special;

/// Writes the model in a GGUF file into `directory`, which is made if it is not there: `config.json`,
/// `generation_config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json` and, if the file has one,
/// `chat_template.jinja`. Tensors are in bfloat16, or in the type of the file's matrices if that is F16 or F32; about
/// one of them is held at a time. Returned is what should be known of the model, as sentences without a full stop.
///
/// # Errors
/// The file cannot be read (see [`Gguf::open`]), holds what is not supported, or does not hold all that a model needs;
/// or `directory` cannot be written, and what is there then is worthless.
pub fn convert(path: &Path, directory: &Path) -> Result<Vec<String>, String> {
    let gguf = Gguf::open(path)?;
    let Plan { slots, stored, files, notes } = Plan::read(&gguf)?;
    let unwritable = |error: std::io::Error| format!("the model's folder cannot be written: {error}");
    fs::create_dir_all(directory).map_err(unwritable)?;
    for (name, content) in files {
        fs::write(directory.join(name), content).map_err(unwritable)?;
    }
    write_weights(&gguf, slots, stored, &directory.join("model.safetensors"))?;
    Ok(notes)
}

/// All that a folder will hold.
struct Plan<'a> {
    slots: Vec<(Slot, &'a Tensor)>,
    stored: Stored,
    /// Content by name, of all files but the weights.
    files: Vec<(&'static str, Vec<u8>)>,
    notes: Vec<String>,
}

impl<'a> Plan<'a> {
    fn read(gguf: &'a Gguf) -> Result<Self, String> {
        let Model { architecture, dimensions, mut config } = config::read(gguf)?;
        let tokenizer = Tokenizer::read(gguf.metadata(), architecture)?;
        let slots = filled(gguf, slots(architecture, &dimensions), architecture.gguf())?;
        let (tokens, rows) = (tokenizer.vocabulary.tokens.len(), dimensions.vocabulary);
        if tokens as u64 > rows {
            return Err(format!("the GGUF file has {tokens} tokens, of which only {rows} have embeddings"));
        }
        let stored = Stored::of(slots.iter().map(|(_, tensor)| *tensor));
        let special = &tokenizer.vocabulary.special;
        config.insert("dtype".to_owned(), json!(stored.name()));
        config.insert("bos_token_id".to_owned(), json!(special.bos));
        config.insert("eos_token_id".to_owned(), json!(special.eos));
        config.insert("pad_token_id".to_owned(), json!(special.padding));
        let mut files = vec![
            ("config.json", pretty(&config)),
            ("generation_config.json", pretty(&generation(special))),
            ("tokenizer.json", tokenizer.json(gguf.metadata())?),
            ("tokenizer_config.json", pretty(&tokenizer.config(dimensions.positions))),
        ];
        files.extend(tokenizer.template.map(|template| ("chat_template.jinja", template.into())));
        let notes = quantised(&slots).into_iter().chain(tokenizer.notes).collect();
        Ok(Self { slots, stored, files, notes })
    }
}

/// The fields of `generation_config.json`.
fn generation(special: &Special) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, id) in [("bos_token_id", special.bos), ("pad_token_id", special.padding)] {
        fields.extend(id.map(|id| (name.to_owned(), json!(id))));
    }
    let ends = special.all_ends();
    let ends = match ends[..] {
        [] => None,
        [end] => Some(json!(end)),
        ref ends => Some(json!(ends)),
    };
    fields.extend(ends.map(|ends| ("eos_token_id".to_owned(), ends)));
    fields
}

fn pretty(fields: &Map<String, Value>) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(fields).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The tensor of each slot.
///
/// # Errors
/// One is missing or has another shape, or there are some that the model does not have.
fn filled<'a>(gguf: &'a Gguf, slots: Vec<Slot>, architecture: &str) -> Result<Vec<(Slot, &'a Tensor)>, String> {
    let named = |(name, tensor): (&'a String, &'a Tensor)| (name.as_str(), tensor);
    let mut left: BTreeMap<&str, &Tensor> = gguf.tensors().iter().map(named).collect();
    let fill = |slot: Slot| {
        let name = &slot.gguf;
        let tensor = left.remove(name.as_str());
        let tensor = tensor.ok_or_else(|| format!("the GGUF file does not have the tensor {name}"))?;
        let (found, expected) = (&tensor.shape, slot.gguf_shape());
        if *found != expected {
            return Err(format!(
                "the tensor {name} of the GGUF file has the shape {found:?}; by the metadata it is {expected:?}"
            ));
        }
        if tensor.kind.is_quantised() && expected.len() == 1 {
            let kind = tensor.kind.name();
            return Err(format!(
                "the tensor {name} of the GGUF file is stored as {kind}; norms and biases are read as F32, F16 and BF16"
            ));
        }
        Ok((slot, tensor))
    };
    let filled = slots.into_iter().map(fill).collect::<Result<Vec<_>, _>>()?;
    let is_known = |name: &str| matches!(name, rope::FACTORS | rope::LONG_FACTORS | rope::SHORT_FACTORS);
    match left.into_keys().find(|name| !is_known(name)) {
        Some(name) => Err(format!(
            "the GGUF file has the tensor {name}, which no supported model of the architecture {architecture} has"
        )),
        None => Ok(filled),
    }
}

/// What is to be known of a model whose matrices were quantised.
fn quantised(slots: &[(Slot, &Tensor)]) -> Option<String> {
    let mut counts: BTreeMap<TensorType, usize> = BTreeMap::new();
    for (_, tensor) in slots.iter().filter(|(_, tensor)| tensor.kind.is_quantised()) {
        *counts.entry(tensor.kind).or_default() += 1;
    }
    if counts.is_empty() {
        return None;
    }
    let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} as {}", kind.name())).collect();
    let (all, counts) = (slots.len(), counts.join(", "));
    Some(format!(
        "the weights in the GGUF file were quantised (of {all} tensors, {counts}), so they are near to those that were \
         trained, and not the same: a tune starts a little worse than from the original, and what it makes is stored \
         in bfloat16"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::architecture::Architecture;
    use crate::gguf::encode::Entry;
    use crate::gguf::samples::{Entries, entries, model, put, sentence_piece, texts, value};

    type Folder = BTreeMap<String, Vec<u8>>;

    /// The files of the folder that a model becomes, and what is to be known of it.
    fn converted(architecture: Architecture, entries: &Entries) -> Result<(Folder, Vec<String>), String> {
        let directory = tempfile::tempdir().unwrap();
        let (file, folder) = (directory.path().join("model.gguf"), directory.path().join("model"));
        fs::write(&file, model(architecture, entries)).unwrap();
        let notes = convert(&file, &folder)?;
        let file = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        Ok((fs::read_dir(&folder).unwrap().map(|entry| file(entry.unwrap())).collect(), notes))
    }

    fn refusal(change: impl FnOnce(&mut Entries)) -> String {
        let mut entries = entries(Architecture::Llama);
        change(&mut entries);
        converted(Architecture::Llama, &entries).unwrap_err()
    }

    #[test]
    fn every_architecture_becomes_a_whole_folder() {
        for name in ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "gpt2"] {
            let architecture = Architecture::from_gguf(name).unwrap();
            let (files, notes) = converted(architecture, &entries(architecture)).unwrap();
            assert!(notes.is_empty(), "{notes:?}");
            let names: Vec<&str> = files.keys().map(String::as_str).collect();
            let expected = [
                "chat_template.jinja",
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
            ];
            assert_eq!(names, expected);
            let config: Value = serde_json::from_slice(&files["config.json"]).unwrap();
            assert_eq!(config["architectures"][0], architecture.class());
            assert_eq!((&config["dtype"], &config["vocab_size"]), (&json!("float32"), &json!(10)));
            let generation: Value = serde_json::from_slice(&files["generation_config.json"]).unwrap();
            assert_eq!(generation, json!({"eos_token_id": [0, 1]}));
            let weights = safetensors::SafeTensors::deserialize(&files["model.safetensors"]).unwrap();
            let (name, gguf) = match architecture {
                Architecture::Gpt2 => ("transformer.h.0.attn.c_attn.bias", "blk.0.attn_qkv.bias"),
                _ => ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
            };
            let first = weights.tensor(name).unwrap().data()[..4].try_into().unwrap();
            assert_eq!(f32::from_le_bytes(first), value(gguf, 0));
        }
    }

    #[test]
    fn what_is_missing_or_not_supported_is_refused_by_name() {
        let architecture = refusal(|entries| put(entries, "general.architecture", Entry::Text("bert".to_owned())));
        assert!(architecture.contains("of the architecture bert, which is not supported; supported: llama, qwen2"));
        let experts = refusal(|entries| put(entries, "llama.expert_count", Entry::Whole(8)));
        assert_eq!(experts, "the GGUF file holds a mixture of experts, which is not supported");
        let adapter = refusal(|entries| put(entries, "general.type", Entry::Text("adapter".to_owned())));
        assert_eq!(adapter, "the GGUF file is of the type adapter; whole models are supported");
        let layers = refusal(|entries| put(entries, "llama.block_count", Entry::Whole(2)));
        assert_eq!(layers, "the GGUF file does not have the tensor blk.1.attn_norm.weight");
        let layers = refusal(|entries| put(entries, "llama.block_count", Entry::Whole(u32::MAX)));
        assert_eq!(layers, "the key llama.block_count of the GGUF file is 4294967295; supported: 1 to 1024");
        let shape = refusal(|entries| put(entries, "llama.feed_forward_length", Entry::Whole(65)));
        assert!(shape.ends_with(
            "blk.0.ffn_gate.weight of the GGUF file has the shape [64, 32]; by the metadata it is [65, 32]"
        ));
        let words = refusal(|entries| put(entries, "tokenizer.ggml.pre", Entry::Text("viking".to_owned())));
        assert!(words.contains("as viking does"), "{words}");
        let merge = refusal(|entries| put(entries, "tokenizer.ggml.merges", texts(&["a x"])));
        assert_eq!(merge, "the GGUF file merges \"a x\", of which not all are tokens");
        let tokens = refusal(|entries| {
            let tokens: Vec<String> = (0..11).map(|id| format!("t{id}")).collect();
            put(entries, "tokenizer.ggml.tokens", Entry::Texts(tokens));
            put(entries, "tokenizer.ggml.token_type", Entry::Wholes(vec![1; 11]));
        });
        assert_eq!(tokens, "the GGUF file has 11 tokens, of which only 10 have embeddings");
    }

    #[test]
    fn a_guess_is_told() {
        let mut entries = entries(Architecture::Llama);
        put(&mut entries, "tokenizer.ggml.pre", Entry::Text("default".to_owned()));
        let (_, notes) = converted(Architecture::Llama, &entries).unwrap();
        assert!(notes[0].contains("it was taken to do it as gpt-2 does"), "{notes:?}");
    }

    #[test]
    fn any_changed_byte_of_the_head_is_read_or_refused() {
        let mut metadata = entries(Architecture::Llama);
        sentence_piece(&mut metadata);
        for entries in [entries(Architecture::Gemma3), metadata] {
            let Entry::Text(name) = entries[0].1.clone() else { panic!("no name") };
            let mut file = model(Architecture::from_gguf(&name).unwrap(), &entries);
            let head = file.windows(5).rposition(|bytes| bytes == b"token").unwrap() + 64;
            for place in 0..head {
                for flipped in [0x01, 0x80] {
                    file[place] ^= flipped;
                    if let Ok(gguf) = Gguf::in_memory(&file) {
                        let _ = Plan::read(&gguf);
                    }
                    file[place] ^= flipped;
                }
            }
        }
    }
}
