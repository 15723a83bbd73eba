//! The list of tensors of a GGUF file: what they are called, how large they are, where they lie.

use std::collections::BTreeMap;
use std::ops::Range;

use super::bytes::Cursor;
use super::types::TensorType;

/// Sizes of a tensor, at most (`GGML_MAX_DIMS`).
const MAX_SIZES: u32 = 4;
/// Tensors, at most: mixtures of experts have some thousands.
const MAX_TENSORS: u64 = 65_536;
const MAX_NAME_BYTES: u64 = 256;

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Sizes as PyTorch has them, the slowest first.
    pub shape: Vec<u64>,
    pub kind: TensorType,
    /// Where its bytes lie in the file.
    pub(super) bytes: Range<usize>,
}

/// Name, shape, type and place of so many tensors.
pub(super) fn read(
    cursor: &mut Cursor,
    count: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<BTreeMap<String, Tensor>, String> {
    if count > MAX_TENSORS {
        return Err(format!("the GGUF file has {count} tensors; at most {MAX_TENSORS} are read"));
    }
    let mut listed = Vec::new();
    for _ in 0..count {
        let name = cursor.string(MAX_NAME_BYTES, "the name of a tensor")?.to_owned();
        let shape = read_shape(cursor, &name)?;
        let kind = TensorType::from_number(cursor.u32()?)
            .map_err(|refused| format!("the tensor {name} of the GGUF file is stored as {refused}"))?;
        listed.push((name, shape, kind, cursor.u64()?));
    }
    let start = (cursor.place() as u64).next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (name, shape, kind, place) in listed {
        if !place.is_multiple_of(alignment) {
            return Err(format!("the tensor {name} of the GGUF file begins at {place}, no multiple of {alignment}"));
        }
        if shape.last().is_none_or(|row| !row.is_multiple_of(kind.block_values())) {
            let (kind, values) = (kind.name(), kind.block_values());
            return Err(format!(
                "the tensor {name} of the GGUF file has the shape {shape:?}, whose rows are no blocks of {values} \
                 values, as {kind} has them"
            ));
        }
        let range = bytes_of(&shape, kind).and_then(|bytes| {
            let from = start.checked_add(place)?;
            Some((from, from.checked_add(bytes)?))
        });
        let (from, to) = range
            .filter(|&(_, to)| to <= file_bytes)
            .ok_or_else(|| format!("the GGUF file ends within the tensor {name} or before it; fetch it again"))?;
        let tensor = Tensor { shape, kind, bytes: from as usize..to as usize };
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(format!("the GGUF file has the tensor {name} twice"));
        }
    }
    // Tensors that share their bytes make a small file convert to any size.
    let mut places: Vec<(&Range<usize>, &String)> =
        tensors.iter().map(|(name, tensor)| (&tensor.bytes, name)).collect();
    places.sort_unstable_by_key(|(bytes, _)| bytes.start);
    for ((first, name), (second, other)) in places.iter().zip(places.iter().skip(1)) {
        if first.end > second.start {
            return Err(format!("the tensors {name} and {other} of the GGUF file overlap"));
        }
    }
    Ok(tensors)
}

/// Sizes, the slowest first; in the file the fastest is first.
fn read_shape(cursor: &mut Cursor, name: &str) -> Result<Vec<u64>, String> {
    let sizes = cursor.u32()?;
    if !(1..=MAX_SIZES).contains(&sizes) {
        return Err(format!("the tensor {name} of the GGUF file has {sizes} dimensions; supported: 1 to {MAX_SIZES}"));
    }
    let mut shape = (0..sizes).map(|_| cursor.u64()).collect::<Result<Vec<_>, _>>()?;
    if shape.contains(&0) {
        return Err(format!("the tensor {name} of the GGUF file has a dimension of no size"));
    }
    shape.reverse();
    Ok(shape)
}

/// Bytes of a tensor; None if its rows are no whole blocks, or if there are too many to count.
fn bytes_of(shape: &[u64], kind: TensorType) -> Option<u64> {
    let (row, others) = shape.split_last()?;
    others.iter().try_fold(kind.bytes_of(*row)?, |bytes, &size| bytes.checked_mul(size))
}

#[cfg(test)]
impl Tensor {
    /// One whose bytes are elsewhere.
    pub(super) fn elsewhere(shape: &[u64], kind: TensorType) -> Self {
        Self { shape: shape.to_vec(), kind, bytes: 0..0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::container::Gguf;
    use crate::gguf::encode::Announced;
    use crate::gguf::samples::{announced, bytes};

    fn refusal(file: &[u8]) -> String {
        Gguf::in_memory(file).err().unwrap()
    }

    fn one(shape: &[u64], kind: TensorType) -> String {
        refusal(&bytes(&[], &[announced("t", shape, kind)]))
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        let refused = one(&[2, 33], TensorType::Q8_0);
        assert!(refused.ends_with("[2, 33], whose rows are no blocks of 32 values, as Q8_0 has them"), "{refused}");
        assert!(one(&[0], TensorType::F32).ends_with("has a dimension of no size"));
        assert!(one(&[1, 1, 1, 1, 1], TensorType::F32).ends_with("has 5 dimensions; supported: 1 to 4"));
        assert!(one(&[1, 1 << 40], TensorType::F16).starts_with("the GGUF file ends within the tensor t"));
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let tensors: [Announced; 2] = ["a", "b"].map(|name| announced(name, &[8], TensorType::F32));
        let mut file = bytes(&[], &tensors);
        assert!(Gguf::in_memory(&file).is_ok());
        // The list ends with the place of the second tensor.
        let place = file.windows(8).rposition(|bytes| bytes == 32_u64.to_le_bytes()).unwrap();
        file[place] = 0;
        assert_eq!(refusal(&file), "the tensors a and b of the GGUF file overlap");
        file[place] = 1;
        assert!(refusal(&file).ends_with("begins at 1, no multiple of 32"));
        file[place..place + 8].copy_from_slice(&(u64::MAX - 31).to_le_bytes());
        assert!(refusal(&file).starts_with("the GGUF file ends within the tensor b or before it"));
        let twice = bytes(&[], &[announced("a", &[8], TensorType::F32), announced("a", &[8], TensorType::F32)]);
        assert_eq!(refusal(&twice), "the GGUF file has the tensor a twice");
    }

    #[test]
    fn other_types_are_refused_with_the_tensor() {
        let mut file = bytes(&[], &[announced("blk.0.ffn_up.weight", &[32], TensorType::Q8_0)]);
        let kind = file.windows(4).rposition(|bytes| bytes == 8_u32.to_le_bytes()).unwrap();
        file[kind] = 20;
        let refused = refusal(&file);
        assert!(
            refused.starts_with("the tensor blk.0.ffn_up.weight of the GGUF file is stored as IQ4_NL, which is not")
        );
    }
}
