//! Image classifiers: ResNet, ViT and DeiT behind one face, with Transformers' names.
//!
//! Shapes: `B` images of `H` by `W` pixels, `D` width of the features, `C` classes.

mod resnet;
mod torchvision;
mod vit;

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Kind, Tensor};

pub use resnet::{LayerType, ResNetConfig};
pub use torchvision::transformers_name;
pub use vit::VitConfig;

use crate::error::{EngineError, Result};
use crate::nn::{Linear, Mode};
use crate::params::{self, Builder, Init, LoadReport, ParamTable, Placement};
use crate::weights::Weights;
use resnet::ResNet;
use vit::Vit;

/// Pixels of a side of `ImageNet`'s images, as nearly all models see them.
const USUAL_SIDE: u32 = 224;

/// The `config.json` of an image classifier.
#[derive(Clone, Debug)]
pub enum VisionConfig {
    ResNet(ResNetConfig),
    Vit(VitConfig),
    Deit(VitConfig),
}

/// The error for a field that asks for what is not built.
fn refuse<T>(field: &str, value: &dyn std::fmt::Display, allowed: &str) -> Result<T> {
    Err(EngineError::model(format!("config.json: {field} is {value}; supported: {allowed}")))
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json))
        .map_err(|error| EngineError::model(format!("config.json: {error}")))
}

impl VisionConfig {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// A field is missing or asks for something that is not built; the message names it.
    pub fn parse(json: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Family {
            model_type: String,
        }
        let config = match read::<Family>(json)?.model_type.as_str() {
            "resnet" => Self::ResNet(read(json)?),
            "vit" => Self::Vit(read(json)?),
            "deit" => Self::Deit(read(json)?),
            other => return refuse("model_type", &other, "resnet, vit, deit"),
        };
        match &config {
            Self::ResNet(config) => config.check()?,
            Self::Vit(config) | Self::Deit(config) => config.check()?,
        }
        if config.channels() < 1 {
            return refuse("num_channels", &config.channels(), "1 or more");
        }
        Ok(config)
    }

    /// The width of the features, `D`.
    pub fn hidden_size(&self) -> i64 {
        match self {
            Self::ResNet(config) => config.hidden_size(),
            Self::Vit(config) | Self::Deit(config) => config.hidden_size,
        }
    }

    /// The only height and width that the model takes, or None if it takes any.
    pub fn image_size(&self) -> Option<i64> {
        match self {
            Self::ResNet(_) => None,
            Self::Vit(config) | Self::Deit(config) => Some(config.image_size),
        }
    }

    /// A side of the images where neither model nor processor says.
    pub fn usual_side(&self) -> u32 {
        self.image_size().and_then(|size| u32::try_from(size).ok()).unwrap_or(USUAL_SIDE)
    }

    /// Channels of an image: 3 for colours.
    pub fn channels(&self) -> i64 {
        match self {
            Self::ResNet(config) => config.num_channels,
            Self::Vit(config) | Self::Deit(config) => config.num_channels,
        }
    }

    /// Layers of the encoder, or stages of a ResNet.
    pub fn layers(&self) -> u32 {
        let layers = match self {
            Self::ResNet(config) => config.depths.len(),
            Self::Vit(config) | Self::Deit(config) => config.num_hidden_layers,
        };
        u32::try_from(layers).unwrap_or(u32::MAX)
    }

    /// The layers that get adapters where nothing else is asked for, as in PEFT; a ResNet has none that could.
    pub fn adapted_layers(&self) -> &'static [&'static str] {
        match self {
            Self::ResNet(_) => &[],
            Self::Vit(_) | Self::Deit(_) => &["query", "value"],
        }
    }

    /// The name of a module in Transformers for the one that it has in files, where those differ.
    pub fn module_name(&self) -> Option<fn(&str) -> String> {
        match self {
            Self::ResNet(_) => None,
            Self::Vit(_) | Self::Deit(_) => Some(vit::module_name),
        }
    }

    /// The standard deviation of a new classifier's weight. For ResNet Transformers leaves `torch.nn.Linear`'s own
    /// uniform distribution between ±1/√D; this is its standard deviation.
    pub fn initializer_range(&self) -> f64 {
        match self {
            Self::ResNet(config) => (3.0 * config.hidden_size() as f64).sqrt().recip(),
            Self::Vit(config) | Self::Deit(config) => config.initializer_range,
        }
    }

    /// Transformers' class for the classifier.
    pub fn architecture(&self) -> &'static str {
        match self {
            Self::ResNet(_) => "ResNetForImageClassification",
            Self::Vit(_) => "ViTForImageClassification",
            Self::Deit(_) => "DeiTForImageClassification",
        }
    }

    /// What classifiers put before the names of the model they are made from.
    pub fn base_prefix(&self) -> &'static str {
        match self {
            Self::ResNet(_) => "resnet",
            Self::Vit(_) => "vit",
            Self::Deit(_) => "deit",
        }
    }

    /// The same model without dropout.
    #[must_use]
    pub fn without_dropout(mut self) -> Self {
        if let Self::Vit(config) | Self::Deit(config) = &mut self {
            config.hidden_dropout_prob = 0.0;
            config.attention_probs_dropout_prob = 0.0;
        }
        self
    }

    /// Opens the weights in `directory` under the names that Transformers saves: those of torchvision's ResNets, and
    /// of ViT's modules in Transformers 5, are understood too.
    pub fn open_weights(&self, directory: &Path) -> Result<Weights> {
        Weights::open_renamed(directory, self.base_prefix(), |all, name| match self {
            Self::ResNet(_) if torchvision::is_torchvision(all) => transformers_name(name),
            Self::ResNet(_) => name.to_owned(),
            Self::Vit(_) | Self::Deit(_) => vit::saved_name(name),
        })
    }
}

enum Backbone {
    ResNet(ResNet),
    Vit(Vit),
}

/// `ResNetForImageClassification`, `ViTForImageClassification` or `DeiTForImageClassification`: a linear layer on the
/// features of an image.
pub struct ImageClassifier {
    backbone: Backbone,
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
    pub fn new(root: &Builder<'_, '_>, config: &VisionConfig, classes: i64, head: Init) -> Result<Self> {
        let path = root.at(config.base_prefix());
        let (backbone, classifier) = match config {
            VisionConfig::ResNet(config) => {
                (Backbone::ResNet(ResNet::new(&path, config)?), root.at("classifier").at(1))
            }
            VisionConfig::Vit(config) => (Backbone::Vit(Vit::new(&path, config, false)?), root.at("classifier")),
            VisionConfig::Deit(config) => (Backbone::Vit(Vit::new(&path, config, true)?), root.at("classifier")),
        };
        Ok(Self {
            backbone,
            classifier: Linear::with_init(&classifier, config.hidden_size(), classes, head)?,
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
        match &self.backbone {
            Backbone::ResNet(model) => model.features(pixels, mode),
            Backbone::Vit(model) => model.features(pixels, mode),
        }
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
