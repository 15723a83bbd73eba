//! From images to batches of pixels: what a model's image processor says, varied training images, and threads that are
//! ahead of the training.

pub mod augment;
pub mod cache;
pub mod color;
pub mod draws;
pub mod loader;
pub mod mix;
pub mod operation;
pub mod processor;
pub mod randaugment;
pub mod resize;

pub use finetuned::dataset::images::RgbImage;
