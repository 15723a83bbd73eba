//! Which tensors a model has, what they are called in GGUF files and in Transformers, and what llama.cpp does to their
//! values (`gguf-py/gguf/tensor_mapping.py` and `conversion/` of
//! [llama.cpp](https://github.com/ggml-org/llama.cpp)).

use super::architecture::Architecture;

/// How large a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dimensions {
    pub(super) layers: u64,
    pub(super) hidden: u64,
    pub(super) feed_forward: u64,
    pub(super) heads: u64,
    pub(super) key_heads: u64,
    /// Values of a head.
    pub(super) head: u64,
    /// Rows of the embedding.
    pub(super) vocabulary: u64,
    /// Tokens of the longest text.
    pub(super) positions: u64,
    /// Whether the output is the embedding once more.
    pub(super) tied: bool,
    /// Whether attention has biases, of an architecture that may be without.
    pub(super) biased: bool,
}

/// What the values in a GGUF file are of those in Transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// One more: Gemma's norms.
    PlusOne,
    /// Rows and columns exchanged: GPT-2's matrices.
    Transposed,
    /// Rows in another order: within each of so many heads, values that are turned together stand together, as
    /// in the first release of Llama.
    Interleaved {
        heads: u64,
    },
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) gguf: String,
    pub(super) transformers: String,
    /// Sizes in Transformers, the slowest first.
    pub(super) shape: Vec<u64>,
    pub(super) change: Change,
}

impl Slot {
    /// Sizes in GGUF files, the slowest first.
    pub(super) fn gguf_shape(&self) -> Vec<u64> {
        let mut shape = self.shape.clone();
        if self.change == Change::Transposed {
            shape.reverse();
        }
        shape
    }
}

/// A size of a tensor.
#[derive(Clone, Copy)]
enum Size {
    Hidden,
    FeedForward,
    /// Gate and values beside each other.
    BothFeedForward,
    Queries,
    Keys,
    /// Queries, keys and values beside each other.
    Fused,
    Head,
}

use Size::{BothFeedForward, FeedForward, Fused, Head, Hidden, Keys, Queries};

