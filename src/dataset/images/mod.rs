//! Labelled images: an archive with a folder for each class, or JSONL rows with data URLs. Images come one at a time,
//! out of the file where it lies; nothing is unpacked to disk.

mod archive;
mod data_url;
mod decode;
mod directory;
mod dos;
mod folders;
mod jpeg;
mod layout;
mod litter;
mod names;
mod others;
mod png;
mod rows;
mod sniff;
mod survey;
mod tar;
mod webp;
mod zip;

use std::fs::File;
use std::io;
use std::path::Path;

pub use data_url::data_url;
pub use decode::{MAX_PIXELS, MAX_SIDE, decode, room};
pub use image::RgbImage;
pub use sniff::ImageKind;
pub use survey::{report, survey};
pub(super) use tar::is_tar;

use super::Input;
use super::entries::{Entries, nothing_but};
use super::kind::{Kind, Watch, check_labels};
use crate::domain::report::{DataFormat, ExamplesReport, Fault, Place, UploadKind};

/// The largest image, in bytes as it is written. (A JSONL row is bounded by `MAX_LINE_BYTES` before that.)
pub const MAX_IMAGE_BYTES: usize = 32 << 20;

/// The most members an archive may have, folders and all.
pub const MAX_MEMBERS: u64 = 1_000_000;

/// What is said of a format that holds no images.
const NO_IMAGES: &str = "is no file of images, which are read from zip, tar, JSONL, JSON or Parquet";

/// One labelled image, as it is written, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageExample {
    pub place: Place,
    pub label: String,
    /// Whether the label stands otherwise in the file.
    pub is_tidied: bool,
    pub bytes: Vec<u8>,
}

/// The images of a file. Their bytes are not decoded: see [`decode`]. Of an archive with the folders `train/`, `test/`
/// and their like above the class folders, they are those in `train/`.
///
/// # Errors
/// The file cannot be read.
pub fn read(input: &Input) -> io::Result<Entries<ImageExample>> {
    match input.format {
        DataFormat::Zip => zip::read(input),
        DataFormat::Tar => tar::read(input),
        DataFormat::Jsonl | DataFormat::Json | DataFormat::Parquet => rows::read(input),
        DataFormat::Csv | DataFormat::Text | DataFormat::Unknown => Ok(nothing_but(Fault::new(1, None, NO_IMAGES))),
    }
}

/// Labelled images.
pub struct LabelledImages;

impl Kind for LabelledImages {
    fn fits(&self, format: DataFormat, there: &[&str]) -> Result<(), String> {
        match format {
            DataFormat::Zip | DataFormat::Tar => Ok(()),
            DataFormat::Jsonl | DataFormat::Json | DataFormat::Parquet => rows::fit(there),
            DataFormat::Csv | DataFormat::Text | DataFormat::Unknown => Err(NO_IMAGES.to_owned()),
        }
    }

    fn report(&self, input: &Input, watch: &mut dyn Watch) -> io::Result<ExamplesReport> {
        report(input, watch)
    }

    fn upload_kind(&self) -> Option<UploadKind> {
        Some(UploadKind::LabelledImages)
    }

    fn inspect(&self, input: &Input, there: &[&str]) -> io::Result<Option<ExamplesReport>> {
        if self.fits(input.format, there).is_ok() { survey(input).map(Some) } else { Ok(None) }
    }

    fn check_training(&self, report: &ExamplesReport) -> Result<(), String> {
        check_labels(report)
    }

    fn is_stratified(&self) -> bool {
        true
    }
}

/// Whether a file that begins otherwise is a zip archive behind something else, such as a program that unpacks it.
///
/// # Errors
/// The file cannot be read.
pub(super) fn is_zip_behind_prefix(path: &Path) -> io::Result<bool> {
    zip::is_behind_prefix(&mut File::open(path)?)
}

/// The names of the first members of a zip archive; None where it has no directory.
///
/// # Errors
/// The file cannot be read.
pub(super) fn zip_names(path: &Path) -> io::Result<Option<Vec<String>>> {
    zip::names(path)
}
