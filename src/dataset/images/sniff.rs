//! What an image file is, by its first bytes: names and media types lie.

/// The formats that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    Jpeg,
    Png,
    WebP,
}

impl ImageKind {
    /// The kind of a file.
    ///
    /// # Errors
    /// What the file is instead, in words.
    pub fn of(bytes: &[u8]) -> Result<Self, String> {
        const SUPPORTED: &str = "supported: JPEG, PNG, WebP";
        if bytes.is_empty() {
            return Err("is empty".to_owned());
        }
        Self::by_magic(bytes).ok_or_else(|| match Other::of(bytes) {
            Some(other) => format!("is {}; {SUPPORTED}", other.name),
            None => format!("is not an image that can be read; {SUPPORTED}"),
        })
    }

    /// The kind of a file that begins with these bytes, if it is one that is decoded.
    pub(super) fn by_magic(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"\xFF\xD8\xFF") {
            return Some(Self::Jpeg);
        }
        if head.starts_with(b"\x89PNG\r\n\x1A\n") {
            return Some(Self::Png);
        }
        (head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP")).then_some(Self::WebP)
    }

    /// The name as reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::WebP => "webp",
        }
    }

    pub(super) fn format(self) -> image::ImageFormat {
        match self {
            Self::Jpeg => image::ImageFormat::Jpeg,
            Self::Png => image::ImageFormat::Png,
            Self::WebP => image::ImageFormat::WebP,
        }
    }
}

/// How many bytes of a file tell what it is.
pub(super) const HEAD_BYTES: usize = 1024;

/// Endings of images, read ones and others: who calls a file so means an image.
const IMAGE_ENDINGS: [&str; 31] = [
    "apng", "arw", "avif", "bmp", "cr2", "cr3", "dcm", "dib", "dng", "exr", "gif", "heic", "heif", "ico", "j2k",
    "jfif", "jp2", "jpe", "jpeg", "jpg", "jxl", "nef", "pbm", "pgm", "png", "ppm", "psd", "tga", "tif", "tiff", "webp",
];

/// A format that people upload and that is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Other {
    /// In words, behind "is".
    pub(super) name: &'static str,
    pub(super) is_image: bool,
}

impl Other {
    const fn image(name: &'static str) -> Self {
        Self { name, is_image: true }
    }

    const fn no_image(name: &'static str) -> Self {
        Self { name, is_image: false }
    }

    /// The format of a file that begins with these bytes.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let known = MAGIC.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, other)| other);
        known.or_else(|| of_structure(head)).or_else(|| of_text(head))
    }
}

const MAGIC: [(&[u8], Other); 24] = [
    (b"GIF87a", Other::image("a GIF image")),
    (b"GIF89a", Other::image("a GIF image")),
    (b"II*\0", Other::image("a TIFF image")),
    (b"MM\0*", Other::image("a TIFF image")),
    (b"II+\0", Other::image("a TIFF image")),
    (b"MM\0+", Other::image("a TIFF image")),
    (b"8BPS", Other::image("a Photoshop document")),
    (b"\0\0\x01\0", Other::image("an icon")),
    (b"\xFF\x0A", Other::image("a JPEG XL image")),
    (b"\0\0\0\x0CJXL ", Other::image("a JPEG XL image")),
    (b"\0\0\0\x0CjP  ", Other::image("a JPEG 2000 image")),
    (b"v/1\x01", Other::image("an OpenEXR image")),
    (b"%PDF", Other::no_image("a PDF document")),
    (b"PK\x03\x04", Other::no_image("a zip archive")),
    (b"Rar!\x1A\x07", Other::no_image("a RAR archive")),
    (b"7z\xBC\xAF\x27\x1C", Other::no_image("a 7z archive")),
    (b"\x1F\x8B", Other::no_image("compressed with gzip")),
    (b"BZh", Other::no_image("compressed with bzip2")),
    (b"\xFD7zXZ\0", Other::no_image("compressed with xz")),
    (b"\x28\xB5\x2F\xFD", Other::no_image("compressed with zstd")),
    (b"PAR1", Other::no_image("a Parquet file")),
    (b"\x93NUMPY", Other::no_image("a NumPy array")),
    (b"\x1A\x45\xDF\xA3", Other::no_image("a video")),
    (b"version https://git-lfs", Other::no_image("a pointer of Git LFS, not the file itself")),
];

