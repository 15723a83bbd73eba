//! From an image file to pixels, as Pillow reads it: `ImageOps.exif_transpose(Image.open(file)).convert("RGB")`.
//!
//! Alpha is dropped, not blended. Palettes are looked up, grey is repeated. Of an animation the first frame counts.
//! Colour profiles are not applied. Of 16 bits the upper 8 count; for grey without alpha Pillow instead makes every
//! value above 255 white, which leaves nothing to learn from.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

use super::sniff::ImageKind;
use super::{jpeg, png, webp};

/// The most pixels of an image: 64 megapixels.
pub const MAX_PIXELS: u64 = 64 << 20;

/// The longest side of an image, in pixels.
pub const MAX_SIDE: u32 = 16_384;

/// Room for the pixels of the largest image with 16 bits in each of four channels.
const MAX_ALLOCATION: u64 = MAX_PIXELS * 8;

/// What an image's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: ImageKind,
    /// In pixels, as it is shown.
    pub(super) width: u32,
    pub(super) height: u32,
}

/// The pixels of an image file: JPEG, PNG or WebP, whatever its name says.
///
/// # Errors
/// Why it is refused, in words for its owner: another format, too large, damaged or cut short.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let (_, orientation, decoder) = open(bytes)?;
    let image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(&error))?;
    let mut image = DynamicImage::ImageRgb8(rgb(image)?);
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// What the header of an image file says, and whether the rest seems to be there. Whether it can be decoded, only
/// [`decode`] knows.
pub(super) fn head(bytes: &[u8]) -> Result<Head, String> {
    open(bytes).map(|(head, ..)| head)
}

fn open(bytes: &[u8]) -> Result<(Head, Orientation, impl ImageDecoder), String> {
    let kind = ImageKind::of(bytes)?;
    if kind == ImageKind::Jpeg && !jpeg::is_complete(bytes) {
        return Err("is cut short: the end of the JPEG image is missing".to_owned());
    }
    if kind == ImageKind::Png && !png::palette_is_whole(bytes) {
        return Err("is damaged: its palette has parts of colours, or too many".to_owned());
    }
    if kind == ImageKind::WebP && !webp::chunks_fit(bytes) {
        return Err("is damaged or cut short: a part of the WebP image is longer than the file".to_owned());
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind.format());
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(format!("has no pixels ({width} x {height})"));
    }
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("has {width} x {height} pixels; {}", allowed()));
    }
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    decoder.set_limits(limits).map_err(|error| damaged(&error))?;
    // Metadata that cannot be read says nothing; Pillow passes over it, too.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let turned = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (width, height) = if turned { (height, width) } else { (width, height) };
    Ok((Head { kind, width, height }, orientation, decoder))
}

/// Three channels of 8 bits.
fn rgb(image: DynamicImage) -> Result<RgbImage, String> {
    let (width, height) = (image.width(), image.height());
    let upper = |value: u16| (value >> 8) as u8;
    let pixels: Vec<u8> = match image {
        DynamicImage::ImageRgb8(image) => return Ok(image),
        DynamicImage::ImageLuma8(image) => image.iter().flat_map(|&grey| [grey; 3]).collect(),
        DynamicImage::ImageLumaA8(image) => image.pixels().flat_map(|pixel| [pixel[0]; 3]).collect(),
        DynamicImage::ImageRgba8(image) => image.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        DynamicImage::ImageLuma16(image) => image.iter().flat_map(|&grey| [upper(grey); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => image.pixels().flat_map(|pixel| [upper(pixel[0]); 3]).collect(),
        DynamicImage::ImageRgb16(image) => image.iter().map(|&value| upper(value)).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|pixel| [upper(pixel[0]), upper(pixel[1]), upper(pixel[2])]).collect()
        }
        other => return Err(format!("has pixels of an unsupported type ({:?})", other.color())),
    };
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| "its pixels do not fit its size".to_owned())
}

fn allowed() -> String {
    format!("at most {} megapixels and {MAX_SIDE} a side are allowed", MAX_PIXELS >> 20)
}

/// The decoder's words, as far as they fit into a sentence.
fn damaged(error: &ImageError) -> String {
    const LONGEST: usize = 160;
    let text = error.to_string();
    let what: String = text.lines().next().unwrap_or_default().chars().take(LONGEST).collect();
    match error {
        ImageError::Limits(_) => format!("is too large; {}", allowed()),
        ImageError::Unsupported(_) => format!("uses a feature that is not supported: {what}"),
        _ => format!("is damaged or cut short: {what}"),
    }
}
