//! Resizing as Pillow does: a filter as wide as the reduction (antialiasing), in fixed point on 8 bits. It is written here
//! because the crates that were tried are up to 3 of 255 levels off, and a model was trained with what Pillow gives.

use std::f64::consts::PI;

use super::RgbImage;
use crate::error::{EngineError, Result};

/// Bits behind the point of a weight: 32, less 8 for the value and 2 for what a bicubic filter overshoots.
const PRECISION: u32 = 32 - 8 - 2;

/// How pixels between pixels are made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Nearest,
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl Filter {
    /// The one that Pillow numbers so (`PIL.Image.Resampling`).
    pub fn of_pillow(number: f64) -> Option<Self> {
        let all = [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming];
        (0..).map(f64::from).zip(all).find(|(known, _)| *known == number).map(|(_, filter)| filter)
    }

    /// How far it reaches, in pixels of the smaller image.
    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight at a distance. Bicubic is Keys' (1981) with a = -0.5.
    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            // Half a pixel to the left belongs to the pixel before.
            Self::Nearest | Self::Box => f64::from(distance > -0.5 && distance <= 0.5),
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Hamming if x >= 1.0 => 0.0,
            // Pillow's constants are of single precision.
            Self::Hamming => sinc(x) * (f64::from(0.54_f32) + f64::from(0.46_f32) * (PI * x).cos()),
            Self::Lanczos if (-3.0..3.0).contains(&distance) => sinc(x) * sinc(x / 3.0),
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Lanczos | Self::Bicubic => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The inputs of one output: the first one, and the weight of it and those behind it.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// For each of `to` outputs what it is made of, of `from` inputs.
fn windows(from: u32, to: u32, filter: Filter) -> Vec<Window> {
    let scale = f64::from(from) / f64::from(to);
    let filter_scale = scale.max(1.0);
    let (support, inverse) = (filter.support() * filter_scale, 1.0 / filter_scale);
    let window = |output: u32| {
        let center = (f64::from(output) + 0.5) * scale;
        let start = (center - support + 0.5).max(0.0) as u32;
        let end = ((center + support + 0.5) as u32).min(from);
        let weights: Vec<f64> =
            (start..end).map(|input| filter.weight((f64::from(input) - center + 0.5) * inverse)).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << PRECISION)).round() as i32;
        Window { start: start as usize, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

/// A sum of weighted values, rounded and within a byte.
fn byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// What a sum starts with, so that cutting off rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// The image with this width and height, both at least 1.
///
/// # Errors
/// The image or the size is empty.
pub fn resize(image: &RgbImage, (width, height): (u32, u32), filter: Filter) -> Result<RgbImage> {
    if image.width() * image.height() == 0 || width == 0 || height == 0 {
        return Err(EngineError::model(format!(
            "an image of {} x {} pixels cannot be resized to {width} x {height}",
            image.width(),
            image.height()
        )));
    }
    if filter == Filter::Nearest {
        return Ok(nearest(image, (width, height)));
    }
    let across = |image: &RgbImage| if width == image.width() { image.clone() } else { across(image, width, filter) };
    let down = |image: &RgbImage| if height == image.height() { image.clone() } else { down(image, height, filter) };
    Ok(if is_down_first(image.dimensions(), (width, height)) { across(&down(image)) } else { down(&across(image)) })
}

/// Each pixel as the one that its middle falls into. Places add up step by step, as Pillow's do.
fn nearest(image: &RgbImage, (width, height): (u32, u32)) -> RgbImage {
    let places = |from: u32, to: u32| -> Vec<u32> {
        let step = f64::from(from) / f64::from(to);
        let at = std::iter::successors(Some(step * 0.5), |at| Some(at + step));
        at.take(to as usize).map(|at| (at as u32).min(from - 1)).collect()
    };
    let (columns, rows) = (places(image.width(), width), places(image.height(), height));
    RgbImage::from_fn(width, height, |x, y| *image.get_pixel(columns[x as usize], rows[y as usize]))
}

/// Which pass comes first shows in the rounding between them. Pillow 13 begins with the rows where that drops more than
/// twice as many of them as the other pass drops columns (found by comparing 677 pairs of sizes).
fn is_down_first(from: (u32, u32), to: (u32, u32)) -> bool {
    let (columns, rows) = (i64::from(from.0) - i64::from(to.0), i64::from(from.1) - i64::from(to.1));
    rows > 0 && rows > 2 * columns
}

fn across(image: &RgbImage, width: u32, filter: Filter) -> RgbImage {
    let windows = windows(image.width(), width, filter);
    let mut out = RgbImage::new(width, image.height());
    let rows = image.as_raw().chunks_exact(3 * image.width() as usize);
    for (from, to) in rows.zip(out.chunks_exact_mut(3 * width as usize)) {
        for (window, pixel) in windows.iter().zip(to.chunks_exact_mut(3)) {
            let mut sums = [HALF; 3];
            for (value, weight) in from[3 * window.start..].chunks_exact(3).zip(&window.weights) {
                for (sum, &value) in sums.iter_mut().zip(value) {
                    *sum += i32::from(value) * weight;
                }
            }
            pixel.copy_from_slice(&sums.map(byte));
        }
    }
    out
}

fn down(image: &RgbImage, height: u32, filter: Filter) -> RgbImage {
    let row = 3 * image.width() as usize;
    let mut out = RgbImage::new(image.width(), height);
    let mut sums = vec![0; row];
    for (window, to) in windows(image.height(), height, filter).iter().zip(out.chunks_exact_mut(row)) {
        sums.fill(HALF);
        for (from, weight) in image.as_raw()[row * window.start..].chunks_exact(row).zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(from) {
                *sum += i32::from(value) * weight;
            }
        }
        for (to, &sum) in to.iter_mut().zip(&sums) {
            *to = byte(sum);
        }
    }
    out
}

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

/// The part of an image in `area`. What lies outside of the image is black.
pub fn crop(image: &RgbImage, area: Area) -> RgbImage {
    let row_bytes = 3 * image.width() as usize;
    let mut cut = RgbImage::new(area.width, area.height);
    let width = area.width.min(image.width().saturating_sub(area.left)) as usize;
    if width == 0 {
        return cut;
    }
    let rows = image.as_raw().chunks_exact(row_bytes).skip(area.top as usize);
    for (from, to) in rows.zip(cut.chunks_exact_mut(3 * area.width as usize)) {
        let start = 3 * area.left as usize;
        to[..3 * width].copy_from_slice(&from[start..start + 3 * width]);
    }
    cut
}

/// The middle of an image, with a black border where it is too small (Transformers' `center_crop`).
pub fn center_crop(image: &RgbImage, (width, height): (u32, u32)) -> RgbImage {
    // Where a side is too short, the border is halved; the larger half stands behind.
    let (before_x, before_y) = (width.saturating_sub(image.width()) / 2, height.saturating_sub(image.height()) / 2);
    let area = Area {
        left: image.width().saturating_sub(width) / 2,
        top: image.height().saturating_sub(height) / 2,
        width: width - before_x,
        height: height - before_y,
    };
    let cut = crop(image, area);
    if (before_x, before_y) == (0, 0) {
        return cut;
    }
    RgbImage::from_fn(width, height, |x, y| match (x.checked_sub(before_x), y.checked_sub(before_y)) {
        (Some(x), Some(y)) => *cut.get_pixel(x, y),
        _ => [0, 0, 0].into(),
    })
}

/// Width and height with the shorter side as given and the longer one in proportion, rounded down as Transformers does.
pub fn with_shorter_side((width, height): (u32, u32), shorter: u32) -> (u32, u32) {
    let (short, long) = (u64::from(width.min(height).max(1)), u64::from(width.max(height)));
    let longer = (u64::from(shorter) * long / short) as u32;
    if width <= height { (shorter, longer) } else { (longer, shorter) }
}
