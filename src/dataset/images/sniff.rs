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
        if bytes.starts_with(b"\xFF\xD8\xFF") {
            return Ok(Self::Jpeg);
        }
        if bytes.starts_with(b"\x89PNG\r\n\x1A\n") {
            return Ok(Self::Png);
        }
        if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            return Ok(Self::WebP);
        }
        Err(match other(bytes) {
            Some(name) => format!("is {name}; {SUPPORTED}"),
            None => format!("is not an image; {SUPPORTED}"),
        })
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

/// The formats that people upload and that are not decoded, by name.
fn other(bytes: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 13] = [
        (b"GIF87a", "a GIF image"),
        (b"GIF89a", "a GIF image"),
        (b"BM", "a BMP image"),
        (b"II*\0", "a TIFF image"),
        (b"MM\0*", "a TIFF image"),
        (b"%PDF", "a PDF document"),
        (b"8BPS", "a Photoshop document"),
        (b"\0\0\x01\0", "an icon"),
        (b"\xFF\x0A", "a JPEG XL image"),
        (b"\0\0\0\x0CJXL ", "a JPEG XL image"),
        (b"\0\0\0\x0CjP  ", "a JPEG 2000 image"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1F\x8B", "compressed with gzip"),
    ];
    if let Some((_, name)) = known.into_iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(name);
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        // The major brand of an ISO media file (ISO/IEC 14496-12).
        return Some(match bytes.get(8..12) {
            Some(b"avif" | b"avis") => "an AVIF image",
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => "a HEIC image",
            _ => "a video",
        });
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]);
    let text = head.trim_start_matches('\u{FEFF}').trim_start();
    (text.starts_with("<svg") || (text.starts_with('<') && text.contains("<svg"))).then_some("an SVG drawing")
}
