//! Image classifiers behind one face, with Transformers' names.
//!
//! Shapes: `B` images of `H` by `W` pixels, `D` width of the features, `C` classes.

mod architecture;
mod classifier;
mod resnet;
mod torchvision;
mod vit;

pub use architecture::{VisionConfig, VisionEncoder};
pub use classifier::ImageClassifier;
pub use torchvision::transformers_name;

use crate::error::Result;

/// Reads the text of a `config.json`.
type Parse = fn(&str) -> Result<VisionConfig>;

/// The families by `model_type`.
const FAMILIES: [(&str, Parse); 3] = [("resnet", resnet::parse), ("vit", vit::parse_vit), ("deit", vit::parse_deit)];

/// The families.
pub(super) fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(family, _)| *family)
}

/// The `config.json` of this family; None if it is no image classifier's.
pub(super) fn parse(family: &str, json: &str) -> Option<Result<VisionConfig>> {
    FAMILIES.iter().find(|(known, _)| *known == family).map(|(_, parse)| parse(json))
}
