//! Metadata of a GGUF file about the model in a folder, from its `config.json` (`conversion/` of
//! [llama.cpp](https://github.com/ggml-org/llama.cpp)).

use serde_json::Value;

use super::architecture::Architecture;
use super::config::{MAX_LAYERS, MAX_POSITIONS, MAX_VOCABULARY};
use super::encode::Entry;
use super::fields::Fields;
use super::names::Dimensions;
use super::scaling::Rope;

/// How large the model is, whose embedding has so many rows.
///
/// # Errors
/// A field is missing, out of bounds, or says what llama.cpp cannot do. So it is with [`entries`].
pub(super) fn dimensions(architecture: Architecture, fields: Fields, vocabulary: u64) -> Result<Dimensions, String> {
    if vocabulary > MAX_VOCABULARY {
        return Err(format!("the model has embeddings of {vocabulary} tokens; at most {MAX_VOCABULARY} are exported"));
    }
    if architecture == Architecture::Gpt2 {
        return gpt2(fields, vocabulary);
    }
    let (hidden, heads) = (fields.size("hidden_size", None)?, fields.size("num_attention_heads", None)?);
    let head = match architecture {
        Architecture::Qwen2 => hidden / heads,
        Architecture::Qwen3 => fields.size("head_dim", Some(128))?,
        _ if architecture.is_gemma() => fields.size("head_dim", Some(256))?,
        _ => fields.size("head_dim", Some(hidden / heads))?,
    };
    let key_heads = fields.size("num_key_value_heads", Some(heads))?;
    if !head.is_multiple_of(2) || !heads.is_multiple_of(key_heads) {
        return Err(format!(
            "config.json has {heads} heads of queries and {key_heads} of keys, with {head} values each, which RoPE and \
             attention cannot group"
        ));
    }
    let (activation, name) = match architecture {
        _ if !architecture.is_gemma() => ("silu", "hidden_act"),
        // The first configurations of Gemma call it "gelu" there.
        Architecture::Gemma if !fields.0.contains_key("hidden_activation") => ("gelu_pytorch_tanh", ""),
        _ => ("gelu_pytorch_tanh", "hidden_activation"),
    };
    fields.only(name, &activation.into())?;
    for field in ["mlp_bias", "use_sliding_window", "use_bidirectional_attention"] {
        fields.only(field, &false.into())?;
    }
    if !architecture.may_be_biased() {
        fields.only("attention_bias", &false.into())?;
    }
    Ok(Dimensions {
        layers: fields.within("num_hidden_layers", None, MAX_LAYERS)?,
        hidden,
        feed_forward: fields.size("intermediate_size", None)?,
        heads,
        key_heads,
        head,
        vocabulary,
        positions: fields.within("max_position_embeddings", None, MAX_POSITIONS)?,
        tied: fields.flag("tie_word_embeddings", architecture.is_gemma()),
        biased: architecture.may_be_biased() && fields.flag("attention_bias", false),
    })
}

fn gpt2(fields: Fields, vocabulary: u64) -> Result<Dimensions, String> {
    let (hidden, heads) = (fields.size("n_embd", None)?, fields.size("n_head", None)?);
    if !hidden.is_multiple_of(heads) {
        return Err(format!("config.json has {heads} heads for states of {hidden} values, which they do not divide"));
    }
    fields.only("activation_function", &"gelu_new".into())?;
    fields.only("scale_attn_weights", &true.into())?;
    for field in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        fields.only(field, &false.into())?;
    }
    Ok(Dimensions {
        layers: fields.within("n_layer", None, MAX_LAYERS)?,
        hidden,
        feed_forward: fields.size("n_inner", Some(4 * hidden))?,
        heads,
        key_heads: heads,
        head: hidden / heads,
        vocabulary,
        positions: fields.within("n_positions", None, MAX_POSITIONS)?,
        tied: fields.flag("tie_word_embeddings", true),
        biased: false,
    })
}

/// The keys about the model, which begin with the name of its architecture.
pub(super) fn entries(
    architecture: Architecture,
    fields: Fields,
    dimensions: &Dimensions,
    rope: &Rope,
) -> Result<Vec<(String, Entry)>, String> {
    let whole = |key: &'static str, count: u64| (key, Entry::Whole(count as u32));
    let mut entries = vec![
        whole("block_count", dimensions.layers),
        whole("context_length", dimensions.positions),
        whole("embedding_length", dimensions.hidden),
        whole("feed_forward_length", dimensions.feed_forward),
        whole("attention.head_count", dimensions.heads),
        whole("vocab_size", dimensions.vocabulary),
    ];
    if architecture == Architecture::Gpt2 {
        let epsilon = fields.number("layer_norm_epsilon")?.unwrap_or(1e-5);
        entries.push(("attention.layer_norm_epsilon", Entry::Number(epsilon as f32)));
    } else {
        let epsilon = fields.number("rms_norm_eps")?.unwrap_or(1e-6);
        entries.extend([
            whole("attention.head_count_kv", dimensions.key_heads),
            whole("attention.key_length", dimensions.head),
            whole("attention.value_length", dimensions.head),
            whole("rope.dimension_count", dimensions.head),
            ("attention.layer_norm_rms_epsilon", Entry::Number(epsilon as f32)),
        ]);
        entries.extend(rope.entries());
    }
    if matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3) {
        entries.extend(gemma(architecture, fields, dimensions)?);
    }
    let name = architecture.gguf();
    Ok(entries.into_iter().map(|(key, entry)| (format!("{name}.{key}"), entry)).collect())
}

