//! Values of tensors as `f32`, equal bit for bit to those of `gguf.quants.dequantize` of the Python package `gguf`. How
//! blocks are laid out: [ggml-common.h](https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h).

use super::float::{bf16_to_f32, f16_to_f32, half};
use super::kquants;
use super::types::TensorType;

/// Appends the values of whole blocks to `values`; bytes beyond the last whole block are left out.
pub(super) fn dequantize(kind: TensorType, bytes: &[u8], values: &mut Vec<f32>) {
    match kind {
        TensorType::F32 => plain(bytes, values, f32::from_le_bytes),
        TensorType::F16 => plain(bytes, values, |bits| f16_to_f32(u16::from_le_bytes(bits))),
        TensorType::Bf16 => plain(bytes, values, |bits| bf16_to_f32(u16::from_le_bytes(bits))),
        TensorType::Q4_0 => blocks(bytes, values, q4_0),
        TensorType::Q4_1 => blocks(bytes, values, q4_1),
        TensorType::Q5_0 => blocks(bytes, values, q5_0),
        TensorType::Q5_1 => blocks(bytes, values, q5_1),
        TensorType::Q8_0 => blocks(bytes, values, q8_0),
        TensorType::Q2K => blocks(bytes, values, kquants::q2_k),
        TensorType::Q3K => blocks(bytes, values, kquants::q3_k),
        TensorType::Q4K => blocks(bytes, values, kquants::q4_k),
        TensorType::Q5K => blocks(bytes, values, kquants::q5_k),
        TensorType::Q6K => blocks(bytes, values, kquants::q6_k),
    }
}

fn plain<const SIZE: usize>(bytes: &[u8], values: &mut Vec<f32>, value: impl Fn([u8; SIZE]) -> f32) {
    values.extend(bytes.as_chunks::<SIZE>().0.iter().map(|&bytes| value(bytes)));
}

fn blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    values: &mut Vec<f32>,
    unpack: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let mut block_values = [0.0; VALUES];
    for block in bytes.as_chunks::<BYTES>().0 {
        unpack(block, &mut block_values);
        values.extend_from_slice(&block_values);
    }
}

/// What of the sixteen bytes are the low halves, for the first values of a block, and the high halves, for the others;
/// with the bits of `fifth`, one for each value, above them.
fn nibbles(packed: &[u8; 16], fifth: u32) -> impl Iterator<Item = u8> {
    let lows = packed.iter().map(|byte| byte & 0xF);
    let highs = packed.iter().map(|byte| byte >> 4);
    lows.chain(highs).enumerate().map(move |(place, nibble)| nibble | ((fifth >> place & 1) as u8) << 4)
}

fn q4_0([d0, d1, packed @ ..]: &[u8; 18], values: &mut [f32; 32]) {
    let scale = half(*d0, *d1);
    for (value, quant) in values.iter_mut().zip(nibbles(packed, 0)) {
        *value = scale * (f32::from(quant) - 8.0);
    }
}

fn q4_1([d0, d1, m0, m1, packed @ ..]: &[u8; 20], values: &mut [f32; 32]) {
    let (scale, least) = (half(*d0, *d1), half(*m0, *m1));
    for (value, quant) in values.iter_mut().zip(nibbles(packed, 0)) {
        *value = scale * f32::from(quant) + least;
    }
}

fn q5_0([d0, d1, h0, h1, h2, h3, packed @ ..]: &[u8; 22], values: &mut [f32; 32]) {
    let (scale, fifth) = (half(*d0, *d1), u32::from_le_bytes([*h0, *h1, *h2, *h3]));
    for (value, quant) in values.iter_mut().zip(nibbles(packed, fifth)) {
        *value = scale * (f32::from(quant) - 16.0);
    }
}

fn q5_1([d0, d1, m0, m1, h0, h1, h2, h3, packed @ ..]: &[u8; 24], values: &mut [f32; 32]) {
    let (scale, least, fifth) = (half(*d0, *d1), half(*m0, *m1), u32::from_le_bytes([*h0, *h1, *h2, *h3]));
    for (value, quant) in values.iter_mut().zip(nibbles(packed, fifth)) {
        *value = scale * f32::from(quant) + least;
    }
}

fn q8_0([d0, d1, quants @ ..]: &[u8; 34], values: &mut [f32; 32]) {
    let scale = half(*d0, *d1);
    for (value, &quant) in values.iter_mut().zip(quants) {
        *value = scale * f32::from(quant as i8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Per type: its number, how many bytes and values follow, those bytes, those values.
    const GOLDEN: &[u8] = include_bytes!("golden/quants.bin");

    fn number(bytes: &mut &[u8]) -> u32 {
        let (number, rest) = bytes.split_first_chunk::<4>().unwrap();
        *bytes = rest;
        u32::from_le_bytes(*number)
    }

    #[test]
    fn values_are_those_of_the_python_package_bit_for_bit() {
        let (mut rest, mut types) = (GOLDEN, 0);
        while !rest.is_empty() {
            let kind = TensorType::from_number(number(&mut rest)).unwrap();
            let (bytes, values) = (number(&mut rest) as usize, number(&mut rest) as usize);
            let (packed, after) = rest.split_at(bytes);
            let (expected, after) = after.split_at(4 * values);
            rest = after;
            let mut found = Vec::new();
            dequantize(kind, packed, &mut found);
            let bits: Vec<u32> = found.iter().map(|value| value.to_bits()).collect();
            let expected: Vec<u32> = expected.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
            assert_eq!(bits, expected, "{}", kind.name());
            types += 1;
        }
        assert_eq!(types, 13);
    }

    #[test]
    fn half_a_block_has_no_values() {
        let mut values = Vec::new();
        dequantize(TensorType::Q8_0, &[0; 33], &mut values);
        assert!(values.is_empty());
    }
}
