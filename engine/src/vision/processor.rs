//! What a model's images look like: `preprocessor_config.json` as Transformers' `ViTImageProcessor`,
//! `ConvNextImageProcessor` (used by `ResNet`) and `DeiTImageProcessor` write it.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::RgbImage;
use super::resize::{Filter, center_crop, resize, with_shorter_side};
use crate::error::{EngineError, Result};

const FILE: &str = "preprocessor_config.json";

/// Mean and standard deviation of `ImageNet`'s images, by channel.
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// From this size on a `ConvNext` image is not cropped.
const UNCROPPED: u32 = 384;

const LARGEST_SIDE: u64 = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resizing {
    /// To this width and height.
    Exact(u32, u32),
    /// Until the shorter side is this long.
    Shorter(u32),
}

/// From an image to what the model sees.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    resizing: Resizing,
    filter: Filter,
    /// Width and height of the middle that is kept.
    crop: Option<(u32, u32)>,
    /// What each value of each channel becomes.
    normalised: Box<[[f32; 256]; 3]>,
    config: Value,
}

impl ImageProcessor {
    /// Reads a model's `preprocessor_config.json`. Without one, images are treated as torchvision evaluates its own
    /// models: the shorter side to `image_size` / 0.875, bilinear, the middle, `ImageNet`'s mean and deviation.
    ///
    /// # Errors
    /// The file cannot be read, or asks for what is not built; the error names the field.
    pub fn open(model: &Path, image_size: u32) -> Result<Self> {
        let path = model.join(FILE);
        if path.is_file() {
            return Self::parse(&fs::read_to_string(&path).map_err(EngineError::io(&path))?);
        }
        let shorter = (f64::from(image_size) / 0.875) as u32;
        let config = json!({
            "image_processor_type": "ViTImageProcessor", "do_resize": true, "size": {"shortest_edge": shorter}, "resample": 2,
            "do_center_crop": true, "crop_size": {"height": image_size, "width": image_size},
            "do_rescale": true, "rescale_factor": 1.0 / 255.0,
            "do_normalize": true, "image_mean": IMAGENET.0, "image_std": IMAGENET.1,
        });
        Self::parse(&config.to_string())
    }

