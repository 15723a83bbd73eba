//! Values of tensors as they are written to GGUF files.

use super::float::{f32_to_bf16, f32_to_f16};
use super::folder::Weight;
use super::names::{Change, paired};
use super::quants::dequantize;
use super::types::TensorType;

/// Values of a block of `Q8_0`.
const BLOCK: usize = 32;

/// Gives the rows of the tensor `name`, as llama.cpp has them, to `write` one after another, in the type `kind`.
///
/// # Errors
/// A value cannot be stored in that type, or `write` fails.
pub(super) fn rows(
    name: &str,
    weight: &Weight,
    change: Change,
    kind: TensorType,
    mut write: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let row_values = match (change, weight.shape) {
        (Change::Interleaved { .. }, [_]) => 1,
        (_, shape) => shape.last().copied().unwrap_or(1),
    };
    let value_bytes = weight.kind.block_bytes() as usize;
    let row_bytes = (row_values as usize * value_bytes).max(1);
    let count = weight.bytes.len() / row_bytes;
    let (mut values, mut packed) = (Vec::new(), Vec::new());
    let mut put = |values: &[f32]| {
        packed.clear();
        pack(values, kind, &mut packed).map_err(|refused| format!("the tensor {name} {refused}"))?;
        write(&packed)
    };
    if change == Change::Transposed {
        for column in 0..row_values as usize {
            values.clear();
            let cells = weight.bytes.chunks_exact(value_bytes).skip(column).step_by(row_values as usize);
            cells.for_each(|cell| dequantize(weight.kind, cell, &mut values));
            put(&values)?;
        }
        return Ok(());
    }
    for row in 0..count {
        let row = match change {
            Change::Interleaved { heads } => paired(row as u64, count as u64, heads) as usize,
            _ => row,
        };
        let bytes = weight.bytes.get(row * row_bytes..(row + 1) * row_bytes).unwrap_or_default();
        values.clear();
        dequantize(weight.kind, bytes, &mut values);
        if change == Change::PlusOne {
            for value in &mut values {
                *value += 1.0;
            }
        }
        put(&values)?;
    }
    Ok(())
}

/// Appends values in the type `kind`: one that each value has by itself, or `Q8_0` for whole blocks.
///
/// # Errors
/// A value cannot be stored so: which, to be said of the tensor.
pub(super) fn pack(values: &[f32], kind: TensorType, packed: &mut Vec<u8>) -> Result<(), String> {
    match kind {
        TensorType::F16 => {
            let bits = values.iter().map(|&value| f32_to_f16(value));
            packed.extend(bits.flat_map(u16::to_le_bytes));
            let is_lost = |value: &&f32| value.is_finite() && f32_to_f16(**value) & 0x7FFF == 0x7C00;
            if let Some(value) = values.iter().find(is_lost) {
                return Err(format!("has the value {value}, which F16 cannot hold; export the model as BF16"));
            }
        }
        TensorType::Bf16 => packed.extend(values.iter().flat_map(|&value| f32_to_bf16(value).to_le_bytes())),
        TensorType::Q8_0 => {
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(format!("has the value {value}, which Q8_0 cannot hold"));
            }
            values.as_chunks::<BLOCK>().0.iter().for_each(|block| q8_0(block, packed));
        }
        _ => packed.extend(values.iter().flat_map(|value| value.to_le_bytes())),
    }
    Ok(())
}

/// A block of `Q8_0`: the scale at which the largest value is 127, and each value by it, rounded half away from zero
/// (`quantize_row_q8_0_ref` of [ggml-quants.c](https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c)).
fn q8_0(values: &[f32; BLOCK], packed: &mut Vec<u8>) {
    let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let times = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    packed.extend(f32_to_f16(scale).to_le_bytes());
    packed.extend(values.iter().map(|value| (value * times).round() as i8 as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(values: &[f32], shape: &[u64], change: Change) -> Vec<f32> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let weight = Weight { shape, kind: TensorType::F32, bytes: &bytes };
        let mut all = Vec::new();
        rows("t", &weight, change, TensorType::F32, |row| {
            dequantize(TensorType::F32, row, &mut all);
            Ok(())
        })
        .unwrap();
        all
    }

    #[test]
    fn rows_are_what_llama_cpp_has() {
        let values: Vec<f32> = (0..8).map(|value| value as f32).collect();
        assert_eq!(written(&values, &[8], Change::PlusOne), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(written(&values, &[2, 4], Change::Transposed), [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
        let heads = Change::Interleaved { heads: 1 };
        assert_eq!(written(&values, &[4, 2], heads), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert_eq!(written(&values, &[8], Change::Interleaved { heads: 2 }), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn blocks_of_q8_0_are_those_of_the_python_package_byte_for_byte() {
        const GOLDEN: &[u8] = include_bytes!("golden/q8_0.bin");
        let blocks = GOLDEN.len() / (4 * BLOCK + 34);
        let (values, expected) = GOLDEN.split_at(4 * BLOCK * blocks);
        let values: Vec<f32> = values.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let mut packed = Vec::new();
        pack(&values, TensorType::Q8_0, &mut packed).unwrap();
        assert_eq!(blocks, 32);
        assert_eq!(packed, expected);
    }

    #[test]
    fn values_that_a_type_cannot_hold_are_refused() {
        let refused = |value, kind| pack(&[value; 32], kind, &mut Vec::new()).unwrap_err();
        assert_eq!(
            refused(1e5, TensorType::F16),
            "has the value 100000, which F16 cannot hold; export the model as BF16"
        );
        assert_eq!(refused(f32::NAN, TensorType::Q8_0), "has the value NaN, which Q8_0 cannot hold");
        assert!(pack(&[1e5], TensorType::Bf16, &mut Vec::new()).is_ok());
    }
}
