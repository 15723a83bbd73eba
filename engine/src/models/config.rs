//! Reading `config.json`: fields, their bounds, activations, and what Transformers takes where a field is absent.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tch::Tensor;

use crate::error::{EngineError, Result};

/// The numbers that are allowed: beyond any model that is built, and small enough for every product of them.
pub(super) const WIDTH: RangeInclusive<i64> = 1..=65_536;
pub(super) const INNER_WIDTH: RangeInclusive<i64> = 1..=262_144;
pub(super) const LAYERS: RangeInclusive<i64> = 1..=1_000;
pub(super) const POSITIONS: RangeInclusive<i64> = 8..=1_048_576;
pub(super) const WORDS: RangeInclusive<i64> = 1..=4_194_304;
pub(super) const PIXELS: RangeInclusive<i64> = 1..=4_096;
/// Images are read in colour.
pub(super) const COLOURS: RangeInclusive<i64> = 3..=3;
pub(super) const FEW: RangeInclusive<i64> = 1..=1_024;

/// The word by which a family is known.
///
/// # Errors
/// The text is no JSON object with a `model_type`.
pub(crate) fn model_type(json: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct ModelType {
        model_type: String,
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(json) {
        let message = format!("config.json is no JSON, perhaps a web page in its place: {error}; fetch it again");
        return Err(EngineError::model(message));
    }
    read::<ModelType>(json).map(|read| read.model_type)
}

/// Reads the fields of `T`; an error names the field.
pub(super) fn read<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json))
        .map_err(|error| EngineError::model(format!("config.json: {error}")))
}

/// The error for a field that asks for something that is not built.
pub(super) fn refuse<T>(field: &str, value: impl Display, supported: &str) -> Result<T> {
    Err(EngineError::model(unsupported(field, value, supported)))
}

/// What such an error says.
pub(super) fn unsupported(field: &str, value: impl Display, supported: &str) -> String {
    format!("config.json: {field} is {value}; supported: {supported}")
}

/// Refuses the first number that is not within its bounds.
pub(super) fn check_numbers(numbers: &[(&str, i64, &RangeInclusive<i64>)]) -> Result<()> {
    for (field, value, allowed) in numbers {
        if !allowed.contains(value) {
            let (least, most) = (allowed.start(), allowed.end());
            let supported = if least == most { least.to_string() } else { format!("{least} to {most}") };
            return refuse(field, value, &supported);
        }
    }
    Ok(())
}

/// A number that was checked against its bounds.
pub(super) fn number(checked: i64) -> u32 {
    u32::try_from(checked).unwrap_or(u32::MAX)
}

/// Refuses the first share of dropout that is none.
pub(super) fn check_dropouts(shares: &[(&str, f64)]) -> Result<()> {
    match shares.iter().find(|(_, share)| !(0.0..1.0).contains(share)) {
        Some((field, share)) => refuse(field, share, "0 and more, less than 1"),
        None => Ok(()),
    }
}

/// Refuses heads that do not share the width evenly.
pub(super) fn check_heads(field: &str, heads: i64, width_field: &str, width: i64) -> Result<()> {
    if heads < 1 || width % heads != 0 {
        return refuse(field, heads, &format!("a divisor of {width_field}, which is {width}"));
    }
    Ok(())
}

/// An activation function, element by element.
pub(super) type Activation = fn(&Tensor) -> Result<Tensor>;

/// The activation functions by the names that Transformers' `ACT2FN` has for them.
const ACTIVATIONS: [(&str, Activation); 6] = [
    ("gelu", gelu),
    ("gelu_new", gelu_tanh),
    ("gelu_pytorch_tanh", gelu_tanh),
    ("relu", relu),
    ("silu", silu),
    ("swish", silu),
];

/// The activation that Transformers calls `name`, from the config's `field`.
pub(super) fn activation(field: &str, name: &str) -> Result<Activation> {
    match ACTIVATIONS.iter().find(|(known, _)| *known == name) {
        Some((_, function)) => Ok(*function),
        None => refuse(field, name, &ACTIVATIONS.map(|(known, _)| known).join(", ")),
    }
}

/// GELU with the error function, not its approximation.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_gelu("none")?)
}

fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_gelu("tanh")?)
}

pub(super) fn relu(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_relu()?)
}

fn silu(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_silu()?)
}

pub(super) fn tanh(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_tanh()?)
}

/// Defaults of Transformers' configuration classes, for serde.
pub(super) mod default {
    pub(in super::super) fn gelu() -> String {
        "gelu".to_owned()
    }
    pub(in super::super) fn tenth() -> f64 {
        0.1
    }
    pub(in super::super) fn initializer_range() -> f64 {
        0.02
    }
    pub(in super::super) fn layer_norm_eps() -> f64 {
        1e-12
    }
    pub(in super::super) fn two() -> i64 {
        2
    }
    pub(in super::super) fn three() -> i64 {
        3
    }
    pub(in super::super) fn yes() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::activation;

    /// `transformers.activations.ACT2FN[name](torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0]))`
    #[test]
    fn activations_are_those_that_transformers_calls_so() {
        let x = Tensor::from_slice(&[-2.0_f32, -0.5, 0.0, 1.0, 3.0]);
        let tanh = [-0.045_402_3, -0.154_286, 0.0, 0.841_192, 2.996_363];
        let silu = [-0.238_405_8, -0.188_770_3, 0.0, 0.731_058_6, 2.857_722];
        for (name, expected) in [
            ("gelu", [-0.045_500_3, -0.154_268_8, 0.0, 0.841_344_7, 2.995_949_7]),
            ("gelu_new", tanh),
            ("gelu_pytorch_tanh", tanh),
            ("relu", [0.0, 0.0, 0.0, 1.0, 3.0]),
            ("silu", silu),
            ("swish", silu),
        ] {
            let found = Vec::<f32>::try_from(activation("hidden_act", name).unwrap()(&x).unwrap()).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 2e-6, "{name}: {found} {expected}");
            }
        }
    }
}
