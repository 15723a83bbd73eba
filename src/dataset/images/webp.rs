//! Whether the parts of a WebP file lie within it. Decoders make room for what a part says that it holds.

/// Bytes of a RIFF file's head, and of a chunk's (RFC 9649, section 2.3).
const FILE_HEAD: usize = 12;
const CHUNK_HEAD: usize = 8;

/// Whether every chunk at the top of the file ends within it.
pub(super) fn chunks_fit(bytes: &[u8]) -> bool {
    let mut at = FILE_HEAD;
    while let Some(head) = bytes.get(at..at + CHUNK_HEAD) {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let end = at + CHUNK_HEAD + size;
        if end > bytes.len() {
            return false;
        }
        // Chunks start at even places.
        at = end + size % 2;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::chunks_fit;

    fn file(chunks: &[(&[u8; 4], u32, usize)]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WEBP".to_vec();
        for (name, claimed, held) in chunks {
            bytes.extend(*name);
            bytes.extend(claimed.to_le_bytes());
            bytes.resize(bytes.len() + held, 0);
        }
        bytes
    }

    #[test]
    fn a_chunk_that_claims_more_than_the_file_holds_is_found() {
        assert!(chunks_fit(&file(&[(b"VP8X", 10, 10), (b"EXIF", 3, 4), (b"XMP ", 5, 5)])));
        assert!(!chunks_fit(&file(&[(b"VP8X", 10, 10), (b"EXIF", 1_291_865_370, 20)])));
        assert!(!chunks_fit(&file(&[(b"VP8L", u32::MAX, 8)])));
        assert!(chunks_fit(b"RIFF"));
    }
}
