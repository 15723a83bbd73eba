//! The bytes of a file of lines, unpacked where it is compressed.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::domain::report::Compression;

const BUFFER: usize = 256 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How much a compressed file may unpack to, as a multiple of its size; and what any may. Texts come to 3 to 20 times.
const MOST_RATIO: u64 = 200;
const ALWAYS_ALLOWED: u64 = 1 << 30;

/// Zstandard's window, as a power of two: 32 MiB. Its levels up to 19 need 8.
const WINDOW_LOG: u32 = 25;

/// The bytes of a file, behind its UTF-8 byte order mark if it has one.
pub(super) type Source = Box<dyn BufRead>;

/// How a file is compressed, by its first bytes.
pub(super) fn compression(head: &[u8]) -> Option<Compression> {
    match head {
        [0x1F, 0x8B, ..] => Some(Compression::Gzip),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Compression::Zstd),
        _ => None,
    }
}

/// Opens a file of lines. What is wrong with compressed bytes is an error that [`damage`] knows.
///
/// # Errors
/// The file cannot be read.
pub(super) fn open(path: &Path) -> io::Result<Source> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let mut source: Source = match compression(file.fill_buf()?) {
        None => Box::new(file),
        Some(compression) => {
            let allowed = file.get_ref().metadata()?.len().saturating_mul(MOST_RATIO).max(ALWAYS_ALLOWED);
            let unpacked: Box<dyn Read> = match compression {
                Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
                Compression::Zstd => {
                    let mut decoder = zstd::Decoder::with_buffer(file)?;
                    decoder.window_log_max(WINDOW_LOG)?;
                    Box::new(decoder)
                }
            };
            let mut inner = BufReader::with_capacity(BUFFER, Unpacked { inner: unpacked, left: allowed, allowed });
            if inner.fill_buf().is_ok_and(|head| self::compression(head).is_some()) {
                Box::new(BufReader::new(Twice))
            } else {
                Box::new(inner)
            }
        }
    };
    if source.fill_buf().is_ok_and(|head| head.starts_with(BYTE_ORDER_MARK)) {
        source.consume(BYTE_ORDER_MARK.len());
    }
    Ok(source)
}

/// What is wrong with the bytes of a compressed file, where that is why reading failed.
pub(super) fn damage(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<Damage>().map(ToString::to_string)
}

#[derive(Debug)]
struct Damage(String);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damage {}

/// What is compressed and compressed once more.
struct Twice;

impl Read for Twice {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let what = "is compressed twice; unpack it once, and upload it again".to_owned();
        Err(io::Error::new(io::ErrorKind::InvalidData, Damage(what)))
    }
}

/// Unpacked bytes: no more than are allowed, and with a word for what is damaged.
struct Unpacked {
    inner: Box<dyn Read>,
    left: u64,
    allowed: u64,
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, Damage(what));
        let read = self.inner.read(buffer).map_err(|error| {
            // Errors of the disk have the system's number, those of a decoder have none.
            if error.raw_os_error().is_some() {
                return error;
            }
            damaged("the compressed data is damaged or ends early; compress and upload it again".to_owned())
        })?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            damaged(format!("unpacks to more than {} MiB; upload it unpacked, in parts", self.allowed >> 20))
        })?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::{ALWAYS_ALLOWED, damage, open};

    fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut all = Vec::new();
        match open(file.path()).unwrap().read_to_end(&mut all) {
            Ok(_) => Ok(all),
            Err(error) => Err(damage(&error).unwrap()),
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_and_plain_files_have_the_same_bytes_without_their_mark() {
        let text = b"\xEF\xBB\xBFtext,label\na,b\n";
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        for bytes in [text.to_vec(), gzip(text), [gzip(&text[..9]), gzip(&text[9..])].concat(), zstd] {
            assert_eq!(read(&bytes).unwrap(), &text[3..]);
        }
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn damage_is_told_and_bombs_are_stopped() {
        let packed = gzip(&b"text,label\n".repeat(1000));
        assert!(read(&packed[..packed.len() / 2]).unwrap_err().contains("ends early"));
        assert!(read(&gzip(&packed)).unwrap_err().contains("compressed twice"));
        let mut flipped = zstd::encode_all(&b"text,label\n".repeat(1000)[..], 3).unwrap();
        flipped[9] ^= 0xFF;
        assert!(read(&flipped).unwrap_err().contains("damaged"));
        let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..=ALWAYS_ALLOWED >> 20 {
            bomb.write_all(&zeros).unwrap();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bomb.finish().unwrap()).unwrap();
        let error = std::io::copy(&mut open(file.path()).unwrap(), &mut std::io::sink()).unwrap_err();
        assert!(damage(&error).unwrap().contains("more than 1024 MiB"));
    }
}
