//! One operation on an image with its magnitude, as torchvision's `autoaugment._apply_op` has them.

use super::{RgbImage, color};

/// What is done to an image. Pixels that come from outside of it are black.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    Identity,
    /// Columns move by so much of their row.
    ShearX(f64),
    ShearY(f64),
    /// In pixels, cut off to whole ones.
    TranslateX(f64),
    TranslateY(f64),
    /// In degrees, counterclockwise.
    Rotate(f64),
    /// The factors of the next four are 1 for no change.
    Brightness(f64),
    Color(f64),
    Contrast(f64),
    Sharpness(f64),
    /// Bits that are kept.
    Posterize(u32),
    /// The least value that is inverted.
    Solarize(f64),
    AutoContrast,
    Equalize,
    /// In turns of the colour wheel.
    Hue(f64),
}

impl Operation {
    /// The image after it.
    pub fn apply(self, image: &RgbImage) -> RgbImage {
        match self {
            Self::Identity => image.clone(),
            Self::ShearX(factor) => affine(image, [1.0, factor, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(factor) => affine(image, [1.0, 0.0, 0.0, factor, 1.0, 0.0]),
            Self::TranslateX(pixels) => affine(image, [1.0, 0.0, -pixels.trunc(), 0.0, 1.0, 0.0]),
            Self::TranslateY(pixels) => affine(image, [1.0, 0.0, 0.0, 0.0, 1.0, -pixels.trunc()]),
            Self::Rotate(degrees) => rotate(image, degrees),
            Self::Brightness(factor) => color::brightness(image, factor),
            Self::Color(factor) => color::saturation(image, factor),
            Self::Contrast(factor) => color::contrast(image, factor),
            Self::Sharpness(factor) => color::sharpness(image, factor),
            Self::Posterize(bits) => color::posterize(image, bits),
            Self::Solarize(threshold) => color::solarize(image, threshold),
            Self::AutoContrast => color::autocontrast(image),
            Self::Equalize => color::equalize(image),
            Self::Hue(factor) => color::hue(image, factor),
        }
    }
}

/// About the middle, as `Image.rotate` does, which rounds sines and cosines to 15 digits.
fn rotate(image: &RgbImage, degrees: f64) -> RgbImage {
    let rounded = |value: f64| (value * 1e15).round() / 1e15;
    let angle = -degrees.rem_euclid(360.0).to_radians();
    let (cos, sin) = (rounded(angle.cos()), rounded(angle.sin()));
    let (x, y) = (f64::from(image.width()) / 2.0, f64::from(image.height()) / 2.0);
    affine(image, [cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y])
}

/// Output pixel (x, y) is input pixel (m0 x + m1 y + m2, m3 x + m4 y + m5), the nearest one, in Pillow's 16-bit fixed
/// point.
fn affine(image: &RgbImage, matrix: [f64; 6]) -> RgbImage {
    let fixed = |value: f64| (value * 65_536.0 + 0.5).floor() as i64;
    let [m0, m1, m2, m3, m4, m5] = matrix;
    let (step_x, step_y) = ((fixed(m0), fixed(m3)), (fixed(m1), fixed(m4)));
    // Pixels are taken at their middles.
    let start = (fixed(m2 + m0 * 0.5 + m1 * 0.5), fixed(m5 + m3 * 0.5 + m4 * 0.5));
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (column, row) = (i64::from(x), i64::from(y));
        let from_x = (start.0 + step_x.0 * column + step_y.0 * row) >> 16;
        let from_y = (start.1 + step_x.1 * column + step_y.1 * row) >> 16;
        match (u32::try_from(from_x), u32::try_from(from_y)) {
            (Ok(x), Ok(y)) if x < image.width() && y < image.height() => *image.get_pixel(x, y),
            _ => [0, 0, 0].into(),
        }
    })
}