/// Name in GGUF files, name in Transformers, sizes.
type Row = (&'static str, &'static str, &'static [Size]);

const DECODER: [Row; 8] = [
    ("attn_norm.weight", "input_layernorm.weight", &[Hidden]),
    ("attn_q.weight", "self_attn.q_proj.weight", &[Queries, Hidden]),
    ("attn_k.weight", "self_attn.k_proj.weight", &[Keys, Hidden]),
    ("attn_v.weight", "self_attn.v_proj.weight", &[Keys, Hidden]),
    ("attn_output.weight", "self_attn.o_proj.weight", &[Hidden, Queries]),
    ("ffn_gate.weight", "mlp.gate_proj.weight", &[FeedForward, Hidden]),
    ("ffn_up.weight", "mlp.up_proj.weight", &[FeedForward, Hidden]),
    ("ffn_down.weight", "mlp.down_proj.weight", &[Hidden, FeedForward]),
];
const ONE_NORM_BETWEEN: [Row; 1] = [("ffn_norm.weight", "post_attention_layernorm.weight", &[Hidden])];
const NORMS_AROUND: [Row; 3] = [
    ("post_attention_norm.weight", "post_attention_layernorm.weight", &[Hidden]),
    ("ffn_norm.weight", "pre_feedforward_layernorm.weight", &[Hidden]),
    ("post_ffw_norm.weight", "post_feedforward_layernorm.weight", &[Hidden]),
];
const NORMS_OF_HEADS: [Row; 2] = [
    ("attn_q_norm.weight", "self_attn.q_norm.weight", &[Head]),
    ("attn_k_norm.weight", "self_attn.k_norm.weight", &[Head]),
];
const BIASES: [Row; 3] = [
    ("attn_q.bias", "self_attn.q_proj.bias", &[Queries]),
    ("attn_k.bias", "self_attn.k_proj.bias", &[Keys]),
    ("attn_v.bias", "self_attn.v_proj.bias", &[Keys]),
];
const BIAS_OF_OUTPUT: [Row; 1] = [("attn_output.bias", "self_attn.o_proj.bias", &[Hidden])];
const PHI3: [Row; 6] = [
    ("attn_norm.weight", "input_layernorm.weight", &[Hidden]),
    ("attn_qkv.weight", "self_attn.qkv_proj.weight", &[Fused, Hidden]),
    ("attn_output.weight", "self_attn.o_proj.weight", &[Hidden, Queries]),
    ("ffn_norm.weight", "post_attention_layernorm.weight", &[Hidden]),
    ("ffn_up.weight", "mlp.gate_up_proj.weight", &[BothFeedForward, Hidden]),
    ("ffn_down.weight", "mlp.down_proj.weight", &[Hidden, FeedForward]),
];
const GPT2: [Row; 12] = [
    ("attn_norm.weight", "ln_1.weight", &[Hidden]),
    ("attn_norm.bias", "ln_1.bias", &[Hidden]),
    ("attn_qkv.weight", "attn.c_attn.weight", &[Hidden, Fused]),
    ("attn_qkv.bias", "attn.c_attn.bias", &[Fused]),
    ("attn_output.weight", "attn.c_proj.weight", &[Hidden, Hidden]),
    ("attn_output.bias", "attn.c_proj.bias", &[Hidden]),
    ("ffn_norm.weight", "ln_2.weight", &[Hidden]),
    ("ffn_norm.bias", "ln_2.bias", &[Hidden]),
    ("ffn_up.weight", "mlp.c_fc.weight", &[Hidden, FeedForward]),
    ("ffn_up.bias", "mlp.c_fc.bias", &[FeedForward]),
    ("ffn_down.weight", "mlp.c_proj.weight", &[FeedForward, Hidden]),
    ("ffn_down.bias", "mlp.c_proj.bias", &[Hidden]),
];

/// The tensors of a layer.
fn rows(architecture: Architecture, biased: bool) -> Vec<Row> {
    let mut rows = match architecture {
        Architecture::Gpt2 => return GPT2.to_vec(),
        Architecture::Phi3 => return PHI3.to_vec(),
        Architecture::Gemma2 | Architecture::Gemma3 => [&DECODER[..], &NORMS_AROUND].concat(),
        _ => [&DECODER[..], &ONE_NORM_BETWEEN].concat(),
    };
    if matches!(architecture, Architecture::Qwen3 | Architecture::Gemma3) {
        rows.extend(NORMS_OF_HEADS);
    }
    if biased || architecture == Architecture::Qwen2 {
        rows.extend(BIASES);
    }
    if biased {
        rows.extend(BIAS_OF_OUTPUT);
    }
    rows
}

/// All tensors of a model, besides factors of rotary embeddings, which Transformers has in `config.json`.
pub(super) fn slots(architecture: Architecture, dimensions: &Dimensions) -> Vec<Slot> {
    let mut slots = ends(architecture, dimensions);
    let (model, rows) = (
        if architecture == Architecture::Gpt2 { "transformer.h" } else { "model.layers" },
        rows(architecture, dimensions.biased),
    );
    for layer in 0..dimensions.layers {
        slots.extend(rows.iter().map(|&(gguf, transformers, sizes)| Slot {
            gguf: format!("blk.{layer}.{gguf}"),
            transformers: format!("{model}.{layer}.{transformers}"),
            shape: sizes.iter().map(|&size| dimensions.size(size)).collect(),
            change: change(architecture, dimensions, gguf),
        }));
    }
    slots
}

/// The tensors before and behind the layers.
fn ends(architecture: Architecture, dimensions: &Dimensions) -> Vec<Slot> {
    let Dimensions { hidden, vocabulary, positions, .. } = *dimensions;
    let rows: &[(&str, &str, Vec<u64>)] = if architecture == Architecture::Gpt2 {
        &[
            ("token_embd.weight", "transformer.wte.weight", vec![vocabulary, hidden]),
            ("position_embd.weight", "transformer.wpe.weight", vec![positions, hidden]),
            ("output_norm.weight", "transformer.ln_f.weight", vec![hidden]),
            ("output_norm.bias", "transformer.ln_f.bias", vec![hidden]),
        ]
    } else {
        &[
            ("token_embd.weight", "model.embed_tokens.weight", vec![vocabulary, hidden]),
            ("output_norm.weight", "model.norm.weight", vec![hidden]),
        ]
    };
    let output = ("output.weight", "lm_head.weight", vec![vocabulary, hidden]);
    let rows = rows.iter().chain((!dimensions.tied).then_some(&output));
    rows.map(|(gguf, transformers, shape)| Slot {
        gguf: (*gguf).to_owned(),
        transformers: (*transformers).to_owned(),
        shape: shape.clone(),
        change: change(architecture, dimensions, gguf),
    })
    .collect()
}

fn change(architecture: Architecture, dimensions: &Dimensions, gguf: &str) -> Change {
    match (architecture, gguf) {
        (Architecture::Llama, "attn_q.weight" | "attn_q.bias") => Change::Interleaved { heads: dimensions.heads },
        (Architecture::Llama, "attn_k.weight" | "attn_k.bias") => Change::Interleaved { heads: dimensions.key_heads },
        (Architecture::Gpt2, "attn_qkv.weight" | "attn_output.weight" | "ffn_up.weight" | "ffn_down.weight") => {
            Change::Transposed
        }
        _ if architecture.is_gemma() && gguf.ends_with("norm.weight") => Change::PlusOne,
        _ => Change::None,
    }
}

impl Dimensions {
    fn size(&self, size: Size) -> u64 {
        match size {
            Hidden => self.hidden,
            FeedForward => self.feed_forward,
            BothFeedForward => 2 * self.feed_forward,
            Queries => self.heads * self.head,
            Keys => self.key_heads * self.head,
            Fused => (self.heads + 2 * self.key_heads) * self.head,
            Head => self.head,
        }
    }
}

/// Where a row of an interleaved tensor of GGUF files stands in Transformers: of a head's rows, the first of each pair
/// are its first half.
pub(super) fn paired(row: u64, rows: u64, heads: u64) -> u64 {
    let head = (rows / heads.max(1)).max(1);
    let (start, place) = (row - row % head, row % head);
    start + place / 2 + place % 2 * (head / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimensions() -> Dimensions {
        Dimensions {
            layers: 2,
            hidden: 8,
            feed_forward: 12,
            heads: 4,
            key_heads: 2,
            head: 6,
            vocabulary: 100,
            positions: 16,
            tied: false,
            biased: false,
        }
    }

    fn slot(slots: &[Slot], gguf: &str) -> Slot {
        slots.iter().find(|slot| slot.gguf == gguf).cloned().unwrap()
    }

    #[test]
    fn names_and_shapes_are_those_of_transformers() {
        let slots = slots(Architecture::Llama, &dimensions());
        assert_eq!(slots.len(), 3 + 2 * 9);
        let keys = slot(&slots, "blk.1.attn_k.weight");
        assert_eq!((keys.transformers.as_str(), keys.shape), ("model.layers.1.self_attn.k_proj.weight", vec![12, 8]));
        assert_eq!(keys.change, Change::Interleaved { heads: 2 });
        assert_eq!(slot(&slots, "output.weight").transformers, "lm_head.weight");
    }

    #[test]
    fn each_architecture_has_its_own_norms_biases_and_changes() {
        let of = |architecture| slots(architecture, &Dimensions { tied: true, ..dimensions() });
        let has = |slots: &[Slot], gguf: &str| slots.iter().any(|slot| slot.gguf == gguf);
        assert!(has(&of(Architecture::Qwen2), "blk.0.attn_q.bias"));
        assert!(!has(&of(Architecture::Qwen2), "blk.0.attn_output.bias"));
        assert!(!has(&of(Architecture::Llama), "blk.0.attn_q.bias"));
        assert!(has(
            &slots(Architecture::Llama, &Dimensions { biased: true, ..dimensions() }),
            "blk.0.attn_output.bias"
        ));
        let gemma = of(Architecture::Gemma3);
        assert_eq!(
            slot(&gemma, "blk.0.ffn_norm.weight").transformers,
            "model.layers.0.pre_feedforward_layernorm.weight"
        );
        assert!(gemma.iter().filter(|slot| slot.change == Change::PlusOne).count() == 1 + 2 * 6);
        let gpt2 = slot(&of(Architecture::Gpt2), "blk.0.ffn_up.weight");
        assert_eq!((gpt2.shape.clone(), gpt2.gguf_shape()), (vec![8, 12], vec![12, 8]));
        let phi3 = slot(&of(Architecture::Phi3), "blk.0.attn_qkv.weight");
        assert_eq!((phi3.shape, phi3.change), (vec![48, 8], Change::None));
    }

    #[test]
    fn pairs_of_a_head_become_its_two_halves() {
        let places: Vec<u64> = (0..12).map(|row| paired(row, 12, 2)).collect();
        assert_eq!(places, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }
}
