//! Just enough of Thrift's compact protocol to look at a Parquet file before it is trusted: numbers, and skipping.
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

/// What is said of bytes that are no Thrift.
pub(super) const DAMAGED: &str = "the Parquet file is damaged";

/// How deep structures may lie in each other.
const DEEPEST: u32 = 32;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
pub(super) const STRUCT: u8 = 12;

/// Reads from bytes.
pub(super) struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Compact<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// An integer of 16 to 64 bits.
    pub(super) fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Walks over the fields of a structure: `field` reads the value of each that it wants, and says whether it did.
    pub(super) fn fields(&mut self, mut field: impl FnMut(&mut Self, i64, u8) -> Option<bool>) -> Option<()> {
        let mut id = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            id = if head >> 4 == 0 { self.integer()? } else { id + i64::from(head >> 4) };
            let kind = head & 0x0F;
            if !field(self, id, kind)? {
                self.skip(kind, DEEPEST)?;
            }
        }
    }

    /// The type and number of the items of a list.
    pub(super) fn list(&mut self) -> Option<(u8, u64)> {
        let head = self.byte()?;
        let count = if head >> 4 == 0x0F { self.varint()? } else { u64::from(head >> 4) };
        Some((head & 0x0F, count))
    }

    fn advance(&mut self, count: u64) -> Option<()> {
        let at = self.at.checked_add(usize::try_from(count).ok()?)?;
        self.at = (at <= self.bytes.len()).then_some(at)?;
        Some(())
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        let inner = depth.checked_sub(1)?;
        match kind {
            TRUE | FALSE => Some(()),
            BYTE => self.advance(1),
            4..=6 => self.varint().map(drop),
            DOUBLE => self.advance(8),
            BINARY => {
                let length = self.varint()?;
                self.advance(length)
            }
            LIST | SET => {
                let (kind, count) = self.list()?;
                self.skip_items(&[kind], count, inner)
            }
            MAP => match self.varint()? {
                0 => Some(()),
                count => {
                    let kinds = self.byte()?;
                    self.skip_items(&[kinds >> 4, kinds & 0x0F], count, inner)
                }
            },
            STRUCT => loop {
                let head = self.byte()?;
                if head == 0 {
                    return Some(());
                }
                if head >> 4 == 0 {
                    self.varint()?;
                }
                self.skip(head & 0x0F, inner)?;
            },
            _ => None,
        }
    }

    fn skip_items(&mut self, kinds: &[u8], count: u64, depth: u32) -> Option<()> {
        for _ in 0..count {
            for &kind in kinds {
                // In a list a truth value has a byte of its own.
                if matches!(kind, TRUE | FALSE) { self.advance(1)? } else { self.skip(kind, depth)? }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Compact, LIST, STRUCT};

    #[test]
    fn fields_are_read_and_everything_else_is_skipped() {
        // 1: i32 = -3; 2: "ab"; 3: [true, false]; 4: {1: i64 = 300}; 20: i32 = 7.
        let bytes = [0x15, 0x05, 0x18, 2, b'a', b'b', 0x19, 0x21, 1, 2, 0x1C, 0x16, 0xD8, 0x04, 0, 0x05, 40, 14, 0, 99];
        let (mut found, mut compact) = (Vec::new(), Compact::new(&bytes));
        compact
            .fields(|compact, id, kind| {
                let wanted = id == 1 || id == 20;
                if wanted {
                    found.push((id, compact.integer()?));
                }
                assert_eq!((id == 3, id == 4), (kind == LIST, kind == STRUCT));
                Some(wanted)
            })
            .unwrap();
        assert_eq!((found, compact.at()), (vec![(1, -3), (20, 7)], bytes.len() - 1));
    }

    #[test]
    fn what_ends_early_or_lies_too_deep_is_refused() {
        let none = |bytes: &[u8]| Compact::new(bytes).fields(|_, _, _| Some(false)).is_none();
        assert!(none(&[0x15]) && none(&[0x18, 200, 1]) && none(&[0x1D, 0]) && none(&[0x15, 0x80]));
        assert!(none(&[0x1C; 10_000]) && none(&[0x19, 0xF1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]));
    }
}
