//! Batches in which images are mixed in pairs: mixup (Zhang et al. 2017) and `CutMix` (Yun et al. 2019), as torchvision's
//! `transforms.v2` has them. An image's partner is the one before it in the batch, the first one's is the last.

use finetuned::domain::hyperparameters::Augmentation;

use super::draws::Draws;
use super::resize::Area;

/// Draws for mixing are apart from those of the images.
const PURPOSE: u64 = 0x006D_6978;

/// How a batch is mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// Each image counts `lambda`, its partner the rest.
    Mixup { lambda: f64 },
    /// The partner's pixels in `area`; `lambda` is what is left of the image.
    CutMix { lambda: f64, area: Area },
}

impl Mix {
    /// How the batch of a step is mixed, if it is; images have `width` and `height`.
    pub fn draw(settings: &Augmentation, seed: u64, step: u64, (width, height): (u32, u32)) -> Option<Self> {
        let mut draws = Draws::new(&[PURPOSE, seed, step]);
        let both = settings.mixup > 0.0 && settings.cutmix > 0.0;
        let cut = if both { draws.chance(0.5) } else { settings.cutmix > 0.0 };
        if !cut {
            return (settings.mixup > 0.0).then(|| Self::Mixup { lambda: draws.beta(settings.mixup) });
        }
        let side = 0.5 * (1.0 - draws.beta(settings.cutmix)).sqrt();
        // The middle is uniform; what hangs over the edge is cut off, and lambda follows.
        let mut range = |length: u32| {
            let middle = draws.below(length.into()) as u32;
            let half = (side * f64::from(length)) as u32;
            (middle.saturating_sub(half), (middle + half).min(length))
        };
        let ((left, right), (top, bottom)) = (range(width), range(height));
        let area = Area { left, top, width: right - left, height: bottom - top };
        let cut_out = f64::from(area.width) * f64::from(area.height) / (f64::from(width) * f64::from(height));
        Some(Self::CutMix { lambda: 1.0 - cut_out, area })
    }

    /// How much an image's own class counts; its partner's counts the rest.
    pub fn lambda(self) -> f64 {
        match self {
            Self::Mixup { lambda } | Self::CutMix { lambda, .. } => lambda,
        }
    }

    /// The partner of image `index` in a batch of `count`.
    pub fn partner(index: usize, count: usize) -> usize {
        (index + count - 1) % count
    }

    /// Mixes normalised images, each of 3 planes of rows of `width` pixels.
    pub fn apply(self, images: &[Vec<f32>], width: usize) -> Vec<Vec<f32>> {
        let mixed = |(index, image): (usize, &Vec<f32>)| {
            let partner = &images[Self::partner(index, images.len())];
            match self {
                Self::Mixup { lambda } => {
                    let (own, other) = (lambda as f32, (1.0 - lambda) as f32);
                    image.iter().zip(partner).map(|(&value, &theirs)| theirs * other + value * own).collect()
                }
                Self::CutMix { area, .. } => {
                    let rows = image.len() / 3 / width;
                    let mut out = image.clone();
                    for row in (0..3).flat_map(|plane| (plane * rows + area.top as usize..).take(area.height as usize))
                    {
                        let start = row * width + area.left as usize;
                        let range = start..start + area.width as usize;
                        out[range.clone()].copy_from_slice(&partner[range]);
                    }
                    out
                }
            }
        };
        images.iter().enumerate().map(mixed).collect()
    }

    /// The probability of each of `classes` for each image, from the class of each image.
    pub fn targets(self, labels: &[usize], classes: usize) -> Vec<Vec<f32>> {
        let lambda = self.lambda();
        let target = |(index, &label): (usize, &usize)| {
            let mut row = vec![0.0; classes];
            row[label] += lambda as f32;
            row[labels[Self::partner(index, labels.len())]] += (1.0 - lambda) as f32;
            row
        };
        labels.iter().enumerate().map(target).collect()
    }
}
