//! Images in texts: data URLs (RFC 2397) in base64 (RFC 4648), as programs write them.

use base64::DecodeError;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::MAX_IMAGE_BYTES;
use super::sniff::{ImageKind, Other};

/// Encoders leave the padding out where nothing follows.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const EXPECTED: &str = "must be a data URL, such as \"data:image/png;base64,…\"";

/// The bytes of a data URL in base64, or of base64 alone where those bytes are an image. Of a media type only counts that
/// it is an image's or any bytes'; which image, the bytes say.
///
/// # Errors
/// It is neither, or the image is too large; in words for its owner.
pub fn data_url(url: &str) -> Result<Vec<u8>, String> {
    let url = url.trim();
    if url.starts_with("http:") || url.starts_with("https:") {
        return Err(format!("{EXPECTED}; links are not followed"));
    }
    let Some((head, data)) = url.split_once(',') else { return bare(url) };
    let head = head.to_ascii_lowercase();
    let (media_type, encoding) = head.rsplit_once(';').unwrap_or((&head, ""));
    let media_type = media_type.trim_start();
    let may_be = media_type.starts_with("data:image/") || media_type.starts_with("data:application/octet-stream");
    if !may_be || encoding.trim() != "base64" {
        return Err(EXPECTED.to_owned());
    }
    decoded(data)
}

/// The bytes of a text that is no data URL, if they are an image's.
fn bare(text: &str) -> Result<Vec<u8>, String> {
    // A name of a file may well be base64; what comes of it is no image.
    match decoded(text) {
        Ok(bytes) if ImageKind::by_magic(&bytes).is_some() || Other::of(&bytes).is_some_and(|other| other.is_image) => {
            Ok(bytes)
        }
        _ => Err(format!("{EXPECTED}; names of files are not followed")),
    }
}

/// The bytes that base64 stands for, in either alphabet, with line breaks, and with or without padding.
fn decoded(data: &str) -> Result<Vec<u8>, String> {
    let mut symbols = Vec::with_capacity(data.len().min(MAX_IMAGE_BYTES / 3 * 4 + 4));
    for (at, symbol) in data.chars().enumerate() {
        match symbol {
            '-' => symbols.push(b'+'),
            '_' => symbols.push(b'/'),
            'A'..='Z' | 'a'..='z' | '0'..='9' | '+' | '/' | '=' => symbols.push(symbol as u8),
            _ if symbol.is_ascii_whitespace() => {}
            '%' => return Err("is not valid base64: it is percent-encoded as well; send it without".to_owned()),
            _ => {
                let place = format!("character {} behind the comma", at + 1);
                return Err(format!("is not valid base64: {place} is {symbol:?}"));
            }
        }
        if symbols.len() / 4 * 3 > MAX_IMAGE_BYTES {
            return Err(format!("is larger than {} MiB", MAX_IMAGE_BYTES >> 20));
        }
    }
    ENGINE.decode(&symbols).map_err(|error| {
        let why = match error {
            DecodeError::InvalidByte(..) | DecodeError::InvalidPadding => {
                "\"=\" may stand at its end only, once or twice"
            }
            DecodeError::InvalidLength(_) | DecodeError::InvalidLastSymbol { .. } => "it is cut short or damaged",
        };
        format!("is not valid base64: {why}")
    })
}

#[cfg(test)]
mod tests {
    use super::data_url;

    #[test]
    fn data_urls_are_decoded_and_everything_else_is_refused() {
        assert_eq!(data_url("data:image/png;base64,AAEC"), Ok(vec![0, 1, 2]));
        assert_eq!(data_url("DATA:IMAGE/JPEG;BASE64,AA=="), Ok(vec![0]));
        assert_eq!(data_url("data:application/octet-stream;base64,AA=="), Ok(vec![0]));
        assert_eq!(data_url(" data:image/png;charset=utf-8; base64,AA==\n"), Ok(vec![0]));
        for (url, why) in [
            ("https://example.com/a.png", "links are not followed"),
            ("AAEC", "must be a data URL"),
            ("cats/1.png", "names of files are not followed"),
            ("data:text/plain;base64,AAEC", "must be a data URL"),
            ("data:image/png,AAEC", "must be a data URL"),
            ("data:imagé/png;base64,AAAA", "must be a data URL"),
            ("data:image/png;base64,A", "not valid base64: it is cut short"),
            ("data:image/png;base64,AAEC/", "not valid base64: it is cut short"),
            ("data:image/png;base64,AB==", "not valid base64: it is cut short or damaged"),
            ("data:image/png;base64,AA=AAA", "\"=\" may stand at its end only"),
            ("data:image/png;base64,AA===", "\"=\" may stand at its end only"),
            ("data:image/png;base64,AAE%3D", "percent-encoded"),
            ("data:image/png;base64,AA\\nAA", "character 3 behind the comma is '\\\\'"),
            ("data:image/png;base64,AAÄ", "character 3 behind the comma is 'Ä'"),
        ] {
            assert!(data_url(url).unwrap_err().contains(why), "{url}: {}", data_url(url).unwrap_err());
        }
    }

    #[test]
    fn line_breaks_the_alphabet_of_urls_and_missing_padding_are_read() {
        let bytes: Vec<u8> = (0..=255).rev().collect();
        let engine = &base64::engine::general_purpose::STANDARD;
        let plain = base64::Engine::encode(engine, &bytes);
        let lines = plain.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>();
        for text in [
            lines.join("\n") + "\n",
            lines.join("\r\n\t "),
            plain.replace('+', "-").replace('/', "_"),
            plain.trim_end_matches('=').to_owned(),
            plain.trim_end_matches('=').replace('+', "-").replace('/', "_"),
        ] {
            assert_eq!(data_url(&format!("data:image/png;base64,{text}")).as_deref(), Ok(bytes.as_slice()), "{text}");
        }
    }

    #[test]
    fn base64_alone_is_read_where_it_is_an_image() {
        assert_eq!(data_url("iVBORw0K\nGgo=").as_deref(), Ok(&b"\x89PNG\r\n\x1A\n"[..]));
        assert_eq!(data_url("R0lGODlh").as_deref(), Ok(&b"GIF89a"[..]), "what is refused is refused by name");
        assert!(data_url("aGVsbG8=").is_err());
    }
}
