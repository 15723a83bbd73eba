//! How positions turn a decoder's queries and keys, from the fields of `config.json`: rotary embeddings (Su et al. 2021,
//! arXiv:2104.09864) and their scalings as in Transformers' `modeling_rope_utils.py`.

use serde::Deserialize;
use serde_json::Value;

use super::super::config::{read, refuse};
use crate::error::{EngineError, Result};

/// The fields, as configurations of Transformers 5 have them (`rope_parameters`) and older ones.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RopeFields {
    rope_parameters: Option<Value>,
    rope_scaling: Option<Value>,
    rope_theta: Option<f64>,
    /// Gemma 3's angle base of layers that see a window.
    rope_local_base_freq: Option<f64>,
    original_max_position_embeddings: Option<i64>,
}

/// What one kind of layer turns by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    /// Radians per position of each pair of a head's dimensions.
    pub frequencies: Vec<f32>,
    /// What cosines and sines are multiplied by.
    pub magnitude: f64,
    /// Beyond so many tokens others would hold, which are not built.
    pub longest: Option<i64>,
}

/// A scaling's own fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scaling {
    rope_type: Option<String>,
    /// What older configurations call it.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<i64>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
    short_factor: Option<Vec<f64>>,
    partial_rotary_factor: Option<f64>,
}

/// What a rotation is made for.
#[derive(Clone, Copy)]
pub(super) struct Turned {
    /// Dimensions of a head.
    pub size: i64,
    /// `max_position_embeddings`.
    pub positions: i64,
    /// The angle base where the config has none.
    pub theta: f64,
}

impl RopeFields {
    /// The fields of a `config.json`.
    pub(super) fn read(json: &str) -> Result<Self> {
        read(json)
    }

    /// What layers of this type turn by; None where the config tells no layer types apart.
    ///
    /// # Errors
    /// It asks for a scaling that is not built, or lacks a field of it.
    pub(super) fn rope(&self, layer_type: Option<&str>, turned: Turned) -> Result<Rope> {
        let whole = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()).filter(|value| !value.is_null());
        let own = whole.map(|whole| layer_type.and_then(|kind| whole.get(kind)).unwrap_or(whole));
        let scaling: Scaling = match own {
            Some(fields) => serde_json::from_value(fields.clone())
                .map_err(|error| EngineError::model(format!("config.json: rope_parameters: {error}")))?,
            None => Scaling::default(),
        };
        let theta = scaling.rope_theta.or(self.rope_theta).unwrap_or(turned.theta);
        scaling.rope(theta, self.original_max_position_embeddings, turned)
    }

    /// What layers that see a window turn by, where older configurations of Gemma 3 say so: unscaled.
    pub(super) fn local(&self, turned: Turned) -> Result<Rope> {
        let is_by_type = self.rope_parameters.as_ref().is_some_and(|whole| whole.get("sliding_attention").is_some());
        if is_by_type {
            return self.rope(Some("sliding_attention"), turned);
        }
        Scaling::default().rope(self.rope_local_base_freq.unwrap_or(turned.theta), None, turned)
    }
}

/// `theta^(-2i / size)` for each pair.
fn usual(theta: f64, size: i64) -> Vec<f32> {
    (0..size / 2).map(|pair| 1.0 / (theta as f32).powf((2 * pair) as f32 / size as f32)).collect()
}

