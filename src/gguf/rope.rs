//! Rotary position embeddings: how a GGUF file says that they are scaled, as fields of `config.json`
//! (`modeling_rope_utils.py` of Transformers).

use serde_json::{Map, Value, json};

use super::architecture::Architecture;
use super::container::Gguf;
use super::names::Dimensions;
use super::quants::dequantize;

/// What frequencies are divided by, one for each pair of a head's values.
pub(super) const FACTORS: &str = "rope_freqs.weight";
/// The same for texts that are longer than those of the first training, and for others.
pub(super) const LONG_FACTORS: &str = "rope_factors_long.weight";
pub(super) const SHORT_FACTORS: &str = "rope_factors_short.weight";

/// How far factors may be from those of Llama 3's formula, in parts of them: they are computed in `f32`.
const TOLERANCE: f64 = 1e-4;

/// The `rope_type` `llama3`: long waves are made longer, short ones left, those between made longer in part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Llama3 {
    pub(super) factor: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Tokens of the texts before.
    pub(super) original: f64,
}

impl Llama3 {
    /// What each frequency is divided by, of heads of so many values.
    pub(super) fn factors(&self, base: f64, head: u64) -> Vec<f64> {
        let factor = |pair: u64| {
            let wave = std::f64::consts::TAU * base.powf(2.0 * pair as f64 / head as f64);
            let waves = self.original / wave;
            if waves > self.high {
                return 1.0;
            }
            if waves < self.low {
                return self.factor;
            }
            let kept = (waves - self.low) / (self.high - self.low);
            1.0 / ((1.0 - kept) / self.factor + kept)
        };
        (0..head / 2).map(factor).collect()
    }

    /// Those that give the factors, if they are of the usual ones.
    fn found(factors: &[f32], base: f64, head: u64) -> Option<Self> {
        let factor = factors.iter().copied().fold(1.0, f32::max).into();
        let usual = (10..=20).map(|power| Self { factor, low: 1.0, high: 4.0, original: f64::from(1 << power) });
        let is_near = |candidate: &Self| {
            let expected = candidate.factors(base, head);
            let near = |(&found, expected): (&f32, f64)| (f64::from(found) / expected - 1.0).abs() < TOLERANCE;
            expected.len() == factors.len() && factors.iter().zip(expected).all(near)
        };
        usual.into_iter().find(is_near)
    }
}

/// The fields about rotary embeddings of a model's `config.json`.
///
/// # Errors
/// It is scaled in a way that Transformers has no fields for, or turns only a part of each head where that is not
/// supported.
pub(super) fn fields(
    gguf: &Gguf,
    architecture: Architecture,
    dimensions: &Dimensions,
) -> Result<Map<String, Value>, String> {
    let (metadata, name) = (gguf.metadata(), architecture.gguf());
    let number = |key: &str| metadata.number(&format!("{name}.rope.{key}"));
    let mut fields = Map::new();
    let base = number("freq_base")?.unwrap_or(10_000.0);
    fields.insert("rope_theta".to_owned(), json!(base));
    if architecture == Architecture::Gemma3 {
        fields.insert("rope_local_base_freq".to_owned(), json!(number("freq_base_swa")?.unwrap_or(10_000.0)));
    }
    let turned = metadata.count(&format!("{name}.rope.dimension_count"))?.unwrap_or(dimensions.head);
    if turned != dimensions.head {
        if architecture != Architecture::Phi3 || turned > dimensions.head {
            let head = dimensions.head;
            return Err(format!(
                "the key {name}.rope.dimension_count of the GGUF file is {turned}, where a head has {head} values; a \
                 part is supported of phi3 alone"
            ));
        }
        fields.insert("partial_rotary_factor".to_owned(), json!(turned as f64 / dimensions.head as f64));
    }
    if let Some(scaling) = scaling(gguf, name, base, dimensions, turned)? {
        if architecture == Architecture::Phi3 {
            if scaling["rope_type"] != "longrope" {
                return Err("the GGUF file scales RoPE of phi3 without factors for long texts, which is not supported"
                    .to_owned());
            }
            let original = scaling["original_max_position_embeddings"].clone();
            fields.insert("original_max_position_embeddings".to_owned(), original);
        }
        fields.insert("rope_scaling".to_owned(), scaling);
    }
    Ok(fields)
}

