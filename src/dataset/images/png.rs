//! Whether a PNG file's palette is one. Decoders trust its length.

/// Bytes of the signature, and of a chunk's head and checksum (PNG specification, third edition, section 5.3).
const SIGNATURE: usize = 8;
const CHUNK_HEAD: usize = 8;
const CHECKSUM: usize = 4;
/// Three bytes for each of at most 256 colours.
const COLOUR: usize = 3;
const MOST_COLOURS: usize = 256;

/// Whether every palette before the pixels has whole colours, and not too many. A file without one is fine.
pub(super) fn palette_is_whole(bytes: &[u8]) -> bool {
    let mut at = SIGNATURE;
    while let Some(head) = bytes.get(at..at + CHUNK_HEAD) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        match &head[4..] {
            b"IDAT" => return true,
            b"PLTE" if length == 0 || !length.is_multiple_of(COLOUR) || length > COLOUR * MOST_COLOURS => return false,
            _ => at += CHUNK_HEAD + length + CHECKSUM,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::palette_is_whole;

    fn file(chunks: &[(&[u8; 4], u32)]) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        for (name, length) in chunks {
            bytes.extend(length.to_be_bytes());
            bytes.extend(*name);
            bytes.resize(bytes.len() + *length as usize + 4, 0);
        }
        bytes
    }

    #[test]
    fn a_palette_with_a_part_of_a_colour_or_too_many_is_found() {
        for (length, whole) in [(3, true), (768, true), (0, false), (49, false), (50, false), (771, false)] {
            assert_eq!(palette_is_whole(&file(&[(b"IHDR", 13), (b"PLTE", length), (b"IDAT", 5)])), whole, "{length}");
        }
        assert!(palette_is_whole(&file(&[(b"IHDR", 13), (b"IDAT", 5), (b"PLTE", 4)])));
        assert!(palette_is_whole(b"\x89PNG"));
    }
}
