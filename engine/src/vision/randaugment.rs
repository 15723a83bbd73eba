//! `RandAugment` (Cubuk et al. 2019) with torchvision's list of operations and their magnitudes.

use finetuned::domain::hyperparameters::RandAugment;

use super::draws::Draws;
use super::operation::Operation;

/// Magnitudes are numbered from 0 to one less than this.
const BINS: u32 = 31;

/// The operations, in torchvision's order.
const OPERATIONS: u64 = 14;

/// The operations for one image of this width and height.
pub fn draw(settings: &RandAugment, size: (u32, u32), draws: &mut Draws) -> Vec<Operation> {
    (0..settings.num_ops)
        .map(|_| {
            let (number, negative) = (draws.below(OPERATIONS), draws.chance(0.5));
            operation(number, settings.magnitude.min(BINS - 1), negative, size)
        })
        .collect()
}

/// Operation `number` of the list; `negative` counts where a magnitude has a sign.
pub fn operation(number: u64, magnitude: u32, negative: bool, (width, height): (u32, u32)) -> Operation {
    let signed = |most: f64| {
        let value = along(0.0, most, magnitude);
        if negative { -value } else { value }
    };
    match number {
        1 => Operation::ShearX(signed(0.3)),
        2 => Operation::ShearY(signed(0.3)),
        3 => Operation::TranslateX(signed(150.0 / 331.0 * f64::from(width))),
        4 => Operation::TranslateY(signed(150.0 / 331.0 * f64::from(height))),
        5 => Operation::Rotate(signed(30.0)),
        6 => Operation::Brightness(1.0 + signed(0.9)),
        7 => Operation::Color(1.0 + signed(0.9)),
        8 => Operation::Contrast(1.0 + signed(0.9)),
        9 => Operation::Sharpness(1.0 + signed(0.9)),
        10 => Operation::Posterize(8 - (f64::from(magnitude) / 7.5).round() as u32),
        11 => Operation::Solarize(along(255.0, 0.0, magnitude)),
        12 => Operation::AutoContrast,
        13 => Operation::Equalize,
        _ => Operation::Identity,
    }
}

/// `torch.linspace(start, end, BINS)[index]`, which counts in float32 from the nearer end.
fn along(start: f64, end: f64, index: u32) -> f64 {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (BINS - 1) as f32;
    let value = if index < BINS / 2 { start + step * index as f32 } else { end - step * (BINS - 1 - index) as f32 };
    f64::from(value)
}
