//! Decoded images kept in memory, as far as a budget goes. Decoding a photograph takes longer than all the rest that is
//! done to it; what does not fit is decoded again in each epoch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::RgbImage;
use super::resize::{Filter, resize, with_shorter_side};
use crate::error::Result;

/// Images by number, each made once if it fits into the budget.
pub struct ImageCache {
    images: Vec<OnceLock<Arc<RgbImage>>>,
    /// Bytes that may still be filled.
    left: AtomicU64,
}

impl ImageCache {
    /// Room for `count` images with together at most `budget` bytes of pixels.
    pub fn new(count: usize, budget: u64) -> Self {
        Self { images: (0..count).map(|_| OnceLock::new()).collect(), left: AtomicU64::new(budget) }
    }

    /// Image `index`: from memory, or made and then kept if it fits.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get(&self, index: usize, make: impl FnOnce() -> Result<RgbImage>) -> Result<Arc<RgbImage>> {
        let Some(slot) = self.images.get(index) else { return make().map(Arc::new) };
        if let Some(image) = slot.get() {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(make()?);
        let bytes = image.as_raw().len() as u64;
        let reserved =
            self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok();
        // Two threads that make the same image at once get equal ones; the budget is charged for the one that is kept.
        if reserved && slot.set(Arc::clone(&image)).is_err() {
            self.left.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(image)
    }

    /// Bytes of the budget that are not filled.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }
}

/// An image as it is kept for varied training with `target` pixels (width, height): its shorter side is at most 8/7 of
/// the longer side of training, 256 for 224. Photographs take a tenth of the memory or less that way, and crops need not
/// shrink megapixels each time. The price: a crop of less than 49/64 of a kept image's area is enlarged a little, where
/// one from the original would be reduced. Evaluation does not use it.
///
/// # Errors
/// See [`resize`].
pub fn bounded(image: RgbImage, target: (u32, u32)) -> Result<RgbImage> {
    let most = (target.0.max(target.1) * 8).div_ceil(7);
    if image.width().min(image.height()) <= most {
        return Ok(image);
    }
    resize(&image, with_shorter_side(image.dimensions(), most), Filter::Bilinear)
}

#[cfg(test)]
mod tests {
    use super::{ImageCache, RgbImage, bounded};

    #[test]
    fn images_are_made_once_while_they_fit() {
        let cache = ImageCache::new(3, 40);
        let mut made = 0;
        for index in [0, 1, 2, 0, 1, 2] {
            let image = cache
                .get(index, || {
                    made += 1;
                    Ok(RgbImage::from_pixel(2, 3, [index as u8; 3].into()))
                })
                .unwrap();
            assert_eq!(image.get_pixel(0, 0).0[0], index as u8);
        }
        // Each takes 18 bytes: two fit, the third is made whenever it is asked for.
        assert_eq!((made, cache.left()), (4, 4));
    }

    #[test]
    fn large_images_are_kept_smaller_and_small_ones_as_they_are() {
        assert_eq!(bounded(RgbImage::new(1024, 768), (224, 224)).unwrap().dimensions(), (341, 256));
        assert_eq!(bounded(RgbImage::new(300, 200), (224, 224)).unwrap().dimensions(), (300, 200));
    }
}
