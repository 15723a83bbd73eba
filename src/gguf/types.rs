//! In which types tensors of a GGUF file are stored (`enum ggml_type` of
//! [ggml.h](https://github.com/ggml-org/ggml/blob/master/include/ggml.h)).

/// A type that tensors are read from. Values of a quantised one lie in blocks along a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TensorType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

use TensorType::{Bf16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

/// Each with its number in files, its name, and how many values and bytes a block has.
const TYPES: [(TensorType, u32, &str, u64, u64); 13] = [
    (F32, 0, "F32", 1, 4),
    (F16, 1, "F16", 1, 2),
    (Bf16, 30, "BF16", 1, 2),
    (Q4_0, 2, "Q4_0", 32, 18),
    (Q4_1, 3, "Q4_1", 32, 20),
    (Q5_0, 6, "Q5_0", 32, 22),
    (Q5_1, 7, "Q5_1", 32, 24),
    (Q8_0, 8, "Q8_0", 32, 34),
    (Q2K, 10, "Q2_K", 256, 84),
    (Q3K, 11, "Q3_K", 256, 110),
    (Q4K, 12, "Q4_K", 256, 144),
    (Q5K, 13, "Q5_K", 256, 176),
    (Q6K, 14, "Q6_K", 256, 210),
];

/// Types of ggml that are not read.
const OTHERS: [(u32, &str); 21] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl TensorType {
    /// The type with this number in files.
    ///
    /// # Errors
    /// It is not read: its name, as far as it is known, with what is read instead.
    pub(super) fn from_number(number: u32) -> Result<Self, String> {
        if let Some(&(kind, ..)) = TYPES.iter().find(|row| row.1 == number) {
            return Ok(kind);
        }
        let known = OTHERS.iter().find(|other| other.0 == number);
        let name = known.map_or_else(|| format!("the type {number}"), |&(_, name)| name.to_owned());
        let supported: Vec<&str> = TYPES.iter().map(|row| row.2).collect();
        Err(format!("{name}, which is not supported; supported: {}", supported.join(", ")))
    }

    fn row(self) -> (u32, &'static str, u64, u64) {
        let row = TYPES.iter().find(|row| row.0 == self);
        row.map_or((0, "F32", 1, 4), |&(_, number, name, values, bytes)| (number, name, values, bytes))
    }

    /// Its number in files.
    pub(super) fn number(self) -> u32 {
        self.row().0
    }

    /// Its name, as llama.cpp spells it.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Values of one block.
    pub(super) fn block_values(self) -> u64 {
        self.row().2
    }

    /// Bytes of one block.
    pub(super) fn block_bytes(self) -> u64 {
        self.row().3
    }

    /// Whether values lie in blocks, and not each by itself.
    pub fn is_quantised(self) -> bool {
        self.block_values() > 1
    }

    /// Bytes of so many values; None if they are no whole number of blocks, or too many to count.
    pub(super) fn bytes_of(self, values: u64) -> Option<u64> {
        let blocks = values.checked_div(self.block_values())?;
        if !values.is_multiple_of(self.block_values()) {
            return None;
        }
        blocks.checked_mul(self.block_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_number() {
        for (kind, number, name, ..) in TYPES {
            assert_eq!(TensorType::from_number(number), Ok(kind));
            assert_eq!((kind.number(), kind.name()), (number, name));
        }
        assert!(OTHERS.iter().all(|&(number, _)| TensorType::from_number(number).is_err()));
    }

    #[test]
    fn other_types_are_refused_by_name() {
        let refused = TensorType::from_number(20).unwrap_err();
        assert!(refused.starts_with("IQ4_NL, which is not supported; supported: F32, F16, BF16, Q4_0"), "{refused}");
        assert!(TensorType::from_number(999).unwrap_err().starts_with("the type 999, which is not supported"));
    }

    #[test]
    fn bytes_are_those_of_whole_blocks() {
        assert_eq!(Q4K.bytes_of(512), Some(288));
        assert_eq!(Q4K.bytes_of(500), None);
        assert_eq!(F32.bytes_of(u64::MAX), None);
        assert_eq!(F16.bytes_of(3), Some(6));
    }
}