/// The field `rope_scaling`.
fn scaling(gguf: &Gguf, name: &str, base: f64, dimensions: &Dimensions, turned: u64) -> Result<Option<Value>, String> {
    let metadata = gguf.metadata();
    let number = |key: &str| metadata.number(&format!("{name}.rope.scaling.{key}"));
    let original = metadata.count(&format!("{name}.rope.scaling.original_context_length"))?;
    if let (Some(long), Some(short)) = (factors(gguf, LONG_FACTORS)?, factors(gguf, SHORT_FACTORS)?) {
        let original = original.ok_or_else(|| missing(name, "original_context_length"))?;
        return longrope(&[long, short], dimensions, turned, original, number("attn_factor")?).map(Some);
    }
    if let Some(factors) = factors(gguf, FACTORS)?
        && factors.iter().any(|&factor| factor != 1.0)
    {
        let Llama3 { factor, low, high, original } = Llama3::found(&factors, base, turned).ok_or_else(|| {
            format!("the tensor {FACTORS} of the GGUF file holds factors of RoPE that are not those of Llama 3")
        })?;
        return Ok(Some(json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original as u64,
        })));
    }
    let factor = number("factor")?.or(metadata.number(&format!("{name}.rope.scale_linear"))?).unwrap_or(0.0);
    let kind = metadata.text(&format!("{name}.rope.scaling.type"))?.unwrap_or("linear");
    match kind {
        "none" => Ok(None),
        "linear" if factor == 0.0 || factor == 1.0 => Ok(None),
        "linear" => Ok(Some(json!({"rope_type": "linear", "factor": factor}))),
        "yarn" if factor > 0.0 => {
            let original = original.ok_or_else(|| missing(name, "original_context_length"))?;
            let mut scaling =
                json!({"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original});
            let more = [
                ("beta_fast", "yarn_beta_fast"),
                ("beta_slow", "yarn_beta_slow"),
                ("attention_factor", "yarn_attn_factor"),
            ];
            for (field, key) in more {
                if let Some(value) = number(key)? {
                    scaling[field] = json!(value);
                }
            }
            Ok(Some(scaling))
        }
        "yarn" => Err(missing(name, "factor")),
        other => Err(format!(
            "the key {name}.rope.scaling.type of the GGUF file is {other}, which is not supported; supported: none, \
             linear and yarn"
        )),
    }
}

/// Scaling of Phi 3, with factors for long and for short texts.
fn longrope(
    [long, short]: &[Vec<f32>; 2],
    dimensions: &Dimensions,
    turned: u64,
    original: u64,
    attention: Option<f64>,
) -> Result<Value, String> {
    if [long, short].iter().any(|factors| factors.len() as u64 != turned / 2) {
        return Err(format!(
            "the tensors {LONG_FACTORS} and {SHORT_FACTORS} of the GGUF file do not have {} values",
            turned / 2
        ));
    }
    let shortest =
        |factors: &[f32]| factors.iter().map(|factor| factor.to_string().parse().unwrap_or(1.0)).collect::<Vec<f64>>();
    let mut scaling = json!({
        "rope_type": "longrope",
        "long_factor": shortest(long),
        "short_factor": shortest(short),
        "original_max_position_embeddings": original,
    });
    let times = dimensions.positions as f64 / original.max(1) as f64;
    let usual = if times > 1.0 { (1.0 + times.ln() / (original as f64).ln()).sqrt() } else { 1.0 };
    if let Some(attention) = attention
        && (attention / usual - 1.0).abs() > TOLERANCE
    {
        scaling["attention_factor"] = json!(attention);
    }
    Ok(scaling)
}

fn missing(name: &str, key: &str) -> String {
    format!("the GGUF file does not have the key {name}.rope.scaling.{key}, which its scaling of RoPE needs")
}

/// The values of a tensor of factors, if the file has it.
fn factors(gguf: &Gguf, name: &str) -> Result<Option<Vec<f32>>, String> {
    /// More than the values of any head.
    const MOST: u64 = 4096;
    let Some(tensor) = gguf.tensors().get(name) else { return Ok(None) };
    if tensor.shape.iter().product::<u64>() > MOST || tensor.kind.is_quantised() {
        return Err(format!("the tensor {name} of the GGUF file is none of factors for RoPE"));
    }
    let mut values = Vec::new();
    dequantize(tensor.kind, gguf.bytes(tensor), &mut values);
    if values.iter().any(|value| !value.is_finite() || *value <= 0.0) {
        return Err(format!("the tensor {name} of the GGUF file has factors that are no positive numbers"));
    }
    Ok(Some(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_of_llama_3_tell_how_it_was_scaled() {
        for original in [8192.0, 4096.0] {
            let scaled = Llama3 { factor: 32.0, low: 1.0, high: 4.0, original };
            let factors: Vec<f32> = scaled.factors(500_000.0, 64).into_iter().map(|factor| factor as f32).collect();
            assert_eq!(factors[0], 1.0);
            assert_eq!(factors[31], 32.0);
            assert_eq!(Llama3::found(&factors, 500_000.0, 64), Some(scaled));
        }
    }

    #[test]
    fn other_factors_tell_nothing() {
        let factors: Vec<f32> = (0..32).map(|place| 1.0 + place as f32).collect();
        assert_eq!(Llama3::found(&factors, 500_000.0, 64), None);
        assert_eq!(Llama3::found(&[32.0], 500_000.0, 64), None);
    }
}
