//! Whether a JPEG is all there. Decoders make up what is missing; training on grey halves is worse than an error.

const END_OF_IMAGE: u8 = 0xD9;
const TEMPORARY: u8 = 0x01;
const RESTARTS: std::ops::RangeInclusive<u8> = 0xD0..=0xD7;

/// Whether the end marker follows the scans, wherever else its bytes may stand: an EXIF thumbnail has one too, but lies
/// in a segment that is passed over as a whole.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(skipped) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xFF)) {
        at += skipped + 1;
        match bytes.get(at) {
            None => return false,
            Some(&END_OF_IMAGE) => return true,
            // Fill bytes may stand before a marker; the last of them begins it.
            Some(0xFF) => {}
            // A stuffed zero within a scan, or a marker without content.
            Some(0x00 | &TEMPORARY) => at += 1,
            Some(marker) if RESTARTS.contains(marker) => at += 1,
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(length) => at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
        }
    }
    false
}

/// Whether the image comes in several scans, which a decoder holds all of (ITU T.81, table B.1: SOF2, 6, 10 and 14).
pub(super) fn is_progressive(bytes: &[u8]) -> bool {
    const FRAMES: std::ops::RangeInclusive<u8> = 0xC0..=0xCF;
    const TABLES: [u8; 3] = [0xC4, 0xC8, 0xCC];
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = bytes.get(at..at + 4).and_then(|head| head.first_chunk()) {
        if marker == 0xFF {
            at += 1;
        } else if FRAMES.contains(&marker) && !TABLES.contains(&marker) {
            return marker & 3 == 2;
        } else {
            at += 2 + usize::from(u16::from_be_bytes([high, low]));
        }
    }
    // Whatever it is, nothing says that it is not.
    true
}

#[cfg(test)]
mod tests {
    use super::{is_complete, is_progressive};

    #[test]
    fn the_frames_marker_says_whether_there_are_several_scans() {
        let with = |marker: u8| [b"\xFF\xD8\xFF\xC4\0\x03\0\xFF\xFF".as_slice(), &[marker], b"\0\x04\0\0"].concat();
        assert!([0xC2, 0xC6].into_iter().all(|marker| is_progressive(&with(marker))));
        assert!(![0xC0, 0xC1, 0xC5].into_iter().any(|marker| is_progressive(&with(marker))));
        assert!(is_progressive(b"\xFF\xD8"));
    }

    #[test]
    fn the_end_marker_counts_only_where_it_ends_the_image() {
        let scan = b"\xFF\xDA\0\x03\0\x12\xFF\0\xFF\xD0\x34";
        let thumbnail = b"\xFF\xE1\0\x06\xFF\xD9\xFF\xD9";
        let whole = [b"\xFF\xD8".as_slice(), thumbnail, scan, b"\xFF\xFF\xD9", b"garbage"].concat();
        assert!(is_complete(&whole));
        for length in 0..whole.len() - 7 {
            assert!(!is_complete(&whole[..length]), "{length}");
        }
    }
}
