//! From images to pixels: what a model's image processor says, and varied training images.

pub mod augment;
pub mod cache;
pub mod color;
pub mod draws;
mod fields;
pub mod mix;
pub mod operation;
pub mod processor;
pub mod randaugment;
pub mod resize;

pub use finetuned::dataset::images::RgbImage;
