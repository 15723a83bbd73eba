//! Colour operations of Pillow (`ImageEnhance`, `ImageOps`), which torchvision's transforms of PIL images call.
//!
//! The arithmetic is Pillow's, down to where it uses 32-bit floats and where it cuts off instead of rounding.

use super::RgbImage;

/// ITU-R 601-2 luma in 16-bit fixed point.
fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
}

/// `Image.blend`: from `from` (0) to `to` (1) and beyond. Converting a float to u8 cuts off and saturates.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

/// Blends each pixel with what `plain` makes of it.
fn enhanced(image: &RgbImage, factor: f64, plain: impl Fn(&[u8]) -> [u8; 3]) -> RgbImage {
    let mut out = image.clone();
    for pixel in out.chunks_exact_mut(3) {
        let from = plain(pixel);
        for (value, from) in pixel.iter_mut().zip(from) {
            *value = blend(from, *value, factor as f32);
        }
    }
    out
}

/// Towards black (0) or lighter (above 1).
pub fn brightness(image: &RgbImage, factor: f64) -> RgbImage {
    enhanced(image, factor, |_| [0; 3])
}

/// Towards grey (0) or more colourful (above 1).
pub fn saturation(image: &RgbImage, factor: f64) -> RgbImage {
    enhanced(image, factor, |pixel| [luma(pixel); 3])
}

/// Towards the mean grey (0) or away from it (above 1).
pub fn contrast(image: &RgbImage, factor: f64) -> RgbImage {
    let sum: u64 = image.chunks_exact(3).map(|pixel| u64::from(luma(pixel))).sum();
    let count = u64::from(image.width()) * u64::from(image.height());
    let mean = (sum as f64 / count.max(1) as f64 + 0.5) as u8;
    enhanced(image, factor, |_| [mean; 3])
}

/// Towards blurred (0) or sharper (above 1). The outermost pixels stay as they are.
pub fn sharpness(image: &RgbImage, factor: f64) -> RgbImage {
    let mut out = image.clone();
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (row, pixels) = (3 * width, image.as_raw());
    for y in 1..height.saturating_sub(1) {
        for at in y * row + 3..(y + 1) * row - 3 {
            let above_and_below = [at - row, at, at + row];
            let sum: u32 = above_and_below.iter().flat_map(|&i| [i - 3, i, i + 3]).map(|i| u32::from(pixels[i])).sum();
            // The kernel is 1 around 5, over 13; what is halfway does not occur.
            let smooth = (2 * (sum + 4 * u32::from(pixels[at])) + 13) / 26;
            out.as_mut()[at] = blend(smooth as u8, pixels[at], factor as f32);
        }
    }
    out
}

/// Applies a table for each channel.
fn mapped(image: &RgbImage, tables: &[[u8; 256]; 3]) -> RgbImage {
    let mut out = image.clone();
    for pixel in out.chunks_exact_mut(3) {
        for (value, table) in pixel.iter_mut().zip(tables) {
            *value = table[usize::from(*value)];
        }
    }
    out
}

fn table(of: impl Fn(u8) -> u8) -> [u8; 256] {
    std::array::from_fn(|i| of(i as u8))
}

/// Keeps the upper bits, 1 to 8, of each value.
pub fn posterize(image: &RgbImage, bits: u32) -> RgbImage {
    let mask = 0xFF_u8.checked_shl(8 - bits.min(8)).unwrap_or(0);
    mapped(image, &[table(|value| value & mask); 3])
}

/// Inverts all values from `threshold` on.
pub fn solarize(image: &RgbImage, threshold: f64) -> RgbImage {
    mapped(image, &[table(|value| if f64::from(value) < threshold { value } else { 255 - value }); 3])
}

/// How often each value stands in each channel.
fn histograms(image: &RgbImage) -> [[u64; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in image.chunks_exact(3) {
        for (count, &value) in counts.iter_mut().zip(pixel) {
            count[usize::from(value)] += 1;
        }
    }
    counts
}

/// Stretches each channel to the whole range.
pub fn autocontrast(image: &RgbImage) -> RgbImage {
    let tables = histograms(image).map(|counts| {
        let least = counts.iter().position(|&count| count > 0).unwrap_or(0);
        let most = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        if most <= least {
            return table(|value| value);
        }
        let scale = 255.0 / (most - least) as f64;
        let offset = -(least as f64) * scale;
        table(|value| (f64::from(value) * scale + offset) as u8)
    });
    mapped(image, &tables)
}

/// Spreads the values of each channel evenly.
pub fn equalize(image: &RgbImage) -> RgbImage {
    let tables = histograms(image).map(|counts| {
        let last = counts.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<u64>() - last) / 255;
        if step == 0 {
            return table(|value| value);
        }
        let mut total = step / 2;
        counts.map(|count| {
            let value = (total / step).min(255) as u8;
            total += count;
            value
        })
    });
    mapped(image, &tables)
}

/// Turns the hue by `factor` of the colour wheel, from -0.5 to 0.5.
pub fn hue(image: &RgbImage, factor: f64) -> RgbImage {
    let turn = ((factor * 255.0) as i32) as u8;
    let mut out = image.clone();
    for pixel in out.chunks_exact_mut(3) {
        let [h, s, v] = to_hsv([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&to_rgb([h.wrapping_add(turn), s, v]));
    }
    out
}

fn to_hsv(pixel: [u8; 3]) -> [u8; 3] {
    let (most, least) = pixel.iter().fold((0, 255), |(most, least), &value| (value.max(most), value.min(least)));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let [r, g, b] = pixel.map(|value| f32::from(most - value) / range);
    let sector = if pixel[0] == most {
        b - g
    } else if pixel[1] == most {
        (2.0 + f64::from(r) - f64::from(b)) as f32
    } else {
        (4.0 + f64::from(g) - f64::from(r)) as f32
    };
    let hue = ((f64::from(sector) / 6.0 + 1.0) % 1.0) as f32;
    let saturation = range / f32::from(most);
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

fn to_rgb([hue, strength, v]: [u8; 3]) -> [u8; 3] {
    if strength == 0 {
        return [v; 3];
    }
    let turned = f64::from(hue) * 6.0 / 255.0;
    let sector = turned.floor();
    let part = f64::from((turned - sector) as f32);
    let saturation = f64::from(f32::from(strength) / 255.0);
    let scaled = |factor: f64| (f64::from(v) * factor).round() as u8;
    let p = scaled(1.0 - saturation);
    let q = scaled(1.0 - saturation * part);
    let t = scaled(1.0 - saturation * (1.0 - part));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
