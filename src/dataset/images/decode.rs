//! From an image file to pixels, as Pillow reads it: `ImageOps.exif_transpose(Image.open(file)).convert("RGB")`.
//!
//! Alpha is dropped, not blended. Palettes are looked up, grey is repeated. Of an animation the first frame counts.
//! Colour profiles are not applied. Of 16 bits the upper 8 count; for grey without alpha Pillow instead makes every
//! value above 255 white, which leaves nothing to learn from.

use std::borrow::Cow;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

use super::sniff::ImageKind;
use super::{jpeg, png, webp};
use crate::domain::clip::clipped_to;

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
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    let mut pixels = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut pixels).map_err(|error| damaged(&error))?;
    let image = RgbImage::from_raw(width, height, rgb(pixels, color)?);
    let mut image = DynamicImage::ImageRgb8(image.ok_or("its pixels do not fit its size")?);
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Bytes that [`decode`] holds at most, besides the file: pixels as the file has them, as RGB, or turned, and what the
/// decoder needs for itself. 0 of what is no image.
pub fn room(bytes: &[u8]) -> u64 {
    let Ok((head, orientation, decoder)) = open(bytes) else { return 0 };
    let pixels = u64::from(head.width) * u64::from(head.height);
    let (stored, rgb) = (decoder.total_bytes(), 3 * pixels);
    let own = match head.kind {
        // Coefficients of 16 bits, of up to four channels, and the file once more.
        ImageKind::Jpeg if jpeg::is_progressive(bytes) => 8 * pixels + bytes.len() as u64,
        // The file once more, of a PNG without its colour profiles.
        ImageKind::Jpeg | ImageKind::Png => bytes.len() as u64,
        // A canvas and a frame, of four bytes a pixel.
        ImageKind::WebP => 8 * pixels,
    };
    let grown = if stored < rgb { stored + rgb } else { stored };
    let turned = if is_turned(orientation) { 2 * rgb } else { 0 };
    (stored + own).max(grown).max(turned)
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
    let read = if kind == ImageKind::Png { png::without_profiles(bytes) } else { Cow::Borrowed(bytes) };
    let mut reader = ImageReader::with_format(Cursor::new(read), kind.format());
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
    let (width, height) = if is_turned(orientation) { (height, width) } else { (width, height) };
    Ok((Head { kind, width, height }, orientation, decoder))
}

/// Whether width and height change places.
fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

/// Three channels of 8 bits, made where the pixels lie: large images leave no room for a second copy.
fn rgb(mut pixels: Vec<u8>, color: ColorType) -> Result<Vec<u8>, String> {
    const UPPER: usize = if cfg!(target_endian = "little") { 1 } else { 0 };
    // Bytes of a pixel, and which of them count.
    let (size, from) = match color {
        ColorType::Rgb8 => return Ok(pixels),
        ColorType::L8 => (1, [0; 3]),
        ColorType::La8 => (2, [0; 3]),
        ColorType::Rgba8 => (4, [0, 1, 2]),
        ColorType::L16 => (2, [UPPER; 3]),
        ColorType::La16 => (4, [UPPER; 3]),
        ColorType::Rgb16 => (6, [UPPER, 2 + UPPER, 4 + UPPER]),
        ColorType::Rgba16 => (8, [UPPER, 2 + UPPER, 4 + UPPER]),
        other => return Err(format!("has pixels of an unsupported type ({other:?})")),
    };
    let count = pixels.len() / size;
    let convert = |pixels: &mut [u8], i: usize| {
        let value = from.map(|at| pixels[size * i + at]);
        pixels[3 * i..3 * i + 3].copy_from_slice(&value);
    };
    // What grows is filled from its end, what shrinks from its start, so that nothing is overwritten before it is read.
    if size < 3 {
        pixels.resize(3 * count, 0);
        (0..count).rev().for_each(|i| convert(&mut pixels, i));
    } else {
        (0..count).for_each(|i| convert(&mut pixels, i));
        pixels.truncate(3 * count);
        pixels.shrink_to_fit();
    }
    Ok(pixels)
}

fn allowed() -> String {
    format!("at most {} megapixels and {MAX_SIDE} a side are allowed", MAX_PIXELS >> 20)
}

/// The decoder's words, as far as they fit into a sentence.
fn damaged(error: &ImageError) -> String {
    const LONGEST: usize = 160;
    let text = error.to_string();
    let what = clipped_to(text.lines().next().unwrap_or_default(), LONGEST);
    match error {
        ImageError::Limits(_) => format!("is too large; {}", allowed()),
        ImageError::Unsupported(_) => format!("uses a feature that is not supported: {what}"),
        _ => format!("is damaged or cut short: {what}"),
    }
}