/// Formats that say what they are further on than at their first byte.
fn of_structure(head: &[u8]) -> Option<Other> {
    if head.get(4..8) == Some(b"ftyp") {
        // The major brand of an ISO media file (ISO/IEC 14496-12).
        return Some(match head.get(8..12) {
            Some(b"avif" | b"avis") => Other::image("an AVIF image"),
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => {
                Other::image("a HEIC image")
            }
            _ => Other::no_image("a video"),
        });
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(Other::no_image("a tar archive"));
    }
    if head.get(128..132) == Some(b"DICM") {
        return Some(Other::image("a DICOM image"));
    }
    // Texts begin with "BM", too: behind it stand the file's length, two fields of zeros, and the length of a header.
    let is_bmp = head.starts_with(b"BM") && head.get(6..10) == Some(&[0; 4]) && head.get(15..18) == Some(&[0; 3]);
    if is_bmp {
        return Some(Other::image("a BMP image"));
    }
    // Netpbm: "P6", white space, the width.
    let is_netpbm = matches!(head, [b'P', b'1'..=b'7', b'\n' | b'\r', b'0'..=b'9' | b'#' | b'W', ..]);
    is_netpbm.then_some(Other::image("a Netpbm image"))
}

fn of_text(head: &[u8]) -> Option<Other> {
    let text = String::from_utf8_lossy(&head[..head.len().min(HEAD_BYTES)]);
    let text = text.trim_start_matches('\u{FEFF}').trim_start();
    let starts = |start: &str| text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start));
    if starts("<!doctype html") || starts("<html") {
        return Some(Other::no_image("an HTML page"));
    }
    let is_svg = text.starts_with("<svg") || (text.starts_with('<') && text.contains("<svg"));
    is_svg.then_some(Other::image("an SVG drawing"))
}

/// Whether a file is meant as an image, by what its name ends in.
pub(super) fn is_image_ending(ending: &str) -> bool {
    IMAGE_ENDINGS.contains(&ending)
}

/// What a file is by its first bytes, behind "is"; None where they say nothing.
pub(super) fn name_of(head: &[u8]) -> Option<&'static str> {
    match ImageKind::by_magic(head) {
        Some(kind) => Some(match kind {
            ImageKind::Jpeg => "a JPEG image",
            ImageKind::Png => "a PNG image",
            ImageKind::WebP => "a WebP image",
        }),
        None => Other::of(head).map(|other| other.name),
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageKind, Other, name_of};

    #[test]
    fn texts_are_no_images_whatever_they_begin_with() {
        for text in
            [&b"BMW,3,blue\n"[..], b"P6 is a processor", b"P5\nis one, too", b"<cats><dog/></cats>", b"II*", b"v/1"]
        {
            assert_eq!(Other::of(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_file_is_called_what_its_first_bytes_say() {
        let mut bmp = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
        bmp.resize(70, 9);
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (head, name) in [
            (bmp.as_slice(), "a BMP image"),
            (&tar, "a tar archive"),
            (b"P6\n17 13\n255\n", "a Netpbm image"),
            (b"Rar!\x1A\x07\x01\0", "a RAR archive"),
            (b"<!DOCTYPE html><html><svg/></html>", "an HTML page"),
            (b"<?xml version=\"1.0\"?><svg/>", "an SVG drawing"),
            (b"\xFF\xD8\xFF\xE0", "a JPEG image"),
        ] {
            assert_eq!(name_of(head), Some(name));
        }
        assert_eq!(ImageKind::of(b""), Err("is empty".to_owned()));
    }
}
