//! Labelled images: their encoded bytes in one file on disk, their decoded pixels in memory as far as there is room.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use memmap2::Mmap;
use tch::{Device, Tensor};

use super::reader;
use crate::error::{EngineError, Result};
use crate::observer::Observer;
use crate::vision::augment::{DrawKey, Variation};
use crate::vision::cache::{ImageCache, bounded};
use crate::vision::processor::ImageProcessor;
use finetuned::dataset::images::{self, RgbImage};
use finetuned::dataset::prints::of_image;
use finetuned::domain::hyperparameters::Augmentation;
use finetuned::domain::report;
use finetuned::domain::run::DataFile;

/// Images as they were sent, and the class of each. Reading any of them does not need the file that they came in.
pub struct Images {
    bytes: Mmap,
    /// The field of the request that named the file.
    param: &'static str,
    spans: Vec<Range<usize>>,
    pub classes: Vec<usize>,
    pub places: Vec<report::Place>,
}

impl Images {
    /// Copies the images of a file, whose labels are all in `labels`, to a nameless file in `folder`.
    ///
    /// # Errors
    /// The file is not as it was when the job was validated, or there is no room for the copy.
    pub fn load(
        file: &DataFile,
        param: &'static str,
        labels: &[String],
        folder: &Path,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let path = folder.join(format!("{param}.images"));
        let spool = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let spool = spool.map_err(EngineError::io(&path))?;
        fs::remove_file(&path).map_err(EngineError::io(&path))?;
        let class_of: HashMap<&str, usize> =
            labels.iter().enumerate().map(|(class, label)| (label.as_str(), class)).collect();
        let (mut spans, mut classes, mut places, mut end) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut writer = BufWriter::new(&spool);
        for image in reader::Examples::open(file, param, observer, images::read)? {
            let image = image?;
            let Some(&class) = class_of.get(image.label.as_str()) else {
                let message = format!("image {} has an unknown label", image.place.line);
                return Err(EngineError::Data { param, message });
            };
            writer.write_all(&image.bytes).map_err(EngineError::io(&path))?;
            spans.push(end..end + image.bytes.len());
            end += image.bytes.len();
            classes.push(class);
            places.push(image.place);
        }
        writer.flush().map_err(EngineError::io(&path))?;
        drop(writer);
        // SAFETY: the file has no name, so nothing but this process knows it.
        let bytes = unsafe { Mmap::map(&spool) }.map_err(EngineError::io(&path))?;
        Ok(Self { bytes, param, spans, classes, places })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// What each image is known by: those with the same pixels have the same. All are decoded, on all threads.
    ///
    /// # Errors
    /// One cannot be decoded any more.
    pub fn prints(&self, observer: &dyn Observer) -> Result<Vec<u64>> {
        /// Images between two signs of life.
        const AT_ONCE: usize = 512;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let mut prints = vec![0; self.len()];
        for (number, some) in prints.chunks_mut(AT_ONCE).enumerate() {
            let first = number * AT_ONCE;
            let each = some.len().div_ceil(threads);
            thread::scope(|scope| {
                let parts = some.chunks_mut(each).enumerate().map(|(part, prints)| {
                    scope.spawn(move || {
                        prints.iter_mut().enumerate().try_for_each(|(at, print)| {
                            *print = of_image(&self.decode(first + part * each + at)?);
                            Ok(())
                        })
                    })
                });
                let parts: Vec<_> = parts.collect();
                let joined = |part: thread::ScopedJoinHandle<'_, Result<()>>| {
                    part.join().unwrap_or_else(|_| Err(EngineError::native("a decoder failed")))
                };
                parts.into_iter().try_for_each(joined)
            })?;
            observer.alive();
        }
        Ok(prints)
    }

    fn decode(&self, index: usize) -> Result<RgbImage> {
        images::decode(&self.bytes[self.spans[index].clone()]).map_err(|why| {
            let place = &self.places[index];
            let name = place.member.clone().unwrap_or_else(|| format!("line {}", place.line));
            EngineError::Data { param: self.param, message: format!("{name}: {why}") }
        })
    }
}

/// `[B, 3, H, W]` from the normalised pixels of `B` images of `width` and `height`, three planes each.
pub fn batch_tensor(pixels: &[f32], (width, height): (u32, u32), device: Device) -> Result<Tensor> {
    let shape = [-1, 3, i64::from(height), i64::from(width)];
    Ok(Tensor::f_from_slice(pixels)?.f_view(shape)?.f_to_device(device)?)
}

/// Some of the images, as a model sees them.
pub struct ImageSet {
    images: Arc<Images>,
    /// Which of the images it has, in order.
    members: Vec<usize>,
    processor: ImageProcessor,
    augmentation: Augmentation,
    seed: i64,
    cache: ImageCache,
}

impl ImageSet {
    /// The images at `members`; pixels are kept up to `budget` bytes.
    pub fn new(
        images: Arc<Images>,
        members: Vec<usize>,
        processor: ImageProcessor,
        augmentation: Augmentation,
        seed: i64,
        budget: u64,
    ) -> Self {
        let cache = ImageCache::new(members.len(), budget);
        Self { images, members, processor, augmentation, seed, cache }
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Width and height of what the model sees.
    pub fn size(&self) -> (u32, u32) {
        self.processor.size()
    }

    /// The class of image `index`.
    pub fn class(&self, index: usize) -> usize {
        self.images.classes[self.members[index]]
    }

    /// The classes of all images.
    pub fn classes(&self) -> Vec<usize> {
        (0..self.len()).map(|index| self.class(index)).collect()
    }

    /// Where image `index` stands in its file.
    pub fn place(&self, index: usize) -> &report::Place {
        &self.images.places[self.members[index]]
    }

    /// How training images are varied.
    pub fn augmentation(&self) -> &Augmentation {
        &self.augmentation
    }

    /// The normalised pixels of image `index`, three planes, as an evaluation sees them.
    pub fn pixels(&self, index: usize) -> Result<Vec<f32>> {
        Ok(self.processor.normalise(&*self.evaluated(index)?))
    }

    /// The same as epoch `epoch` of training sees them: varied.
    pub fn varied_pixels(&self, index: usize, epoch: u64) -> Result<Vec<f32>> {
        if self.augmentation.is_none() {
            return self.pixels(index);
        }
        let (size, example) = (self.size(), index as u64);
        let place = DrawKey { seed: self.seed.cast_unsigned(), epoch, example };
        let (variation, image) = if self.augmentation.random_resized_crop.is_some() {
            // What is kept is large enough to be cropped.
            let kept =
                self.cache.get(index, || bounded(self.images.decode(self.members[index])?, self.processor.size()))?;
            let variation = Variation::draw(&self.augmentation, place, kept.dimensions(), size);
            let image = variation.apply(&kept, &self.processor)?;
            (variation, image)
        } else {
            let evaluated = self.evaluated(index)?;
            let variation = Variation::draw(&self.augmentation, place, evaluated.dimensions(), size);
            let image = variation.finish((*evaluated).clone());
            (variation, image)
        };
        let mut values = self.processor.normalise(&image);
        variation.erase(&mut values, size.0 as usize);
        Ok(values)
    }

    fn evaluated(&self, index: usize) -> Result<Arc<RgbImage>> {
        self.cache.get(index, || self.processor.evaluate(&self.images.decode(self.members[index])?))
    }
}
