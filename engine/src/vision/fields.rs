//! The fields of a `preprocessor_config.json`.

use serde_json::{Map, Value};

use crate::error::{EngineError, Result};

/// The file.
pub(super) const FILE: &str = "preprocessor_config.json";

const LARGEST_SIDE: u64 = 2048;

/// What an image's size becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resizing {
    /// To this width and height.
    Exact(u32, u32),
    /// Until the shorter side is this long.
    Shorter(u32),
}

/// The error for a field.
pub(super) fn refused(field: &str, why: &str) -> EngineError {
    EngineError::model(format!("{FILE}: {field} {why}"))
}

/// The fields of the file. One that is null counts as absent.
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The class that made the file, where it says so, by the field that does.
    pub(super) fn class(&self) -> Option<(&'static str, &str)> {
        ["image_processor_type", "feature_extractor_type"]
            .into_iter()
            .find_map(|field| self.get(field).map(|value| (field, value.as_str().unwrap_or_default())))
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        self.get(name)
            .map_or(Ok(default), |value| value.as_bool().ok_or_else(|| refused(name, "must be true or false")))
    }

    pub(super) fn number(&self, name: &str, default: f64) -> Result<f64> {
        self.get(name).map_or(Ok(default), |value| value.as_f64().ok_or_else(|| refused(name, "must be a number")))
    }

    pub(super) fn positive(&self, name: &str, default: f64) -> Result<f64> {
        let value = self.number(name, default)?;
        if (1e-6..=1.0).contains(&value) { Ok(value) } else { Err(refused(name, "must be above 0 and at most 1")) }
    }

    /// A size as `{height, width}`, `{shortest_edge}` or, in older files, one number.
    pub(super) fn size(&self, name: &str, square: bool, default: Resizing) -> Result<Resizing> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let side = |value: Option<&Value>| {
            let side = value.and_then(Value::as_u64).filter(|side| (1..=LARGEST_SIDE).contains(side));
            side.map(|side| side as u32).ok_or_else(|| {
                refused(name, &format!("is {}; sides are whole numbers from 1 to {LARGEST_SIDE}", self.0[name]))
            })
        };
        match value {
            Value::Object(sides) if sides.contains_key("shortest_edge") && sides.len() == 1 => {
                Ok(Resizing::Shorter(side(sides.get("shortest_edge"))?))
            }
            Value::Object(sides) if sides.keys().all(|key| key == "height" || key == "width") => {
                Ok(Resizing::Exact(side(sides.get("width"))?, side(sides.get("height"))?))
            }
            Value::Number(_) => {
                let side = side(Some(value))?;
                Ok(if square { Resizing::Exact(side, side) } else { Resizing::Shorter(side) })
            }
            _ => Err(refused(name, &format!("is {value}; supported: height and width, or shortest_edge"))),
        }
    }

    /// Three numbers, or one for all channels.
    fn channels(&self, name: &str, default: [f64; 3]) -> Result<[f64; 3]> {
        let expected = || refused(name, "must be a number or a list of three numbers");
        match self.get(name) {
            None => Ok(default),
            Some(Value::Number(number)) => number.as_f64().map(|value| [value; 3]).ok_or_else(expected),
            Some(value) => {
                let list: Option<Vec<f64>> = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
                list.and_then(|list| list.try_into().ok()).ok_or_else(expected)
            }
        }
    }

    /// What 0 to 255 become, in float32 in the order in which Transformers computes; mean and deviation are `defaults` where
    /// the file does not say.
    pub(super) fn normalisation(&self, defaults: [[f64; 3]; 2]) -> Result<Box<[[f32; 256]; 3]>> {
        let factor = if self.flag("do_rescale", true)? { self.positive("rescale_factor", 1.0 / 255.0)? } else { 1.0 };
        if !self.flag("do_normalize", true)? {
            return Ok(Box::new([std::array::from_fn(|value| value as f32 * factor as f32); 3]));
        }
        let (mean, deviation) = (self.channels("image_mean", defaults[0])?, self.channels("image_std", defaults[1])?);
        if deviation.iter().any(|value| *value <= 0.0) {
            return Err(refused("image_std", "must be above 0"));
        }
        let mut tables = Box::new([[0.0; 256]; 3]);
        for ((table, mean), deviation) in tables.iter_mut().zip(mean).zip(deviation) {
            let scaled = |value: f64| value as f32 * (1.0 / factor) as f32;
            *table = std::array::from_fn(|value| (value as f32 - scaled(mean)) / scaled(deviation));
        }
        Ok(tables)
    }
}
