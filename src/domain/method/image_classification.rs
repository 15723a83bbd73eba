//! Image classification: one label for each image.

use serde::{Deserialize, Serialize};

use super::super::backbone::Backbone;
use super::super::hyperparameters::augmentation::{self, Augmentation};
use super::super::hyperparameters::definition::{DefaultValue, Definition, Rule};
use super::super::metric;
use super::card::{Card, DataKind, Description, Usual};
use super::common::{CLASS_WEIGHTS, ClassWeights, LABEL_SMOOTHING};

/// Its own hyperparameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub class_weights: ClassWeights,
    pub label_smoothing: f64,
    #[serde(deserialize_with = "augmentation::or_none")]
    pub augmentation: Augmentation,
}

const AUGMENTATION: Definition = Definition {
    name: "augmentation",
    rule: Rule::Object {
        check: Augmentation::check,
        fields: Augmentation::fields,
        allowed: "\"none\" or an object {random_resized_crop, horizontal_flip, vertical_flip, color_jitter, rand_augment, \
                  random_erasing, mixup, cutmix}",
    },
    auto: false,
    default: DefaultValue::Word("none"),
    doc: "How training images are varied; each variation depends on seed, epoch and image alone.",
    shapes_training: true,
    evaluates: false,
};

const OWN: &[Definition] = &[CLASS_WEIGHTS, LABEL_SMOOTHING, AUGMENTATION];

pub(super) const CARD: Card = Card {
    name: "image_classification",
    backbones: &[Backbone::VisionTransformer, Backbone::Convolutional],
    class_endings: &["ForImageClassification"],
    has_length: false,
    usual: Usual::HEADS,
    learns_labels: true,
    own: OWN,
    settle: |own| own.settled::<Settings>(OWN),
    metrics: |_| metric::measured(&metric::classes::SCORES),
    data: |_| DataKind::Images,
    scores_words: |_| 0.0,
    packs: |_| false,
    varies_inputs: |own| own.read::<Settings>().is_ok_and(|own| !own.augmentation.is_none()),
    without_examples: |own| {
        let mixes = own.read::<Settings>().is_ok_and(|own| own.augmentation.mixes());
        mixes.then_some("mixup and cutmix show no image by itself")
    },
    description: Description {
        library: "transformers",
        pipeline: "image-classification",
        loaders: "`AutoModelForImageClassification.from_pretrained` and `AutoImageProcessor.from_pretrained`",
    },
};
