//! Rotary position embeddings: how `config.json` says that they are scaled, as metadata of a GGUF file.

use serde_json::{Map, Value};

use super::architecture::Architecture;
use super::encode::Entry;
use super::fields::Fields;
use super::rope::Llama3;

/// The rotary embeddings of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    base: f64,
    /// Of layers that attend to a window of the text, if they have their own.
    local_base: Option<f64>,
    scaling: Scaling,
}

#[derive(Clone, Debug, PartialEq)]
enum Scaling {
    None,
    Linear { factor: f64 },
    Yarn { factor: f64, original: u64, more: Vec<(&'static str, f64)> },
    Llama3(Llama3),
}

impl Rope {
    /// Of the fields `rope_parameters`, or `rope_theta` and `rope_scaling`, as they were before Transformers 5.
    ///
    /// # Errors
    /// They are scaled in a way that GGUF files cannot say.
    pub(super) fn read(architecture: Architecture, fields: Fields) -> Result<Self, String> {
        let empty = Map::new();
        let object = |object: &'_ Map<String, Value>, name: &str| object.get(name).and_then(Value::as_object).cloned();
        let parameters = object(fields.0, "rope_parameters").or_else(|| object(fields.0, "rope_scaling"));
        let parameters = parameters.unwrap_or_default();
        let whole = object(&parameters, "full_attention").unwrap_or_else(|| parameters.clone());
        let window = object(&parameters, "sliding_attention").unwrap_or(empty);
        let (whole, window) = (Fields(&whole), Fields(&window));
        let is_gemma3 = architecture == Architecture::Gemma3;
        let base = whole.number("rope_theta")?.or(fields.number("rope_theta")?);
        let local_base = window.number("rope_theta")?.or(fields.number("rope_local_base_freq")?);
        for fields in [whole, fields] {
            if let Some(part) = fields.number("partial_rotary_factor")?.filter(|&part| part != 1.0) {
                return Err(format!("partial_rotary_factor of config.json is {part}, which is not exported as GGUF"));
            }
        }
        Ok(Self {
            base: base.unwrap_or(if is_gemma3 { 1_000_000.0 } else { 10_000.0 }),
            local_base: is_gemma3.then_some(local_base.unwrap_or(10_000.0)),
            scaling: Scaling::read(whole)?,
        })
    }

    /// Keys with their values.
    pub(super) fn entries(&self) -> Vec<(&'static str, Entry)> {
        let number = |key, value: f64| (key, Entry::Number(value as f32));
        let kind = |name: &str| ("rope.scaling.type", Entry::Text(name.to_owned()));
        let mut entries = vec![number("rope.freq_base", self.base)];
        entries.extend(self.local_base.map(|base| number("rope.freq_base_swa", base)));
        match &self.scaling {
            // Llama 3's is a tensor.
            Scaling::None | Scaling::Llama3(_) => {}
            Scaling::Linear { factor } => {
                entries.extend([kind("linear"), number("rope.scaling.factor", *factor)]);
            }
            Scaling::Yarn { factor, original, more } => {
                entries.extend([kind("yarn"), number("rope.scaling.factor", *factor)]);
                entries.push(("rope.scaling.original_context_length", Entry::Whole(*original as u32)));
                entries.extend(more.iter().map(|&(key, value)| number(key, value)));
            }
        }
        entries
    }

    /// The tensor of factors, for heads of so many values.
    pub(super) fn factors(&self, head: u64) -> Option<Vec<f32>> {
        let Scaling::Llama3(llama3) = self.scaling else { return None };
        Some(llama3.factors(self.base, head).into_iter().map(|factor| factor as f32).collect())
    }
}

impl Scaling {
    fn read(parameters: Fields) -> Result<Self, String> {
        let text = |name: &str| parameters.0.get(name).and_then(Value::as_str);
        let number = |name: &str| {
            let value = parameters.number(name)?.filter(|&value| value > 0.0);
            value.ok_or_else(|| format!("RoPE's scaling in config.json does not have {name}"))
        };
        Ok(match text("rope_type").or(text("type")).unwrap_or("default") {
            "default" => Self::None,
            "linear" => Self::Linear { factor: number("factor")? },
            "llama3" => Self::Llama3(Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: number("original_max_position_embeddings")?,
            }),
            "yarn" => {
                let mut more = Vec::new();
                for (field, key) in [
                    ("beta_fast", "rope.scaling.yarn_beta_fast"),
                    ("beta_slow", "rope.scaling.yarn_beta_slow"),
                    ("attention_factor", "rope.scaling.yarn_attn_factor"),
                ] {
                    more.extend(parameters.number(field)?.map(|value| (key, value)));
                }
                let original = number("original_max_position_embeddings")? as u64;
                Self::Yarn { factor: number("factor")?, original, more }
            }
            other => {
                return Err(format!(
                    "config.json scales RoPE as {other}, which is not exported as GGUF; linear, llama3 and yarn are"
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(architecture: Architecture, config: Value) -> Result<Rope, String> {
        let Value::Object(fields) = config else { panic!("no object") };
        Rope::read(architecture, Fields(&fields))
    }

    #[test]
    fn both_spellings_say_the_same() {
        let scaled = json!({"rope_type": "linear", "factor": 2.0});
        let old = read(Architecture::Llama, json!({"rope_theta": 5e5, "rope_scaling": scaled}));
        let new =
            read(Architecture::Llama, json!({"rope_parameters": {"rope_theta": 5e5, "type": "linear", "factor": 2.0}}));
        assert_eq!(old, new);
        assert_eq!(new, Ok(Rope { base: 5e5, local_base: None, scaling: Scaling::Linear { factor: 2.0 } }));
        let parameters = json!({"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}});
        let gemma = json!({"rope_parameters": parameters});
        let old = read(Architecture::Gemma3, json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4}));
        assert_eq!(read(Architecture::Gemma3, gemma), old);
        assert_eq!(old, read(Architecture::Gemma3, json!({})));
    }

    #[test]
    fn what_gguf_files_cannot_say_is_refused() {
        let refused = read(Architecture::Llama, json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}));
        assert!(refused.unwrap_err().starts_with("config.json scales RoPE as dynamic, which is not exported"));
        let refused = read(Architecture::Llama, json!({"rope_scaling": {"rope_type": "linear"}}));
        assert_eq!(refused.unwrap_err(), "RoPE's scaling in config.json does not have factor");
        let refused = read(Architecture::Llama, json!({"partial_rotary_factor": 0.5}));
        assert!(refused.unwrap_err().starts_with("partial_rotary_factor of config.json is 0.5"));
    }
}
