//! What a model's images look like: `preprocessor_config.json` as Transformers' `ViTImageProcessor`,
//! `ConvNextImageProcessor` (used by `ResNet`), `DeiTImageProcessor` and `BitImageProcessor` write it, and as the feature
//! extractors before them did.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::RgbImage;
use super::fields::{FILE, Fields, Resizing, refused};
use super::resize::{Filter, center_crop, resize, with_shorter_side};
use crate::error::{EngineError, Result};
use finetuned::domain::model::without_mark;

/// Mean and standard deviation of `ImageNet`'s images, by channel.
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// The same of what CLIP was trained with, which `BitImageProcessor` has by default.
const CLIP: [[f64; 3]; 2] = [[0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]];

/// From this size on a `ConvNext` image is not cropped.
const UNCROPPED: u32 = 384;

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
    /// Reads a model's `preprocessor_config.json`, which is of the class `usual` where it does not say. Without one, images are treated as torchvision evaluates its own
    /// models: the shorter side to `image_size` / 0.875, bilinear, the middle, `ImageNet`'s mean and deviation.
    ///
    /// # Errors
    /// The file cannot be read, or asks for what is not built; the error names the field.
    pub fn open(model: &Path, image_size: u32, usual: &str) -> Result<Self> {
        let path = model.join(FILE);
        if path.is_file() {
            return Self::parse(&fs::read(&path).map_err(EngineError::io(&path))?, usual);
        }
        let shorter = (f64::from(image_size) / 0.875) as u32;
        let config = json!({
            "image_processor_type": "ViTImageProcessor", "do_resize": true, "size": {"shortest_edge": shorter}, "resample": 2,
            "do_center_crop": true, "crop_size": {"height": image_size, "width": image_size},
            "do_rescale": true, "rescale_factor": 1.0 / 255.0,
            "do_normalize": true, "image_mean": IMAGENET.0, "image_std": IMAGENET.1,
        });
        Self::parse(config.to_string().as_bytes(), usual)
    }

    /// Reads what a `preprocessor_config.json` holds, which is of the class `usual` where it does not say.
    ///
    /// # Errors
    /// It asks for what is not built; the error names the field.
    pub fn parse(json: &[u8], usual: &str) -> Result<Self> {
        let config: Map<String, Value> = serde_json::from_slice(without_mark(json))
            .map_err(|error| EngineError::model(format!("{FILE}: {error}")))?;
        let mut fields = Fields(config);
        if fields.class().is_none() {
            fields.0.insert("image_processor_type".to_owned(), json!(usual));
        }
        let kind = ProcessorType::of(&fields)?;
        if !fields.flag("do_resize", true)? {
            return Err(refused("do_resize", "must be true: a batch needs images of one size"));
        }
        let (side, crop_side) = kind.default_sizes();
        let size = fields.size("size", kind.is_square(), side)?;
        let mut crop = None;
        if fields.flag("do_center_crop", kind.crops())? {
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
        let number = fields.number("resample", if kind == ProcessorType::ViT { 2.0 } else { 3.0 })?;
        let filter = Filter::of_pillow(number).ok_or_else(|| {
            let known = "0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box), 5 (hamming)";
            refused("resample", &format!("is {number}; supported: {known}"))
        })?;
        let normalised = fields.normalisation(kind.default_normalisation())?;
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

/// Transformers' classes, which differ in what they take where the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessorType {
    ViT,
    ConvNext,
    DeiT,
    Bit,
}

impl ProcessorType {
    const ALL: [(&str, Self); 4] =
        [("ViT", Self::ViT), ("ConvNext", Self::ConvNext), ("DeiT", Self::DeiT), ("Bit", Self::Bit)];

    fn of(fields: &Fields) -> Result<Self> {
        let (field, name) = fields.class().unwrap_or_default();
        let stem = name.trim_end_matches("Fast").trim_end_matches("Pil");
        let stem = stem.strip_suffix("ImageProcessor").or_else(|| stem.strip_suffix("FeatureExtractor"));
        let found = Self::ALL.iter().find(|(known, _)| stem == Some(known));
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let known = Self::ALL.map(|(known, _)| format!("{known}ImageProcessor")).join(", ");
            refused(field, &format!("is \"{name}\"; supported: {known}"))
        })
    }

    /// What `size` and `crop_size` are where the file does not say.
    fn default_sizes(self) -> (Resizing, Resizing) {
        let square = |side| Resizing::Exact(side, side);
        match self {
            Self::ViT => (square(224), square(224)),
            Self::ConvNext => (Resizing::Shorter(UNCROPPED), square(224)),
            Self::DeiT => (square(256), square(224)),
            Self::Bit => (Resizing::Shorter(224), square(224)),
        }
    }

    /// Whether one number for `size` is both sides, or else the shorter one.
    fn is_square(self) -> bool {
        matches!(self, Self::ViT | Self::DeiT)
    }

    /// Whether the middle is cut out where the file does not say.
    fn crops(self) -> bool {
        matches!(self, Self::DeiT | Self::Bit)
    }

    /// Mean and standard deviation where the file does not say.
    fn default_normalisation(self) -> [[f64; 3]; 2] {
        match self {
            Self::ViT | Self::ConvNext | Self::DeiT => [[0.5; 3]; 2],
            Self::Bit => CLIP,
        }
    }
}
