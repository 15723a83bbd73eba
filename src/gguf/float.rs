//! Half-precision numbers as bits: IEEE 754 binary16 and bfloat16, rounded to nearest, ties to even.

/// The value of a binary16 number.
pub(super) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10) & 0x1F, u32::from(bits) & 0x3FF);
    let magnitude = match exponent {
        // Subnormal: so many times 2^-24, which is exact.
        0 => (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits(),
        0x1F => 0x7F80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// A scale: two bytes that are a binary16 number.
pub(super) fn half(low: u8, high: u8) -> f32 {
    f16_to_f32(u16::from_le_bytes([low, high]))
}

/// The nearest binary16 number: infinite beyond its range.
pub(super) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7FFF_FFFF;
    let rounded = match magnitude {
        // NaN stays one, also where its payload is in the bits that are dropped.
        0x7F80_0001.. => 0x7E00 | (magnitude >> 13 & 0x1FF) as u16,
        // From halfway between the largest number and the next on, infinity.
        0x477F_F000.. => 0x7C00,
        0x3880_0000.. => round_off(magnitude - 0x3800_0000, 13),
        // Subnormal: a whole number of 2^-24, rounded by adding a number whose last place that is.
        _ => ((f32::from_bits(magnitude) + 0.5).to_bits() - 0.5_f32.to_bits()) as u16,
    };
    sign | rounded
}

/// The value of a bfloat16 number.
pub(super) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bfloat16 number.
pub(super) fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    round_off(bits, 16)
}

/// Without the last `places` bits, rounded to the nearest, ties to the even one.
fn round_off(bits: u32, places: u32) -> u16 {
    let half = (1 << (places - 1)) - 1 + (bits >> places & 1);
    ((bits + half) >> places) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binary16_number_survives_the_way_through_f32() {
        for bits in 0..=u16::MAX {
            let value = f16_to_f32(bits);
            let back = f32_to_f16(value);
            assert!(back == bits || value.is_nan() && f16_to_f32(back).is_nan(), "{bits:#x} became {back:#x}");
        }
        assert_eq!(f16_to_f32(0x3C00), 1.0);
        assert_eq!(f16_to_f32(0x7BFF), 65504.0);
        assert_eq!(f16_to_f32(0x0001), 2.0_f32.powi(-24));
        assert_eq!(f16_to_f32(0xFC00), f32::NEG_INFINITY);
    }

    #[test]
    fn rounding_to_binary16_takes_the_nearest_and_of_two_the_even_one() {
        for bits in 0..0x7BFF_u16 {
            let (low, high) = (f16_to_f32(bits), f16_to_f32(bits + 1));
            let middle = f32::midpoint(low, high);
            let even = bits + (bits & 1);
            assert_eq!(f32_to_f16(middle), even, "between {low} and {high}");
            assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() - 1)), bits);
            assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() + 1)), bits + 1);
            assert_eq!(f32_to_f16(-middle), 0x8000 | even);
        }
        assert_eq!(f32_to_f16(65519.99), 0x7BFF);
        assert_eq!(f32_to_f16(65520.0), 0x7C00);
        assert_eq!(f32_to_f16(f32::MIN_POSITIVE / 2.0), 0);
    }

    #[test]
    fn rounding_to_bfloat16_takes_the_nearest_and_of_two_the_even_one() {
        assert_eq!(f32_to_bf16(f32::from_bits(0x3F80_8000)), 0x3F80);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3F80_8001)), 0x3F81);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3F81_8000)), 0x3F82);
        assert_eq!(f32_to_bf16(f32::MAX), 0x7F80);
        assert_eq!(f32_to_bf16(f32::NEG_INFINITY), 0xFF80);
        assert!(bf16_to_f32(f32_to_bf16(f32::from_bits(0x7F80_0001))).is_nan());
        for bits in 0..=u16::MAX {
            let value = bf16_to_f32(bits);
            assert!(f32_to_bf16(value) == bits || value.is_nan());
        }
    }
}
