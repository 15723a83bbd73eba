//! Numbers and strings of a GGUF file, read one after another from bytes that may end anywhere.

/// A place in the bytes of a file. Nothing is read beyond their end.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    place: usize,
    /// The part of the file that is read, as errors call it.
    part: &'static str,
}

impl<'a> Cursor<'a> {
    /// At `place`, which may lie beyond the end.
    pub(super) fn new(bytes: &'a [u8], place: usize, part: &'static str) -> Self {
        Self { bytes, place, part }
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Calls the rest of the file another part.
    pub(super) fn enter(&mut self, part: &'static str) {
        self.part = part;
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let ends = || format!("the GGUF file ends within its {}; fetch it again", self.part);
        let end = usize::try_from(count).ok().and_then(|count| self.place.checked_add(count)).ok_or_else(ends)?;
        let taken = self.bytes.get(self.place..end).ok_or_else(ends)?;
        self.place = end;
        Ok(taken)
    }

    pub(super) fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], String> {
        let mut array = [0; SIZE];
        array.copy_from_slice(self.take(SIZE as u64)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string of at most `most` bytes; `what` is what errors call it.
    pub(super) fn string(&mut self, most: u64, what: &str) -> Result<&'a str, String> {
        let length = self.u64()?;
        if length > most {
            return Err(format!("{what} of the GGUF file has {length} bytes; at most {most} are read"));
        }
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| format!("{what} of the GGUF file is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_little_endian() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], 0, "metadata");
        assert_eq!(cursor.u32(), Ok(1));
        assert_eq!(cursor.u64(), Ok(2));
        assert_eq!(cursor.place(), 12);
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let ends = "the GGUF file ends within its metadata; fetch it again";
        let mut cursor = Cursor::new(&[0; 7], 0, "metadata");
        assert_eq!(cursor.u64().unwrap_err(), ends);
        assert_eq!(cursor.take(u64::MAX).unwrap_err(), ends);
        assert_eq!(cursor.take(7).unwrap(), [0; 7]);
        assert_eq!(Cursor::new(&[0; 7], 9, "metadata").take(0).unwrap_err(), ends);
    }

    #[test]
    fn strings_are_bounded_and_utf_8() {
        let bytes = [2, 0, 0, 0, 0, 0, 0, 0, 0xC3, 0xA9];
        assert_eq!(Cursor::new(&bytes, 0, "metadata").string(2, "a key"), Ok("é"));
        let long = Cursor::new(&bytes, 0, "metadata").string(1, "a key").unwrap_err();
        assert_eq!(long, "a key of the GGUF file has 2 bytes; at most 1 are read");
        let broken = [1, 0, 0, 0, 0, 0, 0, 0, 0xC3];
        let broken = Cursor::new(&broken, 0, "metadata").string(2, "a key").unwrap_err();
        assert_eq!(broken, "a key of the GGUF file is not UTF-8");
    }
}