/// What Gemma 2 and 3 have besides.
fn gemma(
    architecture: Architecture,
    fields: Fields,
    dimensions: &Dimensions,
) -> Result<Vec<(&'static str, Entry)>, String> {
    let is_second = architecture == Architecture::Gemma2;
    let Dimensions { layers, hidden, heads, head, .. } = *dimensions;
    let expected = architecture.query_scalar(layers, hidden, heads, head);
    let scalar = fields.number("query_pre_attn_scalar")?.unwrap_or(256.0);
    if scalar != expected as f64 {
        return Err(format!(
            "query_pre_attn_scalar of config.json is {scalar}; llama.cpp has {expected} for this model"
        ));
    }
    let mut entries = Vec::new();
    let window = fields.count("sliding_window")?.or(is_second.then_some(4096));
    match (window, period(fields, layers, if is_second { 2 } else { 6 })?) {
        (Some(window), Some(period)) => {
            entries.push(("attention.sliding_window", Entry::Whole(window as u32)));
            entries.push(("attention.sliding_window_pattern", Entry::Whole(period as u32)));
        }
        _ if is_second => {
            return Err("config.json has no windows of attention, which Gemma 2 has in llama.cpp".to_owned());
        }
        _ => {}
    }
    for (name, default) in [("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)] {
        let is_absent = !fields.0.contains_key(name);
        let cap = fields.number(name)?.or((is_second && is_absent).then_some(default));
        // llama.cpp caps both of Gemma 2, and of Gemma 3 no products of queries and keys.
        if is_second && cap.is_none() || !is_second && cap.is_some() && name == "attn_logit_softcapping" {
            let value = fields.0.get(name).unwrap_or_default();
            return Err(format!("{name} of config.json is {value}, which llama.cpp does not have for this model"));
        }
        entries.extend(cap.map(|cap| (name, Entry::Number(cap as f32))));
    }
    Ok(entries)
}

/// Every which layer attends to the whole text, where the others attend to a window of it; None if all do.
fn period(fields: Fields, layers: u64, usual: u64) -> Result<Option<u64>, String> {
    let stated = match fields.count("sliding_window_pattern")? {
        None => fields.count("_sliding_window_pattern")?,
        stated => stated,
    };
    let stated = stated.unwrap_or(usual).max(1);
    let Some(kinds) = fields.0.get("layer_types").and_then(Value::as_array) else { return Ok(Some(stated)) };
    let is_whole: Vec<bool> = kinds.iter().map(|kind| kind == "full_attention").collect();
    if is_whole.iter().all(|&whole| whole) {
        return Ok(None);
    }
    let first = is_whole.iter().position(|&whole| whole).map_or(layers, |place| place as u64) + 1;
    let fits = |period: &u64| (1_u64..).zip(&is_whole).all(|(layer, &whole)| whole == layer.is_multiple_of(*period));
    match [stated, first].into_iter().find(fits) {
        Some(period) if is_whole.len() as u64 == layers => Ok(Some(period)),
        _ => Err("layer_types of config.json does not have full attention at every so many layers".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn period_of(config: Value) -> Result<Option<u64>, String> {
        let Value::Object(fields) = config else { panic!("no object") };
        period(Fields(&fields), 7, 6)
    }

    #[test]
    fn windows_are_told_by_their_period() {
        let kinds = |whole: &[usize]| -> Vec<&str> {
            (0..7).map(|layer| if whole.contains(&layer) { "full_attention" } else { "sliding_attention" }).collect()
        };
        assert_eq!(period_of(json!({})), Ok(Some(6)));
        assert_eq!(period_of(json!({"_sliding_window_pattern": 3})), Ok(Some(3)));
        assert_eq!(period_of(json!({"layer_types": kinds(&[5])})), Ok(Some(6)));
        assert_eq!(period_of(json!({"layer_types": kinds(&[2, 5])})), Ok(Some(3)));
        assert_eq!(period_of(json!({"layer_types": kinds(&[])})), Ok(Some(8)));
        assert_eq!(period_of(json!({"layer_types": kinds(&[0, 1, 2, 3, 4, 5, 6])})), Ok(None));
        assert!(
            period_of(json!({"layer_types": kinds(&[2, 3])})).unwrap_err().starts_with("layer_types of config.json")
        );
    }
}
