//! GGUF, the file format of llama.cpp: files become model folders of Hugging Face, and such folders files.

mod architecture;
mod bytes;
mod config;
mod container;
mod convert;
mod document;
mod encode;
mod fields;
mod float;
mod folder;
mod hyperparameters;
mod kquants;
mod merges;
mod metadata;
mod names;
mod packed;
mod pipeline;
mod quants;
mod rope;
mod scaling;
mod stored;
mod tensors;
mod tokenizer;
mod tokens;
mod types;
mod vocabulary;
mod words;
mod write;

pub use container::Gguf;
pub use convert::convert;
pub use tensors::Tensor;
pub use types::TensorType;
pub use write::{check, export};

/// Small GGUF files for tests.
#[cfg(test)]
mod samples {
    use std::path::Path;

    use super::architecture::Architecture;
    use super::container::Gguf;
    use super::encode::{Announced, Entry, write_head};
    use super::names::{Dimensions, slots};
    use super::quants::dequantize;
    use super::types::TensorType;

    pub(super) const DIMENSIONS: Dimensions = Dimensions {
        layers: 1,
        hidden: 32,
        feed_forward: 64,
        heads: 2,
        key_heads: 1,
        head: 16,
        vocabulary: 10,
        positions: 64,
        tied: true,
        biased: false,
    };

    pub(super) type Entries = Vec<(String, Entry)>;

    pub(super) fn announced(name: &str, shape: &[u64], kind: TensorType) -> Announced {
        Announced { name: name.to_owned(), shape: shape.to_vec(), kind }
    }

    pub(super) fn texts(items: &[&str]) -> Entry {
        Entry::Texts(items.iter().map(|&item| item.to_owned()).collect())
    }

    /// Puts an entry in the place of one with the same key, or at the end.
    pub(super) fn put(entries: &mut Entries, key: &str, entry: Entry) {
        entries.retain(|(other, _)| other != key);
        entries.push((key.to_owned(), entry));
    }

    /// A file with these entries and tensors, whose bytes are all one, and not all there of huge ones.
    pub(super) fn bytes(entries: &[(&str, Entry)], tensors: &[Announced]) -> Vec<u8> {
        let entries: Entries = entries.iter().map(|(key, entry)| ((*key).to_owned(), entry.clone())).collect();
        let mut file = Vec::new();
        write_head(&mut file, &entries, tensors).unwrap();
        for tensor in tensors {
            file.resize(file.len() + (tensor.bytes() + tensor.padding()).min(1 << 20) as usize, 1);
        }
        file
    }

    /// The value at a place of a tensor.
    pub(super) fn value(name: &str, place: usize) -> f32 {
        let seed = name.bytes().fold(7, |seed: usize, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        ((seed.wrapping_add(place.wrapping_mul(2_654_435_761)) >> 7) % 1000) as f32 / 1000.0 - 0.5
    }

    /// The metadata of a whole model.
    pub(super) fn entries(architecture: Architecture) -> Entries {
        let mut entries = vec![("general.architecture".to_owned(), Entry::Text(architecture.gguf().to_owned()))];
        let Dimensions { layers, hidden, feed_forward, heads, key_heads, positions, .. } = DIMENSIONS;
        let key_heads = if architecture == Architecture::Gpt2 { heads } else { key_heads };
        for (key, count) in [
            ("block_count", layers),
            ("context_length", positions),
            ("embedding_length", hidden),
            ("feed_forward_length", feed_forward),
            ("attention.head_count", heads),
            ("attention.head_count_kv", key_heads),
        ] {
            put(&mut entries, &format!("{}.{key}", architecture.gguf()), Entry::Whole(count as u32));
        }
        for key in ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"] {
            put(&mut entries, &format!("{}.{key}", architecture.gguf()), Entry::Number(1e-5));
        }
        byte_level(&mut entries);
        entries
    }

    /// A vocabulary of byte-level BPE, whose last token fills up the embedding.
    fn byte_level(entries: &mut Entries) {
        let tokens = ["<|endoftext|>", "<|im_end|>", "a", "b", "Ġ", "ab", "Ġa", "<tool>", "Ċ", "[PAD9]"];
        put(entries, "tokenizer.ggml.model", Entry::Text("gpt2".to_owned()));
        put(entries, "tokenizer.ggml.pre", Entry::Text("smollm".to_owned()));
        put(entries, "tokenizer.ggml.tokens", texts(&tokens));
        put(entries, "tokenizer.ggml.token_type", Entry::Wholes(vec![3, 3, 1, 1, 1, 1, 1, 4, 1, 5]));
        put(entries, "tokenizer.ggml.merges", texts(&["a b", "Ġ a"]));
        put(entries, "tokenizer.ggml.eos_token_id", Entry::Whole(0));
        put(entries, "tokenizer.ggml.eot_token_id", Entry::Whole(1));
        put(entries, "tokenizer.chat_template", Entry::Text("{{ messages }}".to_owned()));
    }

    /// A vocabulary of sentencepiece.
    pub(super) fn sentence_piece(entries: &mut Entries) {
        let tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "b", "ab", "▁a", "  "];
        entries.retain(|(key, _)| !key.starts_with("tokenizer."));
        put(entries, "tokenizer.ggml.model", Entry::Text("llama".to_owned()));
        put(entries, "tokenizer.ggml.tokens", texts(&tokens));
        put(entries, "tokenizer.ggml.token_type", Entry::Wholes(vec![2, 3, 3, 6, 1, 1, 1, 1, 1, 4]));
        let scores = vec![0.0, 0.0, 0.0, 0.0, -5.0, -6.0, -7.0, -1.0, -2.0, -1000.0];
        put(entries, "tokenizer.ggml.scores", Entry::Numbers(scores));
    }

    /// The file of a whole model in F32.
    pub(super) fn model(architecture: Architecture, entries: &Entries) -> Vec<u8> {
        let key_heads = if architecture == Architecture::Gpt2 { DIMENSIONS.heads } else { DIMENSIONS.key_heads };
        let slots = slots(architecture, &Dimensions { key_heads, ..DIMENSIONS });
        let tensor = |slot: &super::names::Slot| announced(&slot.gguf, &slot.gguf_shape(), TensorType::F32);
        let tensors: Vec<Announced> = slots.iter().map(tensor).collect();
        let mut file = Vec::new();
        write_head(&mut file, entries, &tensors).unwrap();
        for tensor in &tensors {
            let count = tensor.shape.iter().product::<u64>() as usize;
            file.extend((0..count).flat_map(|place| value(&tensor.name, place).to_le_bytes()));
            file.resize(file.len() + tensor.padding() as usize, 0);
        }
        file
    }

    /// The values of a tensor of a file.
    pub(super) fn values(path: &Path, name: &str) -> Vec<f32> {
        let gguf = Gguf::open(path).unwrap();
        let tensor = &gguf.tensors()[name];
        let mut values = Vec::new();
        dequantize(tensor.kind, gguf.bytes(tensor), &mut values);
        values
    }
}
