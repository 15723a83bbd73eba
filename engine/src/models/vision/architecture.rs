//! What a family says of itself: one record of facts, filled from its `config.json`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use tch::Tensor;

use super::super::config::{self, number};
use crate::error::Result;
use crate::nn::Mode;
use crate::params::Builder;
use crate::policy::Anatomy;
use crate::weights::Weights;
use finetuned::domain::backbone::Backbone;
use finetuned::domain::model::ModelFacts;

/// Pixels of a side of `ImageNet`'s images, as nearly all models see them.
pub(super) const USUAL_SIDE: u32 = 224;

/// An image classifier as its checked `config.json` describes it.
pub struct VisionConfig {
    pub(super) backbone: Backbone,
    /// Transformers' class for the classifier.
    pub(super) class: &'static str,
    /// Transformers' class for its image processor, where its files name none.
    pub(super) processor: &'static str,
    /// The width of the features, `D`.
    pub(super) hidden_size: i64,
    /// Width of the layers' inner part; 0 where they are convolutions.
    pub(super) intermediate_size: i64,
    /// The only height and width that the model takes, or None if it takes any.
    pub(super) image_size: Option<i64>,
    /// Channels of an image: 3 for colours.
    pub(super) channels: i64,
    /// Values that training keeps of one image until backward has used them.
    pub(super) values_per_image: u64,
    /// What its names tell of where a parameter stands.
    pub(super) anatomy: Anatomy,
    /// The standard deviation of a new classifier's weight.
    pub(super) initializer_range: f64,
    /// Path of the output layer.
    pub(super) classifier: &'static str,
    /// The name that Transformers saves for a name in a checkpoint, given all names, to see whose they are.
    pub(super) saved_name: fn(&BTreeSet<String>, &str) -> String,
    /// The name of a module in Transformers for the one that it has in files, where those differ.
    pub(super) module_name: Option<fn(&str) -> String>,
    pub(super) encoder: MakeEncoder,
}

/// Builds the encoder at a path of a checkpoint.
pub(super) type MakeEncoder = Box<dyn Fn(&Builder<'_, '_>) -> Result<Box<dyn VisionEncoder>>>;

/// Everything before the classifier, of any family.
pub trait VisionEncoder {
    /// `pixels` `[B, channels, H, W]` in float32 to features `[B, D]` in float32.
    fn features(&self, pixels: &Tensor, mode: &Mode) -> Result<Tensor>;
}

impl VisionConfig {
    /// Reads and checks a `config.json` of an image classifier.
    ///
    /// # Errors
    /// A field is missing or asks for something that is not built; the message names it.
    pub fn parse(json: &str) -> Result<Self> {
        let family = config::model_type(json)?;
        super::parse(&family, json)
            .unwrap_or_else(|| config::refuse("model_type", &family, &super::families().collect::<Vec<_>>().join(", ")))
    }

    /// The encoder of a checkpoint, below its [`base_prefix`](Self::base_prefix) at `root`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn encoder(&self, root: &Builder<'_, '_>) -> Result<Box<dyn VisionEncoder>> {
        (self.encoder)(&root.at(self.anatomy.backbone))
    }

    /// The width of the features, `D`.
    pub fn hidden_size(&self) -> i64 {
        self.hidden_size
    }

    /// The only height and width that the model takes, or None if it takes any.
    pub fn image_size(&self) -> Option<i64> {
        self.image_size
    }

    /// A side of the images where neither model nor processor says.
    pub fn usual_side(&self) -> u32 {
        self.image_size.map_or(USUAL_SIDE, number)
    }

    /// Channels of an image: 3 for colours.
    pub fn channels(&self) -> i64 {
        self.channels
    }

    /// What its names tell of where a parameter stands.
    pub fn anatomy(&self) -> &Anatomy {
        &self.anatomy
    }

    /// The name of a module in Transformers for the one that it has in files, where those differ.
    pub fn module_name(&self) -> Option<fn(&str) -> String> {
        self.module_name
    }

    /// The standard deviation of a new classifier's weight.
    pub fn initializer_range(&self) -> f64 {
        self.initializer_range
    }

    /// Transformers' class for the classifier.
    pub fn architecture(&self) -> &'static str {
        self.class
    }

    /// Transformers' class for its image processor, where its files name none.
    pub fn processor_class(&self) -> &'static str {
        self.processor
    }

    /// What classifiers put before the names of the model they are made from.
    pub fn base_prefix(&self) -> &'static str {
        self.anatomy.backbone
    }

    /// Opens the weights in `directory` under the names that Transformers saves: those of torchvision's ResNets, and
    /// of ViT's modules in Transformers 5, are understood too.
    ///
    /// # Errors
    /// There are none, or they are malformed.
    pub fn open_weights(&self, directory: &Path) -> Result<Weights> {
        Weights::open_renamed(directory, self.anatomy.backbone, self.saved_name)
    }

    /// See [`ModelConfig::facts`](crate::models::ModelConfig::facts).
    pub fn facts(&self) -> ModelFacts {
        ModelFacts {
            backbone: self.backbone,
            hidden_size: number(self.hidden_size),
            layers: self.anatomy.layers,
            intermediate_size: u32::try_from(self.intermediate_size).unwrap_or(0),
            image_size: self.usual_side(),
            values_per_image: self.values_per_image,
            ..ModelFacts::default()
        }
    }
}

impl fmt::Debug for VisionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = self.facts();
        f.debug_struct("VisionConfig").field("class", &self.class).field("facts", &facts).finish_non_exhaustive()
    }
}
