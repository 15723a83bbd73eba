//! Tensors of a GGUF file as they are stored in `model.safetensors`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, View};

use super::container::Gguf;
use super::float::{f32_to_bf16, f32_to_f16};
use super::names::{Change, Slot, paired};
use super::quants::dequantize;
use super::tensors::Tensor;
use super::types::TensorType;

/// The type of all tensors of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    F32,
    F16,
    Bf16,
}

impl Stored {
    /// For a model with these tensors: that of its matrices if they are plain numbers, bfloat16 if not.
    pub(super) fn of<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Self {
        let mut stored = Self::F32;
        for tensor in tensors.filter(|tensor| tensor.shape.len() > 1) {
            match tensor.kind {
                TensorType::F32 => {}
                TensorType::F16 => stored = Self::F16,
                _ => return Self::Bf16,
            }
        }
        stored
    }

    /// Its name in `config.json`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Bytes of a value.
    fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// Puts values into bytes from `place` on.
    fn put(self, values: &[f32], bytes: &mut [u8], place: usize) {
        let bytes = bytes.get_mut(place..).unwrap_or_default();
        match self {
            Self::F32 => fill(values, bytes, f32::to_le_bytes),
            Self::F16 => fill(values, bytes, |value| f32_to_f16(value).to_le_bytes()),
            Self::Bf16 => fill(values, bytes, |value| f32_to_bf16(value).to_le_bytes()),
        }
    }
}

fn fill<const SIZE: usize>(values: &[f32], bytes: &mut [u8], convert: impl Fn(f32) -> [u8; SIZE]) {
    for (to, &value) in bytes.as_chunks_mut::<SIZE>().0.iter_mut().zip(values) {
        *to = convert(value);
    }
}

/// Writes tensors under the names that Transformers has for them, with the metadata that it expects (`format: pt`), and
/// syncs the file.
pub(super) fn write_weights(
    gguf: &Gguf,
    slots: Vec<(Slot, &Tensor)>,
    stored: Stored,
    path: &Path,
) -> Result<(), String> {
    let view = |(slot, tensor): (Slot, _)| {
        let shape = slot.shape.iter().map(|&size| size as usize).collect();
        (slot.transformers, Lazy { gguf, tensor, change: slot.change, shape, stored })
    };
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let written = safetensors::serialize_to_file(slots.into_iter().map(view), Some(metadata), path);
    let synced = written.and_then(|()| Ok(File::open(path).and_then(|file| file.sync_all())?));
    synced.map_err(|error: SafeTensorError| format!("model.safetensors cannot be written: {error}"))
}

/// A tensor as the format's library asks for it, made when its turn comes.
struct Lazy<'a> {
    gguf: &'a Gguf,
    tensor: &'a Tensor,
    change: Change,
    shape: Vec<usize>,
    stored: Stored,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.stored.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(values(self.gguf.bytes(self.tensor), self.tensor, self.change, self.stored))
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.stored.bytes()
    }
}

/// The values of a tensor as Transformers has them, of its bytes in a GGUF file: what llama.cpp did to them is undone
/// in `f32`, then they are rounded. Of a tensor with one dimension whose rows change places, each value is a row.
fn values(bytes: &[u8], tensor: &Tensor, change: Change, stored: Stored) -> Vec<u8> {
    let row_values = match (change, tensor.shape.as_slice()) {
        (Change::Interleaved { .. }, [_]) => 1,
        (_, shape) => shape.last().copied().unwrap_or(1),
    };
    let row_bytes = tensor.kind.bytes_of(row_values).unwrap_or_default() as usize;
    let source = bytes.chunks_exact(row_bytes.max(1));
    let rows = source.len();
    let target_bytes = row_values as usize * stored.bytes();
    let mut target = vec![0; rows * target_bytes];
    let mut values = Vec::with_capacity(row_values as usize);
    let mut column = vec![0; target_bytes];
    for (row, bytes) in source.enumerate() {
        values.clear();
        dequantize(tensor.kind, bytes, &mut values);
        match change {
            Change::None => stored.put(&values, &mut target, row * target_bytes),
            Change::PlusOne => {
                for value in &mut values {
                    *value -= 1.0;
                }
                stored.put(&values, &mut target, row * target_bytes);
            }
            Change::Interleaved { heads } => {
                let row = paired(row as u64, rows as u64, heads) as usize;
                stored.put(&values, &mut target, row * target_bytes);
            }
            Change::Transposed => {
                stored.put(&values, &mut column, 0);
                let cells = target.chunks_exact_mut(stored.bytes()).skip(row).step_by(rows);
                for (cell, value) in cells.zip(column.chunks_exact(stored.bytes())) {
                    cell.copy_from_slice(value);
                }
            }
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    fn stored(shape: &[u64], change: Change) -> Vec<f32> {
        let count = shape.iter().product::<u64>();
        let bytes: Vec<u8> = (0..count).flat_map(|value| (value as f32).to_le_bytes()).collect();
        numbers(&values(&bytes, &Tensor::elsewhere(shape, TensorType::F32), change, Stored::F32))
    }

    #[test]
    fn what_llama_cpp_did_is_undone() {
        assert_eq!(stored(&[2, 2], Change::None), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(stored(&[3], Change::PlusOne), [-1.0, 0.0, 1.0]);
        assert_eq!(stored(&[2, 3], Change::Transposed), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let heads = Change::Interleaved { heads: 1 };
        assert_eq!(stored(&[4, 2], heads), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert_eq!(stored(&[8], Change::Interleaved { heads: 2 }), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn models_are_stored_in_the_type_of_their_matrices() {
        let of = |kinds: &[(usize, TensorType)]| {
            let tensors: Vec<_> =
                kinds.iter().map(|&(sizes, kind)| Tensor::elsewhere(&vec![256; sizes], kind)).collect();
            Stored::of(tensors.iter())
        };
        assert_eq!(of(&[(1, TensorType::F32), (2, TensorType::F32)]), Stored::F32);
        assert_eq!(of(&[(1, TensorType::F32), (2, TensorType::F16), (2, TensorType::F32)]), Stored::F16);
        assert_eq!(of(&[(2, TensorType::F16), (2, TensorType::Q8_0)]), Stored::Bf16);
        assert_eq!(of(&[(2, TensorType::Bf16), (1, TensorType::F32)]), Stored::Bf16);
    }

    #[test]
    fn values_are_rounded_to_what_is_stored() {
        let bytes = 1.003_f32.to_le_bytes();
        let rounded = |stored| values(&bytes, &Tensor::elsewhere(&[1], TensorType::F32), Change::None, stored);
        assert_eq!(rounded(Stored::Bf16), f32_to_bf16(1.003).to_le_bytes());
        assert_eq!(rounded(Stored::F16), f32_to_f16(1.003).to_le_bytes());
        assert_eq!(rounded(Stored::F32), bytes);
    }
}
