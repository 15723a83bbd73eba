//! The chunks of a PNG file (PNG specification, third edition, section 5.3) in front of its pixels.

use std::borrow::Cow;

/// Bytes of the signature, and of a chunk's head and checksum.
const SIGNATURE: usize = 8;
const CHUNK_HEAD: usize = 8;
const CHECKSUM: usize = 4;
/// Three bytes for each of at most 256 colours.
const COLOUR: usize = 3;
const MOST_COLOURS: usize = 256;

/// Name, start and end of each chunk before the first one of pixels, as far as they are whole.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], usize, usize)> {
    let mut at = SIGNATURE;
    std::iter::from_fn(move || {
        let head = bytes.get(at..at + CHUNK_HEAD)?;
        let (start, length) = (at, u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize);
        at += CHUNK_HEAD + length + CHECKSUM;
        (&head[4..] != b"IDAT").then_some((&head[4..], start, at))
    })
}

/// Whether every palette before the pixels has whole colours, and not too many: decoders trust its length. A file
/// without one is fine.
pub(super) fn palette_is_whole(bytes: &[u8]) -> bool {
    chunks(bytes).filter(|(name, ..)| *name == b"PLTE").all(|(_, start, end)| {
        let length = end - start - CHUNK_HEAD - CHECKSUM;
        length > 0 && length.is_multiple_of(COLOUR) && length <= COLOUR * MOST_COLOURS
    })
}

/// The file without its colour profiles, which are not applied: decoders unpack them, and half a megabyte may unpack to
/// five hundred.
pub(super) fn without_profiles(bytes: &[u8]) -> Cow<'_, [u8]> {
    let profiles = || chunks(bytes).filter(|&(name, _, end)| name == b"iCCP" && end <= bytes.len());
    if profiles().next().is_none() {
        return Cow::Borrowed(bytes);
    }
    let (mut kept, mut at) = (Vec::with_capacity(bytes.len()), 0);
    for (_, start, end) in profiles() {
        kept.extend_from_slice(&bytes[at..start]);
        at = end;
    }
    kept.extend_from_slice(&bytes[at..]);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{palette_is_whole, without_profiles};

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
    #[test]
    fn profiles_are_left_out_and_nothing_else_is() {
        let without = file(&[(b"IHDR", 13), (b"gAMA", 4), (b"IDAT", 5), (b"iCCP", 9)]);
        assert!(matches!(without_profiles(&without), Cow::Borrowed(_)));
        let with = file(&[(b"IHDR", 13), (b"iCCP", 99), (b"gAMA", 4), (b"iCCP", 0), (b"IDAT", 5), (b"iCCP", 9)]);
        assert_eq!(without_profiles(&with), without);
        let cut = &with[..50];
        assert_eq!(without_profiles(cut), cut);
    }
}
