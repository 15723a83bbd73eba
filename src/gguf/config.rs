//! `config.json` of the model in a GGUF file, from its metadata (the keys are those of
//! [gguf.md](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), absent ones have llama.cpp's defaults).

use serde_json::{Map, Value, json};

use super::architecture::Architecture;
use super::container::Gguf;
use super::metadata::Metadata;
use super::names::Dimensions;
use super::rope;

/// Layers of a model, at most.
pub(super) const MAX_LAYERS: u64 = 1024;
/// Any other of its sizes, at most: products of some of them are still counted exactly.
pub(super) const MAX_SIZE: u64 = 1 << 24;
/// Rows of an embedding, at most.
pub(super) const MAX_VOCABULARY: u64 = 4 << 20;
/// Tokens of a text, at most.
pub(super) const MAX_POSITIONS: u64 = 1 << 31;

/// The model that a file holds.
pub(super) struct Model {
    pub(super) architecture: Architecture,
    pub(super) dimensions: Dimensions,
    /// Fields of `config.json`.
    pub(super) config: Map<String, Value>,
}

/// Metadata under the name of the architecture.
#[derive(Clone, Copy)]
struct Keys<'a> {
    metadata: Metadata<'a>,
    name: &'static str,
}

impl Keys<'_> {
    fn count(self, key: &str) -> Result<Option<u64>, String> {
        self.metadata.count(&format!("{}.{key}", self.name))
    }

    /// A size, within `1..=most`.
    fn size(self, key: &str, default: Option<u64>, most: u64) -> Result<u64, String> {
        let size = self.count(key)?.or(default).ok_or_else(|| self.missing(key))?;
        if !(1..=most).contains(&size) {
            return Err(format!("the key {}.{key} of the GGUF file is {size}; supported: 1 to {most}", self.name));
        }
        Ok(size)
    }

    fn number(self, key: &str) -> Result<Option<f64>, String> {
        self.metadata.number(&format!("{}.{key}", self.name))
    }

    fn missing(self, key: &str) -> String {
        format!("the GGUF file does not have the key {}.{key}", self.name)
    }
}

/// Reads what model a file holds.
///
/// # Errors
/// It is no language model of a supported architecture, a key is missing or out of bounds, or says what Transformers'
/// model of that architecture cannot do.
pub(super) fn read(gguf: &Gguf) -> Result<Model, String> {
    let metadata = gguf.metadata();
    let name = metadata.text("general.architecture")?;
    let name = name.ok_or("the GGUF file does not have the key general.architecture")?;
    if let Some(kind) = metadata.text("general.type")?.filter(|&kind| kind != "model") {
        return Err(format!("the GGUF file is of the type {kind}; whole models are supported"));
    }
    let architecture = Architecture::from_gguf(name)?;
    let keys = Keys { metadata, name: architecture.gguf() };
    if keys.count("expert_count")?.is_some_and(|experts| experts > 0) {
        return Err("the GGUF file holds a mixture of experts, which is not supported".to_owned());
    }
    let dimensions = dimensions(gguf, architecture, keys)?;
    let mut config = Map::new();
    config.insert("architectures".to_owned(), json!([architecture.class()]));
    config.insert("model_type".to_owned(), json!(architecture.model_type()));
    config.insert("vocab_size".to_owned(), json!(dimensions.vocabulary));
    config.insert("tie_word_embeddings".to_owned(), json!(dimensions.tied));
    let own = match architecture {
        Architecture::Gpt2 => gpt2(&dimensions, keys)?,
        _ => decoder(architecture, &dimensions, keys)?,
    };
    config.extend(own);
    if architecture != Architecture::Gpt2 {
        config.extend(rope::fields(gguf, architecture, &dimensions)?);
    }
    if architecture.is_gemma() {
        config.extend(gemma(architecture, &dimensions, keys)?);
    }
    Ok(Model { architecture, dimensions, config })
}

fn dimensions(gguf: &Gguf, architecture: Architecture, keys: Keys) -> Result<Dimensions, String> {
    let hidden = keys.size("embedding_length", None, MAX_SIZE)?;
    let heads = keys.size("attention.head_count", None, MAX_SIZE)?;
    let head = keys.size("attention.key_length", Some(hidden / heads), MAX_SIZE)?;
    if keys.size("attention.value_length", Some(head), MAX_SIZE)? != head {
        return Err("the GGUF file has heads whose keys and values differ in size, which is not supported".to_owned());
    }
    if architecture != Architecture::Gpt2 && !head.is_multiple_of(2) {
        return Err(format!("the GGUF file has heads of {head} values, which RoPE cannot turn in pairs"));
    }
    let embedding = gguf.tensors().get("token_embd.weight");
    let embedding = embedding.ok_or("the GGUF file does not have the tensor token_embd.weight")?;
    let key_heads = keys.size("attention.head_count_kv", Some(heads), MAX_SIZE)?;
    if !heads.is_multiple_of(key_heads) {
        return Err(format!(
            "the GGUF file has {heads} heads of queries and {key_heads} of keys, which they are no multiple of"
        ));
    }
    let has = |name: &str| gguf.tensors().contains_key(name);
    Ok(Dimensions {
        layers: keys.size("block_count", None, MAX_LAYERS)?,
        hidden,
        feed_forward: keys.size("feed_forward_length", None, MAX_SIZE)?,
        heads,
        key_heads,
        head,
        vocabulary: embedding.shape.first().copied().unwrap_or_default(),
        positions: keys.size("context_length", None, MAX_POSITIONS)?,
        tied: !has("output.weight"),
        biased: architecture.may_be_biased() && has("blk.0.attn_q.bias"),
    })
}

