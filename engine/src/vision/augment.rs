//! Varied training images. What is done to an image is drawn from (seed, epoch, example), so a resumed run sees the same
//! images; then it is done, without chance.

use finetuned::domain::hyperparameters::{Augmentation, ColorJitter, RandomResizedCrop};

use super::RgbImage;
use super::draws::Draws;
use super::operation::Operation;
use super::processor::ImageProcessor;
use super::randaugment;
use super::resize::{Area, Filter, crop, resize};
use crate::error::Result;

/// Draws for images are apart from those of batches.
const PURPOSE: u64 = 0x0069_6D67;

/// How often a rectangle is drawn that might not fit.
const TRIES: usize = 10;

/// Least and most of the image's area that is erased, and of height divided by width.
const ERASED_SCALE: [f64; 2] = [0.02, 0.33];
const ERASED_RATIO: [f64; 2] = [0.3, 3.3];

/// What is done to one image in one epoch, in the order of its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Variation {
    /// The part that is resized to the size of training; None takes the image as it is evaluated.
    pub crop: Option<Area>,
    pub mirrored: bool,
    pub upside_down: bool,
    pub operations: Vec<Operation>,
    /// The part of the normalised image that becomes 0.
    pub erased: Option<Area>,
}

impl Variation {
    /// Draws for an example, whose image has `source` pixels (width, height) and is trained with `target` pixels.
    pub fn draw(settings: &Augmentation, place: DrawKey, source: (u32, u32), target: (u32, u32)) -> Self {
        let mut draws = Draws::new(&[PURPOSE, place.seed, place.epoch, place.example]);
        let crop = settings.random_resized_crop.as_ref().map(|settings| draw_crop(settings, source, &mut draws));
        let mirrored = draws.chance(settings.horizontal_flip);
        let upside_down = draws.chance(settings.vertical_flip);
        let mut operations = Vec::new();
        if let Some(settings) = &settings.rand_augment {
            operations.extend(randaugment::draw(settings, target, &mut draws));
        }
        if let Some(settings) = &settings.color_jitter {
            operations.extend(draw_jitter(settings, &mut draws));
        }
        let erased = draws.chance(settings.random_erasing).then(|| draw_erased(target, &mut draws)).flatten();
        Self { crop, mirrored, upside_down, operations, erased }
    }

    /// The image of training, 8 bits a channel; nothing is erased yet.
    ///
    /// # Errors
    /// See [`resize`].
    pub fn apply(&self, image: &RgbImage, processor: &ImageProcessor) -> Result<RgbImage> {
        Ok(self.finish(match self.crop {
            // torchvision's crop interpolates bilinearly whatever the model's evaluation does.
            Some(area) => resize(&crop(image, area), processor.size(), Filter::Bilinear)?,
            None => processor.evaluate(image)?,
        }))
    }

    /// What comes after the crop: `out` has the size of training.
    pub fn finish(&self, mut out: RgbImage) -> RgbImage {
        let (width, height) = out.dimensions();
        if self.mirrored {
            out = RgbImage::from_fn(width, height, |x, y| *out.get_pixel(width - 1 - x, y));
        }
        if self.upside_down {
            out = RgbImage::from_fn(width, height, |x, y| *out.get_pixel(x, height - 1 - y));
        }
        self.operations.iter().fold(out, |image, operation| operation.apply(&image))
    }

    /// Erases from the normalised image: 3 planes of rows of `width` pixels.
    pub fn erase(&self, values: &mut [f32], width: usize) {
        let Some(area) = self.erased else { return };
        let rows = values.len() / 3 / width;
        for plane in 0..3 {
            for row in (plane * rows + area.top as usize..).take(area.height as usize) {
                let start = row * width + area.left as usize;
                values[start..start + area.width as usize].fill(0.0);
            }
        }
    }
}

/// What the draws depend on. `example` is the example's number in the data set, not in the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrawKey {
    pub seed: u64,
    pub epoch: u64,
    pub example: u64,
}

/// Width and height of a random rectangle. A ratio is uniform on a logarithmic scale.
fn draw_shape(area: f64, scale: [f64; 2], ratio: [f64; 2], draws: &mut Draws) -> (u32, u32) {
    let area = area * draws.between(scale[0], scale[1]);
    let ratio = draws.between(ratio[0].ln(), ratio[1].ln()).exp();
    ((area * ratio).sqrt().round_ties_even() as u32, (area / ratio).sqrt().round_ties_even() as u32)
}

fn placed((width, height): (u32, u32), (outer_width, outer_height): (u32, u32), draws: &mut Draws) -> Area {
    let top = draws.below(u64::from(outer_height - height) + 1) as u32;
    let left = draws.below(u64::from(outer_width - width) + 1) as u32;
    Area { left, top, width, height }
}

/// torchvision's `RandomResizedCrop.get_params`: the middle where no rectangle fits.
fn draw_crop(settings: &RandomResizedCrop, (width, height): (u32, u32), draws: &mut Draws) -> Area {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..TRIES {
        let (w, h) = draw_shape(area, settings.scale, settings.ratio, draws);
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return placed((w, h), (width, height), draws);
        }
    }
    let ratio = f64::from(width) / f64::from(height);
    let [least, most] = settings.ratio;
    let (w, h) = if ratio < least {
        (width, (f64::from(width) / least).round_ties_even() as u32)
    } else if ratio > most {
        ((f64::from(height) * most).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    Area { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

/// torchvision's `ColorJitter`: four factors in random order; those that are off are left out.
fn draw_jitter(settings: &ColorJitter, draws: &mut Draws) -> Vec<Operation> {
    let order = draws.order::<4>();
    let mut around_one = |range: f64| draws.between((1.0 - range).max(0.0), 1.0 + range);
    let all = [
        (settings.brightness, Operation::Brightness(around_one(settings.brightness))),
        (settings.contrast, Operation::Contrast(around_one(settings.contrast))),
        (settings.saturation, Operation::Color(around_one(settings.saturation))),
        (settings.hue, Operation::Hue(draws.between(-settings.hue, settings.hue))),
    ];
    order.into_iter().map(|i| all[i]).filter(|(range, _)| *range > 0.0).map(|(_, operation)| operation).collect()
}

/// torchvision's `RandomErasing.get_params`: nothing where no rectangle fits.
fn draw_erased((width, height): (u32, u32), draws: &mut Draws) -> Option<Area> {
    let area = f64::from(width) * f64::from(height);
    (0..TRIES).find_map(|_| {
        let (h, w) = draw_shape(area, ERASED_SCALE, ERASED_RATIO, draws);
        (h < height && w < width).then(|| placed((w, h), (width, height), draws))
    })
}