impl Scaling {
    fn rope(&self, theta: f64, original: Option<i64>, turned: Turned) -> Result<Rope> {
        let size = turned.size;
        if size < 2 || size % 2 != 0 {
            return refuse("head_dim", size, "an even number");
        }
        if !(theta.is_finite() && theta > 1.0) {
            return refuse("rope_theta", theta, "a number above 1");
        }
        if let Some(other) = self.partial_rotary_factor.filter(|&factor| factor != 1.0) {
            return refuse("partial_rotary_factor", other, "1");
        }
        let plain = Rope { frequencies: usual(theta, size), magnitude: 1.0, longest: None };
        let original = self.original_max_position_embeddings.or(original);
        let kind = self.rope_type.as_deref().or(self.r#type.as_deref()).unwrap_or("default");
        Ok(match kind {
            "default" => plain,
            "linear" => {
                let factor = needed("factor", self.factor)?;
                Rope { frequencies: plain.frequencies.iter().map(|one| one / factor as f32).collect(), ..plain }
            }
            // It changes nothing for sequences that the model was made for.
            "dynamic" => Rope { longest: Some(turned.positions), ..plain },
            "llama3" => Rope { frequencies: self.llama3(&plain.frequencies, original)?, ..plain },
            "yarn" => self.yarn(theta, original, &plain, turned)?,
            "longrope" | "su" => self.longrope(original, &plain, turned)?,
            other => return refuse("rope_type", other, "default, linear, dynamic, yarn, longrope, llama3"),
        })
    }

    /// Slow pairs are slowed further, by less the nearer they are to the fast ones.
    fn llama3(&self, frequencies: &[f32], original: Option<i64>) -> Result<Vec<f32>> {
        let factor = needed("factor", self.factor)?;
        let (low, high) =
            (needed("low_freq_factor", self.low_freq_factor)?, needed("high_freq_factor", self.high_freq_factor)?);
        let original = needed("original_max_position_embeddings", original)? as f64;
        let slowed = |&frequency: &f32| {
            let frequency = f64::from(frequency);
            let turns = original * frequency / (2.0 * std::f64::consts::PI);
            let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            ((1.0 - smooth) * frequency / factor + smooth * frequency) as f32
        };
        Ok(frequencies.iter().map(slowed).collect())
    }

    /// Peng et al. 2023 (arXiv:2309.00071).
    fn yarn(&self, theta: f64, original: Option<i64>, plain: &Rope, turned: Turned) -> Result<Rope> {
        let original = needed("original_max_position_embeddings", original)? as f64;
        let factor = self.factor.unwrap_or(turned.positions as f64 / original);
        let gain = |scale: f64, by: f64| if scale <= 1.0 { 1.0 } else { 0.1 * by * scale.ln() + 1.0 };
        let magnitude = match (self.attention_factor, self.mscale, self.mscale_all_dim) {
            (Some(given), ..) => given,
            (None, Some(one), Some(all)) if one != 0.0 && all != 0.0 => gain(factor, one) / gain(factor, all),
            (None, ..) => gain(factor, 1.0),
        };
        let size = turned.size as f64;
        // The pair that turns so often over the original length.
        let pair = |turns: f64| size * (original / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * theta.ln());
        let fast = self.beta_fast.filter(|&beta| beta != 0.0).unwrap_or(32.0);
        let slow = self.beta_slow.filter(|&beta| beta != 0.0).unwrap_or(1.0);
        let (mut low, mut high) = (pair(fast), pair(slow));
        if self.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(size - 1.0));
        if low == high {
            high += 0.001;
        }
        let mixed = plain.frequencies.iter().enumerate().map(|(pair, &frequency)| {
            let slowed = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
            (f64::from(frequency) * (slowed / factor + (1.0 - slowed))) as f32
        });
        Ok(Rope { frequencies: mixed.collect(), magnitude, longest: None })
    }

    /// Ding et al. 2024 (arXiv:2402.13753), for sequences of the original length.
    fn longrope(&self, original: Option<i64>, plain: &Rope, turned: Turned) -> Result<Rope> {
        let original = needed("original_max_position_embeddings", original)?;
        let short = self.short_factor.as_deref().unwrap_or_default();
        if short.len() != plain.frequencies.len() {
            return refuse(
                "short_factor",
                format!("{} numbers", short.len()),
                "one for each pair of a head's dimensions",
            );
        }
        let factor = self.factor.unwrap_or(turned.positions as f64 / original as f64);
        let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
        let frequencies = plain.frequencies.iter().zip(short).map(|(one, &by)| (f64::from(*one) / by) as f32);
        Ok(Rope {
            frequencies: frequencies.collect(),
            magnitude: self.attention_factor.unwrap_or(usual),
            longest: Some(original),
        })
    }
}

fn needed<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| EngineError::model(format!("config.json: rope_parameters: {field} is missing")))
}