/// Fields of all models but GPT-2.
fn decoder(architecture: Architecture, dimensions: &Dimensions, keys: Keys) -> Result<Map<String, Value>, String> {
    let epsilon = "attention.layer_norm_rms_epsilon";
    let mut config = object(json!({
        "hidden_size": dimensions.hidden,
        "intermediate_size": dimensions.feed_forward,
        "num_hidden_layers": dimensions.layers,
        "num_attention_heads": dimensions.heads,
        "num_key_value_heads": dimensions.key_heads,
        "max_position_embeddings": dimensions.positions,
        "rms_norm_eps": keys.number(epsilon)?.ok_or_else(|| keys.missing(epsilon))?,
    }));
    let activation = if architecture.is_gemma() { "gelu_pytorch_tanh" } else { "silu" };
    if !matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3) {
        config.insert("hidden_act".to_owned(), json!(activation));
    }
    match architecture {
        Architecture::Qwen2 | Architecture::Phi3 if dimensions.head * dimensions.heads != dimensions.hidden => {
            let Dimensions { heads, head, hidden, .. } = dimensions;
            let name = architecture.gguf();
            return Err(format!(
                "the GGUF file has {heads} heads of {head} values for states of {hidden}, which {name} cannot have"
            ));
        }
        Architecture::Qwen2 => {}
        Architecture::Phi3 => {
            if let Some(window) = keys.count("attention.sliding_window")?.filter(|&window| window > 0) {
                config.insert("sliding_window".to_owned(), json!(window));
            }
        }
        _ => {
            config.insert("head_dim".to_owned(), json!(dimensions.head));
        }
    }
    if architecture.may_be_biased() {
        config.insert("attention_bias".to_owned(), json!(dimensions.biased));
    }
    Ok(config)
}

/// Fields that Gemma has besides.
fn gemma(architecture: Architecture, dimensions: &Dimensions, keys: Keys) -> Result<Map<String, Value>, String> {
    let mut config = object(json!({"hidden_activation": "gelu_pytorch_tanh"}));
    if architecture == Architecture::Gemma {
        return Ok(config);
    }
    let Dimensions { layers, hidden, heads, head, .. } = *dimensions;
    config.insert("query_pre_attn_scalar".to_owned(), json!(architecture.query_scalar(layers, hidden, heads, head)));
    let window = keys.count("attention.sliding_window")?.filter(|&window| window > 0);
    if architecture == Architecture::Gemma2 {
        config.insert("sliding_window".to_owned(), json!(window.unwrap_or(4096)));
        config
            .insert("attn_logit_softcapping".to_owned(), json!(keys.number("attn_logit_softcapping")?.unwrap_or(50.0)));
        config.insert(
            "final_logit_softcapping".to_owned(),
            json!(keys.number("final_logit_softcapping")?.unwrap_or(30.0)),
        );
        return Ok(config);
    }
    let period = keys.size("attention.sliding_window_pattern", Some(6), MAX_LAYERS)?;
    let kind = |layer: u64| match window {
        Some(_) if !(layer + 1).is_multiple_of(period) => "sliding_attention",
        _ => "full_attention",
    };
    config.insert("layer_types".to_owned(), (0..layers).map(kind).collect());
    config.insert("sliding_window_pattern".to_owned(), json!(period));
    config.insert("sliding_window".to_owned(), json!(window));
    config.insert("attn_logit_softcapping".to_owned(), Value::Null);
    config.insert(
        "final_logit_softcapping".to_owned(),
        json!(keys.number("final_logit_softcapping")?.filter(|&cap| cap != 0.0)),
    );
    Ok(config)
}

fn gpt2(dimensions: &Dimensions, keys: Keys) -> Result<Map<String, Value>, String> {
    let Dimensions { hidden, heads, head, key_heads, .. } = *dimensions;
    if head * heads != hidden || key_heads != heads {
        return Err(format!("the GGUF file has {heads} heads of {head} values, where states of GPT-2 have {hidden}"));
    }
    let epsilon = "attention.layer_norm_epsilon";
    Ok(object(json!({
        "n_positions": dimensions.positions,
        "n_ctx": dimensions.positions,
        "n_embd": hidden,
        "n_layer": dimensions.layers,
        "n_head": heads,
        "n_inner": dimensions.feed_forward,
        "layer_norm_epsilon": keys.number(epsilon)?.ok_or_else(|| keys.missing(epsilon))?,
        "activation_function": "gelu_new",
    })))
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}
