//! Image classification as in Transformers' `…ForImageClassification`.

use std::path::Path;

use tch::{Kind, Tensor};

use super::{VisionConfig, VisionEncoder};
use crate::error::{EngineError, Result};
use crate::nn::{Linear, Mode};
use crate::params::{self, Builder, Init, LoadReport, ParamTable, Placement};

/// A linear layer on the features of an image.
pub struct ImageClassifier {
    encoder: Box<dyn VisionEncoder>,
    classifier: Linear,
    channels: i64,
    image_size: Option<i64>,
    compute: Kind,
}

impl ImageClassifier {
    /// The classifier with the weights in `directory`, its parameters, and what became of the tensors there.
    ///
    /// # Errors
    /// The weights cannot be read or do not fit `config`.
    pub fn open(
        directory: &Path,
        config: &VisionConfig,
        classes: usize,
        head: Init,
        placement: Placement<'_>,
    ) -> Result<(Self, ParamTable, LoadReport)> {
        let weights = config.open_weights(directory)?;
        params::build(&weights, placement, |root| Self::new(root, config, classes as i64, head))
    }

    /// The classifier at the root of a checkpoint; `head` says whether its last layer starts anew.
    ///
    /// # Errors
    /// A tensor of the encoder is missing or has another shape.
    pub fn new(root: &Builder<'_, '_>, config: &VisionConfig, classes: i64, head: Init) -> Result<Self> {
        Ok(Self {
            encoder: config.encoder(root)?,
            classifier: Linear::with_init(&root.at(config.classifier), config.hidden_size(), classes, head)?,
            channels: config.channels(),
            image_size: config.image_size(),
            compute: root.compute(),
        })
    }

    /// Everything before the classifier: `pixels` `[B, channels, H, W]`, normalised, in float32 to `[B, D]` in
    /// float32. A frozen backbone is run with [`Mode::eval`], so that its statistics stay as they are.
    ///
    /// # Errors
    /// The images have other channels or another size than the model takes.
    pub fn features(&self, pixels: &Tensor, mode: &Mode) -> Result<Tensor> {
        let (_, channels, height, width) = pixels.size4()?;
        let fits = self.image_size.is_none_or(|size| size == height && size == width);
        if channels != self.channels || !fits {
            let side = self.image_size.map_or("any".to_owned(), |size| size.to_string());
            return Err(EngineError::model(format!(
                "the model takes images of {} channels and image_size {side}, not of {channels} channels and \
                 {height} by {width} pixels",
                self.channels
            )));
        }
        self.encoder.features(pixels, mode)
    }

    /// Logits `[B, C]` in float32 from features.
    pub fn head(&self, features: &Tensor, mode: &Mode) -> Result<Tensor> {
        Ok(self.classifier.forward(&features.f_to_kind(self.compute)?, mode)?.f_to_kind(Kind::Float)?)
    }

    /// Logits `[B, C]` in float32.
    pub fn forward(&self, pixels: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.head(&self.features(pixels, mode)?, mode)
    }
}