    /// Reads the text of a `preprocessor_config.json`.
    ///
    /// # Errors
    /// It asks for what is not built; the error names the field.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| EngineError::model(format!("{FILE}: {error}")))?;
        let fields = Fields(config);
        let kind = fields.processor_type()?;
        if !fields.flag("do_resize", true)? {
            return Err(refused("do_resize", "must be true: a batch needs images of one size"));
        }
        let (side, crop_side) = kind.default_sizes();
        let size = fields.size("size", kind != ProcessorType::ConvNext, side)?;
        let mut crop = None;
        if fields.flag("do_center_crop", kind == ProcessorType::DeiT)? {
            match (kind, fields.size("crop_size", true, crop_side)?) {
                (ProcessorType::ConvNext, _) => return Err(refused("do_center_crop", "must be false with crop_pct")),
                (_, Resizing::Exact(width, height)) => crop = Some((width, height)),
                (_, Resizing::Shorter(_)) => return Err(refused("crop_size", "must have height and width")),
            }
        }
        let resizing = match (kind, size) {
            (ProcessorType::ConvNext, Resizing::Shorter(edge)) if edge >= UNCROPPED => Resizing::Exact(edge, edge),
            (ProcessorType::ConvNext, Resizing::Shorter(edge)) => {
                crop = Some((edge, edge));
                Resizing::Shorter((f64::from(edge) / fields.positive("crop_pct", 224.0 / 256.0)?) as u32)
            }
            (ProcessorType::ConvNext, Resizing::Exact(..)) => return Err(refused("size", "must have shortest_edge")),
            (_, Resizing::Shorter(_)) if crop.is_none() => {
                return Err(refused(
                    "size",
                    "with shortest_edge needs do_center_crop: a batch needs images of one size",
                ));
            }
            (_, size) => size,
        };
        let default_filter = if kind == ProcessorType::ViT { 2.0 } else { 3.0 };
        let filter = match fields.number("resample", default_filter)? {
            2.0 => Filter::Bilinear,
            3.0 => Filter::Bicubic,
            other => {
                let names = ["nearest", "lanczos", "", "", "box", "hamming"];
                let name = names.get(other as usize).copied().unwrap_or_default();
                return Err(refused("resample", &format!("is {other} {name}; supported: 2 (bilinear), 3 (bicubic)")));
            }
        };
        let normalised = fields.normalisation()?;
        Ok(Self { resizing, filter, crop, normalised, config: Value::Object(fields.0) })
    }

    /// Width and height of what the model sees, in pixels.
    pub fn size(&self) -> (u32, u32) {
        match (self.crop, self.resizing) {
            (Some(size), _) => size,
            (None, Resizing::Exact(width, height)) => (width, height),
            // Refused by `parse` without a crop.
            (None, Resizing::Shorter(side)) => (side, side),
        }
    }

    pub fn filter(&self) -> Filter {
        self.filter
    }

    /// The contents of a `preprocessor_config.json` that gives this processor.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// An image as it is evaluated: resized and cropped to [`Self::size`], 8 bits a channel.
    ///
    /// # Errors
    /// See [`resize`].
    pub fn evaluate(&self, image: &RgbImage) -> Result<RgbImage> {
        let size = match self.resizing {
            Resizing::Exact(width, height) => (width, height),
            Resizing::Shorter(side) => with_shorter_side(image.dimensions(), side),
        };
        let resized = resize(image, size, self.filter)?;
        Ok(match self.crop {
            Some(size) => center_crop(&resized, size),
            None => resized,
        })
    }

    /// The values that the model sees: 3 planes (red, green, blue) of height x width.
    pub fn normalise(&self, image: &RgbImage) -> Vec<f32> {
        let plane = image.as_raw().len() / 3;
        let mut values = Vec::with_capacity(3 * plane);
        for (channel, table) in self.normalised.iter().enumerate() {
            values.extend(image.as_raw().iter().skip(channel).step_by(3).map(|&value| table[usize::from(value)]));
        }
        values
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessorType {
    ViT,
    ConvNext,
    DeiT,
}

impl ProcessorType {
    /// What `size` and `crop_size` are where the file does not say.
    fn default_sizes(self) -> (Resizing, Resizing) {
        let square = |side| Resizing::Exact(side, side);
        match self {
            Self::ViT => (square(224), square(224)),
            Self::ConvNext => (Resizing::Shorter(UNCROPPED), square(224)),
            Self::DeiT => (square(256), square(224)),
        }
    }
}

fn refused(field: &str, why: &str) -> EngineError {
    EngineError::model(format!("{FILE}: {field} {why}"))
}

/// The fields of the file. One that is null counts as absent.
struct Fields(Map<String, Value>);

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn processor_type(&self) -> Result<ProcessorType> {
        const SUPPORTED: &str = "supported: ViTImageProcessor, ConvNextImageProcessor, DeiTImageProcessor";
        let (field, value) = ["image_processor_type", "feature_extractor_type"]
            .into_iter()
            .find_map(|field| self.get(field).map(|value| (field, value)))
            .ok_or_else(|| refused("image_processor_type", &format!("is missing; {SUPPORTED}")))?;
        let name = value.as_str().unwrap_or_default();
        let stem = name.trim_end_matches("Fast").trim_end_matches("Pil");
        match stem.strip_suffix("ImageProcessor").or_else(|| stem.strip_suffix("FeatureExtractor")) {
            Some("ViT") => Ok(ProcessorType::ViT),
            Some("ConvNext") => Ok(ProcessorType::ConvNext),
            Some("DeiT") => Ok(ProcessorType::DeiT),
            _ => Err(refused(field, &format!("is {value}; {SUPPORTED}"))),
        }
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        self.get(name)
            .map_or(Ok(default), |value| value.as_bool().ok_or_else(|| refused(name, "must be true or false")))
    }

    fn number(&self, name: &str, default: f64) -> Result<f64> {
        self.get(name).map_or(Ok(default), |value| value.as_f64().ok_or_else(|| refused(name, "must be a number")))
    }

    fn positive(&self, name: &str, default: f64) -> Result<f64> {
        let value = self.number(name, default)?;
        if (1e-6..=1.0).contains(&value) { Ok(value) } else { Err(refused(name, "must be above 0 and at most 1")) }
    }

    /// A size as `{height, width}`, `{shortest_edge}` or, in older files, one number.
    fn size(&self, name: &str, square: bool, default: Resizing) -> Result<Resizing> {
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
    fn channels(&self, name: &str) -> Result<[f64; 3]> {
        let expected = || refused(name, "must be a number or a list of three numbers");
        match self.get(name) {
            None => Ok([0.5; 3]),
            Some(Value::Number(number)) => number.as_f64().map(|value| [value; 3]).ok_or_else(expected),
            Some(value) => {
                let list: Option<Vec<f64>> = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
                list.and_then(|list| list.try_into().ok()).ok_or_else(expected)
            }
        }
    }

    /// What 0 to 255 become, in float32 in the order in which Transformers computes.
    fn normalisation(&self) -> Result<Box<[[f32; 256]; 3]>> {
        let factor = if self.flag("do_rescale", true)? { self.positive("rescale_factor", 1.0 / 255.0)? } else { 1.0 };
        if !self.flag("do_normalize", true)? {
            return Ok(Box::new([std::array::from_fn(|value| value as f32 * factor as f32); 3]));
        }
        let (mean, deviation) = (self.channels("image_mean")?, self.channels("image_std")?);
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
