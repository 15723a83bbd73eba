//! Weights with values that no model can compute with. What an import is told is all that is known of them: they are read
//! here, once, and a job would only tell that its outputs are not finite.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::check::LONGEST_HEADER;
use super::folder::{Folder, open};
use crate::domain::error::{Error, Result};

/// Bytes that are read at a time; a multiple of every type's size.
const CHUNK: usize = 1 << 20;

/// How a number of bytes is a float: those bits of the exponent which are all set of what is infinite or not a number
/// (IEEE 754), and those of the fraction.
#[derive(Clone, Copy)]
struct Float {
    bytes: usize,
    exponent: u64,
    fraction: u64,
}

/// The types of floats that the format has for weights.
const FLOATS: [(&str, Float); 4] = [
    ("F64", Float { bytes: 8, exponent: 0x7FF << 52, fraction: (1 << 52) - 1 }),
    ("F32", Float { bytes: 4, exponent: 0xFF << 23, fraction: (1 << 23) - 1 }),
    ("F16", Float { bytes: 2, exponent: 0x1F << 10, fraction: (1 << 10) - 1 }),
    ("BF16", Float { bytes: 2, exponent: 0xFF << 7, fraction: (1 << 7) - 1 }),
];

/// A tensor in the header of a safetensors file.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    data_offsets: [u64; 2],
}

/// Reads the values of all weights in the folder, and says what is wrong with the first tensor that has some which are
/// infinite or not a number; None if all are finite.
///
/// # Errors
/// A file cannot be read.
pub(super) async fn spoilt(folder: &Folder) -> Result<Option<String>> {
    let is_whole = folder.has("model.safetensors");
    let is_read = |name: &str| if is_whole { name == "model.safetensors" } else { name.ends_with(".safetensors") };
    let files: Vec<(String, PathBuf)> = folder.taken.iter().filter(|(name, _)| is_read(name)).cloned().collect();
    let look = move || {
        for (name, path) in &files {
            let found = spoilt_in(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
            if let Some((tensor, what)) = found {
                return Ok(Some(format!(
                    "the tensor {tensor} in {name} has a value that is {what}, so that nothing can be computed with it; \
                     fetch the model again, or save it as it was before"
                )));
            }
        }
        Ok(None)
    };
    let looked: std::result::Result<_, String> = tokio::task::spawn_blocking(look).await.map_err(Error::internal)?;
    looked.map_err(|why| Error::invalid("directory", why))
}

/// The header of a safetensors file: the length that it says it has in bytes, and its JSON.
///
/// # Errors
/// The file cannot be read.
pub(super) fn header(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut header = Vec::new();
    file.take(length.min(LONGEST_HEADER)).read_to_end(&mut header)?;
    Ok((length, header))
}

/// The first tensor of a file that has such a value, and which.
fn spoilt_in(path: &Path) -> io::Result<Option<(String, &'static str)>> {
    let mut file = open(path)?;
    let (length, header) = header(&mut file)?;
    let entries: BTreeMap<String, &RawValue> = serde_json::from_slice(&header)?;
    let mut buffer = vec![0; CHUNK];
    for (name, entry) in entries.into_iter().filter(|(name, _)| name != "__metadata__") {
        let Entry { dtype, data_offsets: [start, end] } = serde_json::from_str(entry.get())?;
        if let Some((_, float)) = FLOATS.iter().find(|(known, _)| *known == dtype) {
            file.seek(SeekFrom::Start(8 + length + start))?;
            if let Some(what) = float.spoilt(&file, end.saturating_sub(start), &mut buffer)? {
                return Ok(Some((name, what)));
            }
        }
    }
    Ok(None)
}

impl Float {
    /// What the first of the next `left` bytes of a file is that is not finite.
    fn spoilt(self, mut file: &File, mut left: u64, buffer: &mut [u8]) -> io::Result<Option<&'static str>> {
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let chunk = &mut buffer[..size];
            file.read_exact(chunk)?;
            if self.has_spoilt(chunk) {
                let odd = chunk.chunks_exact(self.bytes).map(value).find(|bits| bits & self.exponent == self.exponent);
                let is_infinite = odd.is_some_and(|bits| bits & self.fraction == 0);
                return Ok(Some(if is_infinite { "infinite" } else { "not a number (NaN)" }));
            }
            left -= size as u64;
        }
        Ok(None)
    }

    /// Whether one of the values is not finite. All are looked at, whatever the first ones are: that is as fast as memory.
    fn has_spoilt(self, chunk: &[u8]) -> bool {
        let exponent = self.exponent;
        match self.bytes {
            2 => any::<2>(chunk, |bytes| u64::from(u16::from_le_bytes(bytes)) & exponent == exponent),
            4 => any::<4>(chunk, |bytes| u64::from(u32::from_le_bytes(bytes)) & exponent == exponent),
            _ => any::<8>(chunk, |bytes| u64::from_le_bytes(bytes) & exponent == exponent),
        }
    }
}

fn any<const N: usize>(chunk: &[u8], is: impl Fn([u8; N]) -> bool) -> bool {
    let (values, _) = chunk.as_chunks::<N>();
    values.iter().fold(false, |any, bytes| any | is(*bytes))
}

/// Up to eight bytes as a number.
fn value(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{CHUNK, spoilt_in};

    /// What is found in a file of one tensor of this type between two that are whole.
    fn found(dtype: &str, values: &[u8]) -> Option<(String, &'static str)> {
        let end = values.len();
        let header = format!(
            "{{\"__metadata__\":{{\"format\":\"pt\"}},\"a\":{{\"dtype\":\"{dtype}\",\"shape\":[1],\"data_offsets\":[0,{end}]}},\
             \"b\":{{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[{end},{}]}}}}",
            end + 8
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), values, &[0xFF; 8]].concat();
        fs::write(file.path(), bytes).unwrap();
        spoilt_in(file.path()).unwrap()
    }

    #[test]
    fn every_type_of_floats_tells_its_nan_and_its_infinity() {
        let (nan, infinite) = ("not a number (NaN)", "infinite");
        let rows: [(&str, Vec<u8>, Option<&'static str>); 11] = [
            ("F64", f64::NAN.to_le_bytes().to_vec(), Some(nan)),
            ("F64", f64::NEG_INFINITY.to_le_bytes().to_vec(), Some(infinite)),
            ("F64", f64::MAX.to_le_bytes().to_vec(), None),
            ("F32", f32::NAN.to_le_bytes().to_vec(), Some(nan)),
            ("F32", f32::INFINITY.to_le_bytes().to_vec(), Some(infinite)),
            ("F32", f32::MIN.to_le_bytes().to_vec(), None),
            ("F16", vec![0x01, 0x7C], Some(nan)),
            ("F16", vec![0x00, 0xFC], Some(infinite)),
            ("F16", vec![0xFF, 0x7B], None),
            ("BF16", vec![0x80, 0x7F], Some(infinite)),
            ("I32", vec![0xFF; 4], None),
        ];
        for (dtype, values, what) in rows {
            assert_eq!(found(dtype, &values).map(|(_, what)| what), what, "{dtype} {values:?}");
        }
    }

    #[test]
    fn one_value_among_millions_is_found_wherever_it_is() {
        let count = CHUNK / 2 + 3;
        for place in [0, 1, CHUNK / 4 - 1, CHUNK / 4, count - 1] {
            let mut values = vec![1.5_f32; count];
            values[place] = f32::NAN;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(found("F32", &bytes), Some(("a".to_owned(), "not a number (NaN)")), "{place}");
        }
        assert_eq!(found("F32", &vec![0; 4 * count]), None);
    }
}
